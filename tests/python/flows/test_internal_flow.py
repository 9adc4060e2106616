"""The flow in internal coordinates: the contract's promises, symmetry, and chirality."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from internal_flows import INF, SMALL, draw, trained_like
from molecules import make, shaken
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from timewarp_openmm.contract import ModelMetadata
from timewarp_openmm.flows import AnyFlowConfig, build_flow, export_model
from timewarp_openmm.flows.internal.config import InternalFlowConfig
from timewarp_openmm.flows.internal.flow import InternalFlow
from timewarp_openmm.molecule.stereochemistry import Stereochemistry


@pytest.mark.parametrize("lags", [(INF,), (1.0, INF)])
@pytest.mark.parametrize("name", ["ala", "pro", "ibuprofen", "zwitterion"])
def test_contract_in_single_precision(name: str, lags: tuple[float, ...]) -> None:
    flow, x = trained_like(name, lag_times=lags)
    lag = torch.tensor(lags).repeat(128 // len(lags))
    noise = draw(flow, 128)
    y, w, log_q = flow.sample(x[0], noise, lag)
    assert y.dtype == torch.float32
    assert log_q.dtype == torch.float64
    inside = torch.isfinite(y).flatten(1).all(1)
    # A flow that has learned nothing closes proline's ring from the wrong side most of the time.
    assert inside.sum() > 20 if name == "pro" else inside.all()
    assert torch.isfinite(log_q[inside]).all()
    y, w, log_q, lag = y[inside], w[inside], log_q[inside], lag[inside]
    # Rounding y to float32 alone moves the density by about this much for the largest of these.
    assert (flow.log_prob(y, w, x[:1], lag) - log_q).abs().max() < 5e-4
    back, _, _ = flow.sample(x[0], flow.invert(y, w, x[:1], lag), lag)
    assert (back - y).abs().max() < 1e-5


def test_tails_of_the_noise_survive() -> None:
    """Noise of rotatable torsions far out, where the normal distribution function is flat."""
    flow, x = trained_like("ala")
    noise = draw(flow, 64)
    noise[:, : flow.num_rotatable] = torch.linspace(-5.5, 5.5, 64)[:, None]
    lag = torch.full((64,), INF)
    y, w, log_q = flow.sample(x[0], noise, lag)
    back, _, _ = flow.sample(x[0], flow.invert(y, w, x[:1], lag), lag)
    assert (back - y).abs().max() < 1e-5
    assert (flow.log_prob(y, w, x[:1], lag) - log_q).abs().max() < 2e-4


@pytest.mark.parametrize("transform", ["spline", "affine"])
def test_density_is_that_of_the_noise_by_autodiff(transform: str) -> None:
    flow, x = trained_like("C[C@H](F)O", stiff_transform=transform, lag_times=(2.0, INF))
    flow = flow.double()
    frame = x[:1].double()
    size = flow.num_shape
    a, b, c = flow.shape.internal.order[:3].tolist()
    others = [i for i in range(flow.num_atoms) if i not in (a, b, c)]
    for lag_time in (2.0, INF):
        lag = torch.tensor([lag_time], dtype=torch.float64)
        full = draw(flow, 1).double()

        def local(noise: Tensor, full: Tensor = full, lag: Tensor = lag) -> Tensor:
            """What varies of y in the roots' frame."""
            y, _, _ = flow.sample(frame[0], torch.cat([noise, full[0, size:]])[None], lag)
            along = torch.nn.functional.normalize(y[0, b] - y[0, a], dim=0)
            normal = torch.linalg.cross(along, frame[0, c] - frame[0, a])
            normal = torch.nn.functional.normalize(normal, dim=0)
            axes = torch.stack([along, torch.linalg.cross(normal, along), normal])
            placed = (y[0] - y[0, a]) @ axes.T
            return torch.cat([placed[b, :1], placed[c, :2], placed[others].flatten()])

        jacobian = torch.autograd.functional.jacobian(local, full[0, :size])
        y, w, log_q = flow.sample(frame[0], full, lag)
        r_ab = (y[0, b] - y[0, a]).norm()
        area = torch.linalg.cross(y[0, b] - y[0, a], y[0, c] - y[0, a]).norm()
        turning = torch.log(r_ab * area)  # r_ab^2 r_ac sin(bac)
        log_noise = -0.5 * (full.square() + math.log(2 * math.pi)).sum()
        expected = log_noise - torch.linalg.slogdet(jacobian).logabsdet - turning
        assert abs(float(expected - log_q)) < 1e-7
        assert abs(float(flow.log_prob(y, w, frame, lag) - log_q)) < 1e-8


def test_scripted_does_the_same() -> None:
    flow, x = trained_like("ala", lag_times=(1.0, INF))
    scripted = torch.jit.script(flow)
    lag = torch.tensor([1.0, INF]).repeat(16)
    noise = draw(flow, 32)
    ours, theirs = flow.sample(x[0], noise, lag), scripted.sample(x[0], noise, lag)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    y, w, _ = ours
    assert torch.equal(flow.log_prob(y, w, x[:1], lag), scripted.log_prob(y, w, x[:1], lag))
    assert torch.equal(flow.invert(y, w, x[:1], lag), scripted.invert(y, w, x[:1], lag))


def rotation(seed: int) -> Tensor:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return torch.tensor(q * np.linalg.det(q))


def test_rigid_motion_has_no_part_in_the_density() -> None:
    flow, x = trained_like("ala", lag_times=(1.0, INF))
    flow, x = flow.double(), x.double()
    lag = torch.tensor([1.0, INF], dtype=torch.float64).repeat(8)
    y, w, log_q = flow.sample(x[0], draw(flow, 16).double(), lag)
    moved_y = y @ rotation(1) + torch.tensor([1.0, -2.0, 0.5])
    moved_x = x[:1] @ rotation(2) + 3.0
    assert (flow.log_prob(moved_y, w, moved_x, lag) - log_q).abs().max() < 1e-8
    # And proposals move with x, independent draws like the others.
    turned, _, _ = flow.sample(x[0] @ rotation(2) + 3.0, draw(flow, 16).double(), lag)
    assert (turned - (y @ rotation(2) + 3.0)).abs().max() < 1e-10


def test_infinite_lag_does_not_look_at_x() -> None:
    flow, x = trained_like("ala", lag_times=(1.0, INF))
    noise, other = draw(flow, 16), x[7:8]
    lag = torch.full((16,), INF)
    y, w, log_q = flow.sample(x[0], noise, lag)
    y_other, _, log_q_other = flow.sample(other[0], noise, lag)
    assert torch.equal(log_q, log_q_other)
    assert torch.allclose(torch.cdist(y, y), torch.cdist(y_other, y_other), atol=1e-6)
    assert torch.equal(flow.log_prob(y, w, x[:1], lag), flow.log_prob(y, w, other, lag))
    finite = torch.full((16,), 1.0)
    assert not torch.allclose(
        flow.log_prob(y, w, x[:1], finite), flow.log_prob(y, w, other, finite)
    )


def test_mixed_lags_are_those_of_single_ones() -> None:
    flow, x = trained_like("ala", lag_times=(1.0, INF))
    noise = draw(flow, 4)
    lag = torch.tensor([1.0, INF, 1.0, INF])
    y, _, log_q = flow.sample(x[0], noise, lag)
    for i in range(4):
        y_i, _, log_q_i = flow.sample(x[0], noise[i : i + 1], lag[i : i + 1])
        assert (y_i[0] - y[i]).abs().max() < 1e-6
        assert abs(float(log_q_i[0] - log_q[i])) < 1e-4


def test_one_x_for_each_row_is_the_same_as_one_for_all() -> None:
    flow, x = trained_like("ala", lag_times=(1.0, INF))
    lag = torch.tensor([1.0, INF]).repeat(4)
    y, w, log_q = flow.sample(x[0], draw(flow, 8), lag)
    each = x[:1].expand(8, -1, -1)
    assert torch.equal(flow.sample(each, draw(flow, 8), lag)[2], log_q)
    assert torch.equal(flow.log_prob(y, w, each, lag), flow.log_prob(y, w, x[:1], lag))


def test_methyl_hydrogens_are_exchangeable_exactly() -> None:
    """Cyclic exchange of like atoms changes nothing, whatever the weights."""
    flow, x = trained_like("ala", weights=0.1)
    flow, x = flow.double(), x.double()
    lag = torch.full((32,), INF, dtype=torch.float64)
    y, w, log_q = flow.sample(x[0], draw(flow, 32).double(), lag)
    keep = torch.isfinite(log_q)
    y, w, log_q, lag = y[keep], w[keep], log_q[keep], lag[keep]
    groups = [g for module in flow.shape.symmetric for g in _atoms(flow, module.members)]
    assert len(groups) == 3
    for group in groups:
        exchanged = y.clone()
        exchanged[:, group] = y[:, group[1:] + group[:1]]
        difference = flow.log_prob(exchanged, w, x[:1], lag) - log_q
        assert difference.abs().max() < 1e-7


def _atoms(flow: InternalFlow, members: Tensor) -> list[list[int]]:
    order = flow.shape.internal.order
    return [[int(order[3 + i]) for i in group] for group in members.tolist()]


def test_all_labellings_are_drawn_equally() -> None:
    flow, x = trained_like("ala")
    torsion = flow.shape.internal.to_internal(
        flow.sample(x[0], draw(flow, 3000), torch.full((3000,), INF))[0]
    )[2][:, flow.shape.symmetric[0].members[0, 0]].contiguous()
    third = torch.bucketize(torsion, torch.tensor([-math.pi / 3, math.pi / 3]).double())
    assert (torch.bincount(third, minlength=3) / 3000 - 1 / 3).abs().max() < 0.04


@pytest.mark.parametrize("name", ["ala", "ibuprofen", "penicillin", "CC[S@](C)=O"])
def test_chirality_never_flips(name: str) -> None:
    """Not even with noise and weights far from those of a trained flow."""
    flow, x = trained_like(name, weights=0.1)
    y, _, log_q = flow.sample(x[0], 4 * draw(flow, 4000), torch.full((4000,), INF))
    finite = torch.isfinite(y).all(2).all(1)
    assert finite.sum() > 20
    assert (~finite).sum() > 20
    assert torch.equal(torch.isnan(log_q), ~finite)
    molecule, _ = make(name)
    reference = Stereochemistry(molecule, x[0].numpy())
    assert len(reference.atoms) > 0
    flips, _ = reference.flipped(y[finite].numpy())
    assert not flips.any()


def test_mirror_image_has_no_density() -> None:
    flow, x = trained_like("ala")
    w = torch.zeros_like(x[:2])
    lag = torch.full((2,), INF)
    assert torch.isfinite(flow.log_prob(x[:2], w, x[:1], lag)).all()
    mirrored = x[:2] * torch.tensor([1.0, 1.0, -1.0])
    assert (flow.log_prob(mirrored, w, x[:1], lag) == -INF).all()
    assert (flow.log_prob(torch.zeros_like(x[:2]), w, x[:1], lag) == -INF).all()


def test_unfitted_flow_says_so() -> None:
    molecule, positions = make("ala")
    flow = InternalFlow(InternalFlowConfig(**SMALL), molecule)
    x = torch.tensor(positions[0], dtype=torch.float32)
    with pytest.raises(RuntimeError, match="fit_normalisation"):
        flow.sample(x, draw(flow, 1), torch.tensor([INF]))


def test_weights_count_frames() -> None:
    """A frame of weight two is a frame given twice."""
    molecule, positions = make("ala")
    x = torch.tensor(shaken(positions, 100, 0.003))
    config = InternalFlowConfig(**SMALL)
    weighted, repeated = InternalFlow(config, molecule), InternalFlow(config, molecule)
    weighted.fit_normalisation(x, torch.tensor([2.0] * 50 + [1.0] * 50))
    repeated.fit_normalisation(torch.cat([x, x[:50]]))
    assert torch.allclose(weighted.shape.mean, repeated.shape.mean)
    assert torch.allclose(weighted.shape.unwhiten, repeated.shape.unwhiten)


@pytest.mark.parametrize("name", ["adamantane", "ethane", "trp", "disulfide"])
def test_molecules_with_few_or_many_rotatable_torsions(name: str) -> None:
    flow, x = trained_like(name)
    lag = torch.full((16,), INF)
    y, w, log_q = flow.sample(x[0], draw(flow, 16), lag)
    assert (flow.log_prob(y, w, x[:1], lag) - log_q).abs().max() < 1e-3


def test_exported_model_keeps_the_contract(tmp_path: Path) -> None:
    molecule, positions = make("ala")
    config = InternalFlowConfig(**SMALL, lag_times=(1.0, INF))
    torch.manual_seed(0)
    flow = build_flow(config, molecule)
    assert isinstance(flow, InternalFlow)
    flow.fit_normalisation(torch.tensor(shaken(positions, 100, 0.003)))
    metadata = ModelMetadata(
        molecule=molecule,
        noise_size=flow.noise_size,
        temperature=310.0,
        coordinates="internal",
        lag_times=[1.0, INF],
        lag_weights=[0.5, 0.5],
        reference_positions=positions[0].tolist(),
    )
    path = export_model(flow, metadata, tmp_path / "model.pt")
    model = torch.jit.load(str(path))
    x = torch.tensor(positions[0], dtype=torch.float32)
    noise, lag = draw(flow, 8), torch.full((8,), INF)
    assert torch.allclose(model.sample(x, noise, lag)[0], flow.sample(x, noise, lag)[0], atol=1e-6)


def test_configuration_is_chosen_by_its_coordinates() -> None:
    adapter = TypeAdapter(AnyFlowConfig)
    assert isinstance(adapter.validate_python({"coordinates": "internal"}), InternalFlowConfig)
    with pytest.raises(ValidationError, match="lag times must be positive"):
        adapter.validate_python({"coordinates": "internal", "lag_times": [-1.0]})


def test_labels_of_equivalent_atoms_keep_their_chirality() -> None:
    """A methyl group numbered the other way round: same density, and proposals stay that way."""
    flow, x = trained_like("ala", lag_times=(1.0, INF))
    flow, x = flow.double(), x.double()
    labels = flow.shape.chirality
    assert labels.num_relabelled == 3
    flipped = labels.relabel(x[:1], torch.tensor([[True, False, True]]))
    assert labels.mirrored(flipped).tolist() == [[True, False, True]]
    lag = torch.tensor([1.0, INF], dtype=torch.float64).repeat(8)
    noise = draw(flow, 16).double()
    y, w, log_q = flow.sample(x[0], noise, lag)
    y_flipped, _, log_q_flipped = flow.sample(flipped[0], noise, lag)
    assert torch.allclose(log_q, log_q_flipped, atol=1e-9)
    finite = y.isfinite().all(-1).all(-1)
    expected = labels.relabel(y, labels.mirrored(flipped))
    assert torch.allclose(y_flipped[finite], expected[finite], atol=1e-9)
    assert torch.allclose(
        flow.log_prob(y_flipped, w, flipped, lag)[finite], log_q[finite], atol=1e-8
    )
    # There is no way from one labelling to the other.
    assert (flow.log_prob(y, w, flipped, lag) == -math.inf).all()
