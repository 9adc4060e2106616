"""Every kind of molecule of the table: its chart covers what dynamics visits, and is exact."""

import math

import pytest
import torch
from chemistry import KINDS, make_kind, simulated
from torch import Tensor

from timewarp_openmm.flows.internal.shape import ShapeChart
from timewarp_openmm.flows.internal.support import check_support
from timewarp_openmm.molecule import Molecule
from timewarp_openmm.molecule.equivalent_atoms import equivalent_leaves
from timewarp_openmm.molecule.stereochemistry import chirality_centres
from timewarp_openmm.molecule.zmatrix import CoordinateKind, build_zmatrix

MIRROR = torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)


def fitted(kind: str) -> tuple[Molecule, ShapeChart, Tensor]:
    """Return a molecule, its chart, and frames of which the first half made the chart."""
    molecule, positions = simulated(kind)
    x = torch.tensor(positions)
    chart = ShapeChart(molecule)
    half = len(x) // 2
    chart.fit(x[:half], torch.full((half,), 1 / half, dtype=torch.float64), True)
    return molecule, chart, x


class Both(torch.nn.Module):
    """A chart there and back, as flows use it."""

    def __init__(self, chart: ShapeChart) -> None:
        super().__init__()
        self.chart = chart

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rotatable, sectors, stiff, _ = self.chart.to_shape(x)
        return self.chart.to_positions(rotatable, sectors, stiff, x)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_dynamics_are_inside_and_come_back(kind: str) -> None:
    molecule, chart, x = fitted(kind)
    assert not check_support(chart, molecule, x).any()
    rotatable, sectors, stiff, log_volume = chart.to_shape(x)
    y, log_volume_back = chart.to_positions(rotatable, sectors, stiff, x)
    assert (y - x).abs().max() < 1e-11
    assert (log_volume_back - log_volume).abs().max() < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_volume_element_is_the_determinant_by_autodiff(kind: str) -> None:
    _, chart, x = fitted(kind)
    rotatable, sectors, stiff, log_volume = chart.to_shape(x[:1])
    a, b, c = chart.internal.order[:3].tolist()
    others = chart.internal.order[3:]
    axes = chart.frame_axes(x[:1])[0]

    def local(flat: Tensor) -> Tensor:
        """What varies of the positions in the frame of the roots."""
        split = flat.split([chart.num_rotatable, chart.num_stiff])
        placed = chart.to_positions(split[0][None], sectors, split[1][None], x[:1])[0][0]
        placed = (placed - x[0, a]) @ axes.T
        return torch.cat([placed[b, :1], placed[c, :2], placed[others].flatten()])

    jacobian = torch.autograd.functional.jacobian(
        local, torch.cat([rotatable[0], stiff[0]]), vectorize=True
    )
    u, v = x[0, b] - x[0, a], x[0, c] - x[0, a]
    turning = torch.log(u.norm() * torch.linalg.cross(u, v).norm())  # r_ab^2 r_ac sin(bac)
    # A symmetric rotatable torsion is the fold times the torsion, and each sector has its share.
    expected = torch.linalg.slogdet(jacobian).logabsdet + turning + chart.fold.log().sum()
    assert abs(float(expected - log_volume[0])) < 1e-8


@pytest.mark.parametrize("kind", KINDS)
def test_mirror_images_are_outside_where_a_centre_keeps_its_chirality(kind: str) -> None:
    """And inside where none does: in a molecule without such centres dynamics may get there."""
    molecule, chart, x = fitted(kind)
    outside = torch.isinf(chart.to_shape(x * MIRROR)[3])
    # Around SF5 fluorine follows fluorine in one order only.
    ordered = len(build_zmatrix(molecule).octahedra) > 0
    assert (outside == (chart.chirality.num_fixed > 0 or ordered)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_equivalent_atoms_do_not_matter(kind: str) -> None:
    """Exchanged where dynamics cannot tell: at a centre, or in a group that turns."""
    molecule, chart, x = fitted(kind)
    centres = {centre.atom for centre in chirality_centres(molecule)}
    turning = [set(group) for group in build_zmatrix(molecule).symmetric_torsions]
    rotatable, _, stiff, log_volume = chart.to_shape(x)
    graph = molecule.graph()
    for group in equivalent_leaves(molecule):
        if next(iter(graph[group[0]])) not in centres and set(group) not in turning:
            continue
        exchanged = x.clone()
        exchanged[:, group[:2]] = x[:, [group[1], group[0]]]
        other, _, other_stiff, other_volume = chart.to_shape(exchanged)
        assert (torch.cos(other - rotatable) > 1 - 1e-12).all()
        assert (other_stiff - stiff).abs().max() < 1e-6
        assert (other_volume - log_volume).abs().max() < 1e-9


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.inversions])
def test_atoms_that_invert_do_so_on_the_circle(kind: str) -> None:
    """Both arrangements are two angles of one torsion, as far from each other as they are."""
    molecule, positions = make_kind(kind)
    chart = ShapeChart(molecule)
    kinds = build_zmatrix(molecule).torsion_kinds
    columns = [i for i, k in enumerate(kinds) if k is CoordinateKind.INVERSION]
    assert set(columns) <= set(chart.rotatable_index.tolist())
    x = torch.tensor(positions)
    _, _, torsions = chart.internal.to_internal(torch.cat([x, x * MIRROR]))
    offset = torsions[:, columns]
    assert (torch.cos(offset[0] - offset[1]) < math.cos(0.5)).all()
    assert (torch.cos(offset[0] + offset[1]) > 1 - 1e-9).all()


@pytest.mark.parametrize(
    "kind", ["methylamine", "aziridine", "pentafluorosulfanyl", "methylcyclohexane"]
)
def test_saved_and_scripted_charts_do_the_same(kind: str) -> None:
    molecule, chart, x = fitted(kind)
    other = ShapeChart(molecule)
    other.load_state_dict(chart.state_dict())
    scripted = torch.jit.script(Both(other))
    for ours, theirs in zip(Both(chart)(x), scripted(x), strict=True):
        assert torch.equal(ours, theirs)


def test_what_was_learned_of_rings_placed_in_another_way_is_refused() -> None:
    _, chart, _ = fitted("methylcyclohexane")
    state = {k: v for k, v in chart.state_dict().items() if "puckers" not in k}
    with pytest.raises(RuntimeError, match=r"internal\.puckers"):
        chart.load_state_dict(state)


def test_both_chairs_are_two_places_on_the_circle() -> None:
    """Proline up and down, and a cyclohexane's chairs."""
    for kind in ("proline dipeptide", "methylcyclohexane"):
        molecule, positions = make_kind(kind, 30)
        x = torch.tensor(positions)
        chart = ShapeChart(molecule)
        weights = torch.full((len(x),), 1 / len(x), dtype=torch.float64)
        chart.fit(x, weights, True)
        # The arms of a methylcyclohexane are numbered either way around.
        x = torch.where(chart.chirality.inverted(x).any(1)[:, None, None], x * MIRROR, x)
        chart.fit(x, weights, True)
        kinds = build_zmatrix(molecule).torsion_kinds
        columns = [i for i, k in enumerate(kinds) if k is CoordinateKind.PUCKER]
        _, _, torsions = chart.internal.to_internal(x)
        assert (torsions[:, columns].amin(0) < -0.2).all()
        assert (torsions[:, columns].amax(0) > 0.2).all()
        assert torch.isfinite(chart.to_shape(x)[3]).all()


def test_frames_of_another_chirality_are_refused_by_name() -> None:
    molecule, chart, x = fitted("alanine dipeptide")
    mixed = torch.cat([x, x[:5] * MIRROR])
    with pytest.raises(
        ValueError,
        match=r"5 of 65 frames \(7.7%\).*LIG1:C4 \(atom 4\) with N3, C5, C6, H\d+ around it "
        r"has the other chirality in 5 of them",
    ):
        check_support(chart, molecule, mixed)


def test_a_frame_in_a_thousand_is_left_out() -> None:
    molecule, chart, x = fitted("alanine dipeptide")
    many = torch.cat([x.repeat(20, 1, 1), x[:1] * MIRROR])
    assert check_support(chart, molecule, many).nonzero().flatten().tolist() == [1200]
