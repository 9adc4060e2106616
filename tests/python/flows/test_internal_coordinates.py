"""Internal coordinates: round trips, volume element, and agreement with another library."""

import mdtraj
import numpy as np
import pytest
import torch
from molecules import SMILES, make, shaken

from timewarp_openmm.flows.internal.coordinates import InternalCoordinates, wrap
from timewarp_openmm.molecule.zmatrix import build_zmatrix


@pytest.mark.parametrize("name", SMILES)
def test_positions_come_back(name: str) -> None:
    molecule, positions = make(name, 3)
    x = torch.tensor(np.concatenate([positions, shaken(positions, 20, 0.01)]))
    coordinates = InternalCoordinates(build_zmatrix(molecule))
    parts = coordinates.to_internal(x)
    assert (coordinates.to_positions(*parts, x) - x).abs().max() < 1e-12

    single = x.float()
    parts = tuple(part.float() for part in coordinates.to_internal(single))
    back = coordinates.to_positions(*parts, single).float()
    assert (back - single).abs().max() < 2e-6


def test_torsions_are_those_of_mdtraj() -> None:
    molecule, positions = make("phe", 5)
    zmatrix = build_zmatrix(molecule)
    _, _, torsions = InternalCoordinates(zmatrix).to_internal(torch.tensor(positions))
    topology = mdtraj.Topology()
    residue = topology.add_residue("LIG", topology.add_chain())
    for name, element in zip(molecule.atom_names, molecule.elements, strict=True):
        topology.add_atom(name, mdtraj.element.get_by_symbol(element), residue)
    trajectory = mdtraj.Trajectory(positions.astype(np.float32), topology)
    expected = torch.tensor(mdtraj.compute_dihedrals(trajectory, np.array(zmatrix.torsion_atoms)))
    column = {p.atom: i for i, p in enumerate(zmatrix.placed)}
    for i, placed in enumerate(zmatrix.placed):
        reference = 0.0 if placed.sibling is None else expected[:, column[placed.sibling]]
        assert wrap(torsions[:, i] - (expected[:, i] - reference)).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["ala", "pro", "ibuprofen"])
def test_volume_element_is_the_jacobian(name: str) -> None:
    """The map from shape coordinates and the frame's six to positions, by autodiff."""
    molecule, positions = make(name)
    zmatrix = build_zmatrix(molecule)
    coordinates = InternalCoordinates(zmatrix)
    x = torch.tensor(positions)
    bonds, angles, torsions = coordinates.to_internal(x)
    sizes = [bonds.size(1), angles.size(1), torsions.size(1)]
    a, b, c = zmatrix.roots

    def roots_only(flat: torch.Tensor) -> torch.Tensor:
        """All atoms relative to the roots' frame: 3N - 6 of the numbers vary."""
        placed = coordinates.to_positions(*(p[None] for p in flat.split(sizes)), x)[0]
        along = (x[0, b] - x[0, a]) / (x[0, b] - x[0, a]).norm()
        normal = torch.linalg.cross(along, x[0, c] - x[0, a])
        normal = normal / normal.norm()
        axes = torch.stack([along, torch.linalg.cross(normal, along), normal])
        local = (placed - x[0, a]) @ axes.T
        others = [i for i in range(molecule.num_atoms) if i not in zmatrix.roots]
        return torch.cat([local[b, :1], local[c, :2], local[others].flatten()])

    flat = torch.cat([bonds[0], angles[0], torsions[0]])
    jacobian = torch.autograd.functional.jacobian(roots_only, flat)
    _, determinant = torch.linalg.slogdet(jacobian)
    # Turning the frame: r_ab^2 of b over the sphere, and c about a-b at r_ac sin(bac).
    r_ab, r_ac, bac = bonds[0, 0], bonds[0, 1], angles[0, 0]
    turning = 2 * torch.log(r_ab) + torch.log(r_ac * torch.sin(bac))
    volume = coordinates.log_volume(bonds, angles)[0]
    assert abs(float(determinant + turning - volume)) < 1e-9


def test_frame_is_that_of_the_given_state() -> None:
    """Rule of reversibility: proposal and state span the same frame, so the way back ends where
    it began."""
    molecule, positions = make("ala", 2)
    x, other = torch.tensor(positions).split(1)
    zmatrix = build_zmatrix(molecule)
    coordinates = InternalCoordinates(zmatrix)
    y = coordinates.to_positions(*coordinates.to_internal(other), x)
    back = coordinates.to_positions(*coordinates.to_internal(x), y)
    assert (back - x).abs().max() < 1e-12
    assert (y - x).norm() > 0.1
    distances = torch.cdist(y, y) - torch.cdist(other, other)
    assert distances.abs().max() < 1e-12


def test_scripted_does_the_same() -> None:
    molecule, positions = make("trp", 4)
    coordinates = InternalCoordinates(build_zmatrix(molecule))
    scripted = torch.jit.script(coordinates)
    x = torch.tensor(positions)
    parts = coordinates.to_internal(x)
    for ours, theirs in zip(parts, scripted.to_internal(x), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(coordinates.to_positions(*parts, x), scripted.to_positions(*parts, x))
