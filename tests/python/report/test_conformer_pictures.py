"""The page of an ensemble: its conformers drawn as they lie, with populations."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from molecules import from_rdkit
from rdkit import Chem
from rdkit.Chem import AllChem, rdMolTransforms

from timewarp_openmm.ensemble.conformers import with_positions
from timewarp_openmm.ensemble.output import Row
from timewarp_openmm.molecule.bonding.by_orders import to_rdkit
from timewarp_openmm.report.conformers import (
    ConformerSet,
    assess_conformers,
    without_carbon_hydrogens,
)
from timewarp_openmm.report.page import write_report

SMILES = "C[C@H](O)c1ccccc1N"
COUNT = 14


def row(number: int) -> Row:
    error = math.nan if number == COUNT else 0.01
    return Row(number, 1 / COUNT, 0.02, float(number - 1), error, 0.5 * number, 10, (60.0, -60.0))


@pytest.fixture(scope="module")
def conformers() -> ConformerSet:
    return conformers_of(SMILES, COUNT)


def conformers_of(smiles: str, count: int) -> ConformerSet:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMultipleConfs(mol, count, randomSeed=7)
    positions = np.stack([c.GetPositions() for c in mol.GetConformers()]) / 10
    molecule = from_rdkit(mol, orders=True)
    rows = [row(k + 1) for k in range(count)]
    return ConformerSet(molecule, to_rdkit(molecule), rows, positions, ["a", "b"])


def test_conformers_lie_on_the_first_one_and_keep_their_chirality(conformers: ConformerSet) -> None:
    laid = conformers.superposed
    heavy = [atom.GetIdx() for atom in conformers.mol.GetAtoms() if atom.GetAtomicNum() > 1]
    spread = laid[0][heavy].std(0)
    assert spread[0] > spread[1] > spread[2]
    assert np.allclose(laid[:, heavy].mean(1), 0.0, atol=1e-6)
    for before, after in zip(conformers.positions, laid, strict=True):
        assert np.allclose(_distances(before), _distances(after), atol=1e-6)
        placed = with_positions(conformers.mol, after)
        Chem.AssignStereochemistryFrom3D(placed)
        centres = Chem.FindMolChiralCenters(placed, useLegacyImplementation=False)
        assert centres == [(1, "S")]


def _distances(positions: np.ndarray) -> np.ndarray:
    return np.linalg.norm(positions[:, None] - positions[None], axis=-1)


def test_hydrogens_on_carbon_are_left_out_and_bonds_stay_where_they_are(
    conformers: ConformerSet,
) -> None:
    mol = with_positions(conformers.mol, conformers.positions[0])
    bare = without_carbon_hydrogens(mol)
    hydrogens = [atom for atom in bare.GetAtoms() if atom.GetAtomicNum() == 1]
    assert sorted(h.GetNeighbors()[0].GetSymbol() for h in hydrogens) == ["N", "N", "O"]
    assert bare.GetNumAtoms() == 10 + 3
    whole, part = mol.GetConformer(), bare.GetConformer()
    assert rdMolTransforms.GetBondLength(part, 0, 1) == pytest.approx(
        rdMolTransforms.GetBondLength(whole, 0, 1)
    )
    assert not any(bond.GetIsAromatic() for bond in bare.GetBonds())


def test_the_page_has_pictures_numbers_and_the_warnings(
    conformers: ConformerSet, tmp_path: Path
) -> None:
    findings, views = assess_conformers("Conformers of it", conformers, ["not to be trusted"])
    (texts,) = views.values()
    assert len(texts) == COUNT
    assert len({text.count("ATOM") for text in texts}) == 1
    page = write_report(findings, views, tmp_path, "a test").read_text()
    assert "not to be trusted" in page
    assert "The 12 most populated of 14 conformers" in page
    assert f"<td>{COUNT}</td>" in page
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["conformers"]["conformer 2"]["free_energy"] == 1.0
    assert numbers["conformers"][f"conformer {COUNT}"]["free_energy_error"] is None

    image = imread(tmp_path / "figures" / "conformers.png")[..., :3]
    # Three rows of four, each with something drawn in it, the oxygen in red.
    panels = [p for rows in np.array_split(image, 3) for p in np.array_split(rows, 4, axis=1)]
    assert all((panel.min(-1) < 0.5).mean() > 0.002 for panel in panels)
    red = [(panel[..., 0] > 0.8) & (panel[..., 1:].max(-1) < 0.3) for panel in panels]
    assert all(r.any() for r in red)
    assert (tmp_path / "figures" / "populations.png").is_file()


@pytest.mark.parametrize("smiles", [SMILES, "CO", "OO"])
def test_one_conformer_of_any_molecule_is_drawn(smiles: str, tmp_path: Path) -> None:
    """Two heavy atoms span no plane; the hydrogens do."""
    findings, views = assess_conformers("One", conformers_of(smiles, 1), [])
    assert write_report(findings, views, tmp_path, "a test").is_file()
    assert "The 1 most populated of 1 conformers" in findings.sections[0].pictures[0].caption
