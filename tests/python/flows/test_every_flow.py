"""What every flow must keep: each flow of the registry goes through these tests, as it is by
default and in the variants named here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from flow_helpers import PUBLISHED, metadata_for, perturb, small_config
from molecules import make, shaken
from torch import Tensor
from training_data import short_run, write_data_folder

from timewarp_openmm.contract import ModelMetadata
from timewarp_openmm.flows import FLOWS, Flow, FlowConfig, build_flow, export_model
from timewarp_openmm.flows.chained.config import ChainedFlowConfig
from timewarp_openmm.flows.check import Calls, check_contract, density_by_jacobian
from timewarp_openmm.flows.in_place.config import InPlaceFlowConfig
from timewarp_openmm.flows.internal.config import InternalFlowConfig
from timewarp_openmm.flows.registry import flow_class
from timewarp_openmm.training.config import parse_config
from timewarp_openmm.training.export import export_run
from timewarp_openmm.training.loop import train

INF = math.inf
#: Ten atoms with a chiral centre, a methyl group and a rotatable torsion.
SMILES = "C[C@H](S)O"
METHYL = (4, 5, 6)
#: Flows are tried at the first of these that they can be trained for.
LAG_TIMES = ((2.0, INF), (2.0,), (INF,))
BOTH = {
    "lag_times": LAG_TIMES[0],
    "rotatable_layers": 2,
    "rotatable_hidden": 16,
    "stiff_layers": 2,
    "stiff_hidden": 16,
    "attention": {"d_model": 16, "num_layers": 1, "feedforward": 16},
}

LINK = {name: value for name, value in BOTH.items() if name != "lag_times"}

#: The methyl group and the hydrogen of the thiol, each placed from context atoms of its own.
PART = {**BOTH, "lag_times": (INF,), "moved": (0, *METHYL, 8)}

#: The substituents of the chiral centre come in two parts, and a hydrogen after its heavy atom.
LATER = {"later_parts": ((3, 7), (9,))}
#: The thiol's hydrogen and the methyl's carbon come first, which its hydrogens hang on.
LATER_OF_PART = {"moved": (0, *METHYL, 8), "later_parts": (METHYL,)}

#: The same part, by a flow that knows all but an atom.
IN_PLACE = {"moved": PART["moved"], "known": tuple(range(9))}

VARIANTS: dict[str, FlowConfig] = {
    "cartesian, element types": small_config(embedding="element"),
    "cartesian, as published": small_config(**PUBLISHED),
    "internal, lags": InternalFlowConfig(**BOTH, stiff_transform="spline"),
    "internal, attention": InternalFlowConfig(**BOTH, conditioner="attention"),
    "internal, velocities": InternalFlowConfig(**BOTH, velocities=True),
    "internal, both": InternalFlowConfig(**BOTH, conditioner="attention", velocities=True),
    "internal, part": InternalFlowConfig(**PART, stiff_transform="spline"),
    "internal, part, attention": InternalFlowConfig(**PART, conditioner="attention"),
    "chained, three parts": ChainedFlowConfig(**LINK, **LATER, stiff_transform="spline"),
    "chained, part": ChainedFlowConfig(**LINK, **LATER_OF_PART),
    "in place, part": InPlaceFlowConfig(**LINK, **IN_PLACE),
}
DEFAULTS = {flow.config_class().coordinates: flow.config_class() for flow in FLOWS}
CONFIGS = {**DEFAULTS, **VARIANTS}
INTERNAL = ("internal", "chained", "in place")
#: Those with the same density for every labelling of equivalent atoms.
SYMMETRIC = [n for n in CONFIGS if n.startswith(INTERNAL) or "element" in n]

#: Those that can keep lengths of bonds: of all, or of some of the equivalent hydrogens only.
CONSTRAINED = [name for name in CONFIGS if name.startswith(INTERNAL)]
KEPT = ("all", "some")
#: Those that move some atoms given the others.
WITH_CONTEXT = [name for name, config in CONFIGS.items() if config.part is not None]

each_flow = pytest.mark.parametrize("name", CONFIGS)
each_constrained_flow = pytest.mark.parametrize("name", CONSTRAINED)
each_kept = pytest.mark.parametrize("which", KEPT)


@dataclass(frozen=True)
class Case:
    """A flow whose weights are like those of a trained one, and a batch of its proposals.

    All in float64, so that rounding is far below any tolerance.
    """

    flow: Flow
    frames: Tensor  # [F, N, 3], as of training
    x: Tensor  # [N, 3]
    noise: Tensor  # [B, D]
    lag: Tensor  # [B]
    y: Tensor
    w: Tensor
    log_q: Tensor

    def log_prob(self, y: Tensor, w: Tensor, x: Tensor) -> Tensor:
        return self.flow.log_prob(y, w, x[None], self.lag)

    def calls(self, which: str = "none") -> Calls:
        """Return the flow's methods with no bond kept, all, or every second one."""
        stretches = tuple(self.flow.stretches or ())
        step = {"none": 0, "all": 1, "some": 2}[which]
        kept = tuple(range(0, len(stretches), step)) if step else ()
        return Calls(self.flow, kept, stretches)

    @property
    def moved(self) -> list[int]:
        return list(range(self.flow.num_atoms)) if self.flow.moved is None else self.flow.moved

    @property
    def context(self) -> list[int]:
        return [i for i in range(self.flow.num_atoms) if i not in self.moved]

    def elsewhere(self) -> Tensor:
        """Return another state [N, 3] with the same context."""
        return self.frames[7] @ turn() if not self.context else self.y[0]


def lag_times_of(config: FlowConfig) -> tuple[float, ...]:
    """Return lag times that a flow can be trained for."""
    for lag_times in LAG_TIMES:
        if INF in lag_times and not flow_class(config).draws_independently:
            continue
        try:
            config.check_lag_times(lag_times)
        except ValueError:
            continue
        return lag_times
    raise AssertionError(f"{config} is for none of {LAG_TIMES}")


def make_flow(config: FlowConfig) -> tuple[Flow, Tensor]:
    """Return a flow with weights like those of a trained one, and frames like its data."""
    molecule, positions = make(SMILES, 4)
    frames = torch.tensor(shaken(positions, 400, 0.003), dtype=torch.float32)
    torch.manual_seed(0)
    flow = build_flow(config, molecule).eval()
    flow.fit_normalisation(frames)
    perturb(flow, 0.03)
    return flow, frames


def metadata_of(config: FlowConfig, flow: Flow, frames: Tensor) -> ModelMetadata:
    molecule, _ = make(SMILES, 4)
    metadata = metadata_for(molecule, frames[0], flow.noise_size, lag_times_of(config))
    metadata.coordinates = config.coordinates
    metadata.auxiliary_velocities = flow.auxiliary_velocities
    metadata.precision = flow.precision
    metadata.moved = flow.moved
    metadata.stretches = None if flow.stretches is None else [list(s) for s in flow.stretches]
    return metadata


def make_case(name: str, batch: int = 8) -> Case:
    config = CONFIGS[name]
    flow, frames = make_flow(config)
    flow, frames = flow.double(), frames.double()
    noise = torch.randn(3 * batch, flow.noise_size, generator=torch.Generator().manual_seed(3))
    lag_times = lag_times_of(config)
    lag = torch.tensor(lag_times).repeat(3 * batch)[: 3 * batch].double()
    with torch.no_grad():
        y, w, log_q = flow.sample(frames[0], noise.double(), lag)
    inside = torch.nonzero(y.isfinite().flatten(1).all(1)).flatten()[:batch]
    assert len(inside) == batch, "few proposals are on the chart"
    kept = (values[inside] for values in (noise.double(), lag, y, w, log_q))
    return Case(flow, frames, frames[0], *kept)


def turn() -> Tensor:
    """Return a rotation [3, 3]."""
    axis = torch.tensor([0.3, -0.8, 0.5], dtype=torch.float64)
    generator = torch.linalg.cross(torch.eye(3, dtype=torch.float64), axis.expand(3, 3))
    return torch.linalg.matrix_exp(generator)


@pytest.mark.parametrize("flow", FLOWS)
def test_its_name_leads_to_it_through_a_configuration_file(flow: type[Flow]) -> None:
    config = flow.config_class()
    whole = short_run(Path("data"), flow=config.model_dump(), lag_times=lag_times_of(config))
    read = parse_config(whole.to_yaml())
    assert read == whole
    assert flow_class(read.flow) is flow
    assert len(DEFAULTS) == len(FLOWS), "two flows have the same name"


def test_a_flow_that_is_not_registered_is_named() -> None:
    class UnknownConfig(FlowConfig):
        coordinates: str = "unknown"

    with pytest.raises(ValueError, match="no flow is registered for UnknownConfig; add it"):
        build_flow(UnknownConfig(), make(SMILES)[0])


@each_flow
def test_inverse(name: str) -> None:
    case = make_case(name)
    with torch.no_grad():
        back = case.flow.invert(case.y, case.w, case.x[None], case.lag)
    torch.testing.assert_close(back, case.noise, atol=1e-7, rtol=0)


@each_flow
def test_density_of_a_proposal_is_found_again(name: str) -> None:
    """With one state for the batch and with a state for each row."""
    case = make_case(name)
    copies = case.x.expand_as(case.y)
    with torch.no_grad():
        each = case.flow.sample(copies, case.noise, case.lag)
        torch.testing.assert_close(each, (case.y, case.w, case.log_q), atol=1e-9, rtol=0)
        for x in (case.x[None], copies):
            log_prob = case.flow.log_prob(case.y, case.w, x, case.lag)
            torch.testing.assert_close(log_prob, case.log_q, atol=1e-8, rtol=0)


@each_flow
def test_density_is_that_of_the_jacobian(name: str) -> None:
    case = make_case(name, batch=2)
    with torch.no_grad():
        for noise, lag in zip(case.noise, case.lag, strict=True):
            log_q, expected = density_by_jacobian(
                case.calls(), case.x, noise, float(lag), moved=case.moved
            )
            torch.testing.assert_close(log_q, expected, atol=1e-5, rtol=0)


@each_flow
def test_rigid_motion(name: str) -> None:
    """Every flow follows a translation; rotations make no difference to a density of shapes."""
    case = make_case(name)
    shift = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    with torch.no_grad():
        y, w, _ = case.flow.sample(case.x + shift, case.noise, case.lag)
        torch.testing.assert_close(y, case.y + shift, atol=1e-9, rtol=0)
        torch.testing.assert_close(w, case.w, atol=1e-9, rtol=0)
        if case.flow.feels_rigid_motion:
            return
        turned = case.log_prob(case.y @ turn(), case.w @ turn(), case.x @ turn())
        torch.testing.assert_close(turned, case.log_q, atol=1e-7, rtol=0)
        if not (case.flow.auxiliary_velocities or case.context):
            alone = case.log_prob(case.y @ turn() + shift, case.w, case.x)
            torch.testing.assert_close(alone, case.log_q, atol=1e-7, rtol=0)


@pytest.mark.parametrize("name", SYMMETRIC)
def test_labels_of_equivalent_atoms_make_no_difference(name: str) -> None:
    case = make_case(name)
    order = list(range(case.flow.num_atoms))
    for i, atom in enumerate(METHYL):
        order[atom] = METHYL[(i + 1) % 3]
    with torch.no_grad():
        log_q = case.log_prob(case.y[:, order], case.w[:, order], case.x[order])
    torch.testing.assert_close(log_q, case.log_q, atol=1e-7, rtol=0)


@pytest.mark.parametrize("name", [name for name in CONFIGS if INF in lag_times_of(CONFIGS[name])])
def test_an_independent_draw_knows_nothing_of_x(name: str) -> None:
    case = make_case(name)
    lag = torch.full_like(case.lag, INF)
    other = case.elsewhere()
    with torch.no_grad():
        y, w, log_q = case.flow.sample(case.x, case.noise, lag)
        log_prob = case.flow.log_prob(y, w, other[None], lag)
        torch.testing.assert_close(log_prob, log_q, atol=1e-8, rtol=0)
        y_other, w_other, log_q_other = case.flow.sample(other, case.noise, lag)
    torch.testing.assert_close(log_q_other, log_q, atol=1e-9, rtol=0, equal_nan=True)
    torch.testing.assert_close(w_other, w, atol=1e-9, rtol=0)
    distances, distances_other = torch.cdist(y, y), torch.cdist(y_other, y_other)
    torch.testing.assert_close(distances_other, distances, atol=1e-6, rtol=0, equal_nan=True)


@pytest.mark.parametrize("name", WITH_CONTEXT)
def test_context_atoms_stay_and_are_taken_from_x(name: str) -> None:
    """To the last bit, also in proposals that lead nowhere."""
    case = make_case(name)
    flow, context = case.flow, case.context
    noise = 40 * torch.randn(64, flow.noise_size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y, w, _ = flow.sample(case.x, noise.double(), torch.full((64,), INF).double())
        assert y[:, case.moved].isnan().any()
        assert torch.equal(y[:, context], case.x[context].expand(64, -1, 3))
        assert (w[:, context] == 0).all()
        y, w = case.y.clone(), case.w.clone()
        y[:, context] += 1.0
        w[:, context] += 1.0
        assert torch.equal(case.log_prob(y, w, case.x), case.log_prob(case.y, case.w, case.x))


@pytest.mark.parametrize("name", WITH_CONTEXT)
def test_a_part_depends_on_its_context(name: str) -> None:
    case = make_case(name)
    with torch.no_grad():
        _, _, log_q = case.flow.sample(case.frames[7], case.noise, case.lag)
    assert (log_q - case.log_q).abs().max() > 0.01


@each_constrained_flow
@each_kept
def test_kept_bonds_have_the_length_of_x_and_the_rest_is_the_same(name: str, which: str) -> None:
    case = make_case(name)
    calls = case.calls(which)
    assert 0 < len(calls.kept) <= len(calls.stretches)
    with torch.no_grad():
        y, w, log_q = calls.sample(case.x, case.noise, case.lag)
    assert torch.equal(w, case.w)
    for number, (first, atom) in enumerate(calls.stretches):
        length = (y[:, atom] - y[:, first]).norm(dim=1)
        of_x, free = (case.x[atom] - case.x[first]).norm(), case.y[:, atom] - case.y[:, first]
        expected = of_x.expand_as(length) if number in calls.kept else free.norm(dim=1)
        torch.testing.assert_close(length, expected, atol=1e-14, rtol=0)
    heavy = [i for i in range(case.flow.num_atoms) if i not in {h for _, h in calls.stretches}]
    assert torch.equal(y[:, heavy], case.y[:, heavy])
    with torch.no_grad():
        for x in (case.x[None], case.x.expand_as(y)):
            log_prob = calls.log_prob(y, w, x, case.lag)
            torch.testing.assert_close(log_prob, log_q, atol=1e-8, rtol=0)
        back = calls.sample(case.x, calls.invert(y, w, case.x[None], case.lag), case.lag)
    torch.testing.assert_close(back[0], y, atol=1e-9, rtol=0)


@each_constrained_flow
@each_kept
def test_density_of_what_is_not_kept_is_that_of_the_jacobian(name: str, which: str) -> None:
    case = make_case(name, batch=2)
    with torch.no_grad():
        for noise, lag in zip(case.noise, case.lag, strict=True):
            log_q, expected = density_by_jacobian(
                case.calls(which), case.x, noise, float(lag), make(SMILES, 4)[0], case.moved
            )
            torch.testing.assert_close(log_q, expected, atol=1e-5, rtol=0)


@each_constrained_flow
def test_keeping_no_bond_changes_nothing(name: str) -> None:
    case = make_case(name)
    kept = torch.zeros(len(case.calls().stretches), dtype=torch.bool)
    with torch.no_grad():
        found = case.flow.sample_constrained(case.x, case.noise, case.lag, kept)
        torch.testing.assert_close(found, (case.y, case.w, case.log_q), atol=1e-12, rtol=0)


@each_constrained_flow
@each_kept
def test_labels_make_no_difference_where_bonds_are_kept(name: str, which: str) -> None:
    """What is kept goes with the atom, wherever it stands among its equivalents."""
    case = make_case(name)
    calls = case.calls(which)
    order = list(range(case.flow.num_atoms))
    for i, atom in enumerate(METHYL):
        order[atom] = METHYL[(i + 1) % 3]
    number = {atom: i for i, (_, atom) in enumerate(calls.stretches)}
    moved_on = [number[order[atom]] in calls.kept for _, atom in calls.stretches]
    kept = tuple(i for i, is_kept in enumerate(moved_on) if is_kept)
    with torch.no_grad():
        y, w, log_q = calls.sample(case.x, case.noise, case.lag)
        other = Calls(case.flow, kept, calls.stretches)
        found = other.log_prob(y[:, order], w[:, order], case.x[order][None], case.lag)
    torch.testing.assert_close(found, log_q, atol=1e-7, rtol=0)


@each_flow
def test_scripted_gives_what_python_gives(name: str) -> None:
    case = make_case(name)
    scripted: Any = torch.jit.script(case.flow)
    with torch.no_grad():
        found = scripted.sample(case.x, case.noise, case.lag)
        torch.testing.assert_close(found, (case.y, case.w, case.log_q), atol=1e-9, rtol=0)
        for method in ("log_prob", "invert"):
            torch.testing.assert_close(
                getattr(scripted, method)(case.y, case.w, case.x[None], case.lag),
                getattr(case.flow, method)(case.y, case.w, case.x[None], case.lag),
                atol=1e-9,
                rtol=0,
            )
        for which in KEPT if case.flow.stretches else ():
            ours, theirs = case.calls(which), Calls(scripted, *_kept(case, which))
            y, w, log_q = ours.sample(case.x, case.noise, case.lag)
            found = theirs.sample(case.x, case.noise, case.lag)
            torch.testing.assert_close(found, (y, w, log_q), atol=1e-9, rtol=0)
            log_prob = theirs.log_prob(y, w, case.x[None], case.lag)
            torch.testing.assert_close(log_prob, log_q, atol=1e-8, rtol=0)


def _kept(case: Case, which: str) -> tuple[Any, Any]:
    calls = case.calls(which)
    return calls.kept, calls.stretches


@each_flow
def test_weights_saved_and_loaded_give_the_same_numbers(name: str, tmp_path: Path) -> None:
    """Without the data that it was fitted to."""
    case = make_case(name)
    torch.save(case.flow.state_dict(), tmp_path / "weights")
    molecule, _ = make(SMILES, 4)
    torch.manual_seed(1)
    again = build_flow(CONFIGS[name], molecule).double()
    again.load_state_dict(torch.load(tmp_path / "weights", weights_only=True))
    with torch.no_grad():
        y, w, log_q = again.sample(case.x, case.noise, case.lag)
    assert torch.equal(y, case.y)
    assert torch.equal(w, case.w)
    assert torch.equal(log_q, case.log_q)


@pytest.mark.parametrize("name", VARIANTS)
def test_exported_model_keeps_the_contract(name: str, tmp_path: Path) -> None:
    """In the precision in which it will run; flows as they are by default are exported below."""
    config = CONFIGS[name]
    flow, frames = make_flow(config)
    metadata = metadata_of(config, flow, frames)
    path = export_model(flow, metadata, tmp_path / "model.pt")
    check_contract(torch.jit.load(str(path)), metadata)


@each_flow
def test_all_weights_learn(name: str) -> None:
    case = make_case(name)
    y = case.frames[1:9]
    case.flow.log_prob(y, torch.zeros_like(y) + 0.1, case.x[None], case.lag).sum().backward()
    for parameter_name, parameter in case.flow.named_parameters():
        assert not parameter.requires_grad or parameter.grad is not None, parameter_name


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data_folder(tmp_path_factory.mktemp("data") / "ala2")


@pytest.mark.parametrize("name", DEFAULTS)
def test_trained_for_two_steps_and_exported(name: str, data_folder: Path, tmp_path: Path) -> None:
    flow = DEFAULTS[name]
    config = short_run(data_folder, flow=flow, lag_times=lag_times_of(flow), max_steps=2)
    progress = train(config, tmp_path / "run")
    assert math.isfinite(progress.test_log_likelihood)
    export_run(tmp_path / "run", tmp_path / "model.pt")
