"""Which atoms of a residue with its caps are made one after the other."""

from __future__ import annotations

import pytest
from residue_flows import capped

from timewarp_openmm.molecule.capped_residues import capped_residue_parts, shared_atoms
from timewarp_openmm.molecule.graph import Molecule, molecule_from_topology


def molecule_of(residue: str) -> Molecule:
    return molecule_from_topology(capped(residue).topology)


def named(molecule: Molecule, atoms: tuple[int, ...] | list[int]) -> set[str]:
    return {f"{molecule.residue_names[i]}:{molecule.atom_names[i]}" for i in atoms}


@pytest.mark.parametrize(
    ("residue", "start", "has", "methyl"),
    [
        ("GLY", {"ACE:CH3", "ACE:C", "ACE:O", "GLY:N"}, {"GLY:C", "GLY:O", "NME:N"}, 5),
        ("CGLY", {"ACE:CH3", "ACE:C", "ACE:O", "GLY:N"}, {"GLY:C", "GLY:O", "GLY:OXT"}, 0),
        ("NGLY", {"GLY:CA", "GLY:C", "GLY:O", "NME:N"}, {"GLY:N", "GLY:H3", "GLY:HA2"}, 5),
    ],
)
def test_each_atom_is_made_once(residue: str, start: set[str], has: set[str], methyl: int) -> None:
    molecule = molecule_of(residue)
    parts = capped_residue_parts(molecule)
    assert {n for n in named(molecule, parts.start) if not n.startswith("ACE:H")} == start
    assert has <= named(molecule, parts.residue)
    assert len(parts.methyl) == methyl
    atoms = [*parts.start, *parts.residue, *parts.methyl]
    assert sorted(atoms) == list(range(molecule.num_atoms))
    assert [*parts.later] == [part for part in (parts.residue, parts.methyl) if part]


def test_what_a_first_residue_shares_with_a_chain_ends_with_the_next_nitrogen() -> None:
    molecule = molecule_of("NGLY")
    shared = named(molecule, shared_atoms(molecule, is_first=True, is_last=False))
    assert {name for name in shared if name.startswith("NME")} == {"NME:N"}
    assert sum(name.startswith("GLY") for name in shared) == 9
