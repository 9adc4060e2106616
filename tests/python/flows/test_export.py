"""What export writes, and what it refuses."""

import math
import zipfile
from pathlib import Path

import pytest
import torch
from flow_helpers import chain_molecule, conformation, metadata_for, small_config, small_flow
from internal_flows import trained_like
from molecules import make
from torch import Tensor, nn

from timewarp_openmm import __version__
from timewarp_openmm.contract import ContractError, ModelMetadata, read_metadata
from timewarp_openmm.flows import check_contract, export_model
from timewarp_openmm.flows.check import check_jacobian

ATOMS = 3
MOLECULE = chain_molecule("COH")
X = conformation(ATOMS)


def metadata(*lag_times: float) -> ModelMetadata:
    return metadata_for(MOLECULE, X, 6 * ATOMS, lag_times or (2.0,))


class GaussianSteps(nn.Module):
    """Adds noise of 0.02 nm: the simplest flow; each fault of the tests is one argument."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault

    def sample_part(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = noise.view(noise.size(0), 2, -1, 3)
        origin = x
        if self.fault != "depends on x":
            origin = torch.where(torch.isinf(lag).view(-1, 1, 1), torch.zeros_like(x), x)
        y, w = origin + self.scale(noise.size(0)) * z[:, 0], z[:, 1]
        log_q = self.log_density(noise)
        if self.fault == "lies about log_q":
            log_q = log_q + 0.01
        if self.fault == "float32 log_q":
            log_q = log_q.float()
        if self.fault == "not finite":
            w = w / 0.0
        if self.fault == "shape of y":
            y = y.flatten(1)
        return y, w, log_q

    def scale(self, batch: int) -> float:
        return 0.02 + 0.01 * batch if self.fault == "depends on the batch size" else 0.02

    def log_density(self, noise: Tensor) -> Tensor:
        log_normal = -0.5 * (noise.double().square() + math.log(2.0 * math.pi)).sum(1)
        if self.fault == "forgets the Jacobian":
            return log_normal
        return log_normal - 0.5 * noise.size(1) * math.log(self.scale(noise.size(0)))

    def to_noise(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        if self.fault != "depends on x":
            x = torch.where(torch.isinf(lag).view(-1, 1, 1), torch.zeros_like(x), x)
        return torch.stack(((y - x) / self.scale(y.size(0)), w), dim=1).flatten(1)

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        return self.log_density(self.to_noise(y, w, x, lag))

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        noise = self.to_noise(y, w, x, lag)
        return noise * 1.1 if self.fault == "not invertible" else noise


class GoodSteps(GaussianSteps):
    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.sample_part(x, noise, lag)


class UnscriptableSteps(GaussianSteps):
    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, w, log_q = self.sample_part(x, noise, lag)
        return (y, w, log_q) if print(**{"end": ""}) is None else (w, y, log_q)


def test_nothing_says_where_the_code_came_from(tmp_path: Path) -> None:
    """Records for error messages hold the paths of source files on the machine that exports."""
    path = export_model(GoodSteps(), metadata(), tmp_path / "model.pt")
    here = str(Path(__file__).parent).encode()
    with zipfile.ZipFile(path) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    assert any(name.endswith(".py") for name in members)
    assert [name for name, content in members.items() if here in content] == []


def test_exported_model_has_its_metadata_and_the_flows_numbers(tmp_path: Path) -> None:
    flow = small_flow(small_config()).train()
    path = export_model(flow, metadata(), tmp_path / "m.pt")
    found = read_metadata(path)
    assert found.molecule == MOLECULE
    assert found.package_version == __version__
    assert flow.training, "the flow itself must be left as it is"
    assert [p.name for p in tmp_path.iterdir()] == ["m.pt"]

    model = torch.jit.load(path)
    noise, lag = torch.randn(5, 18), torch.ones(5)
    y, w, log_q = model.sample(X, noise, lag)
    y_flow, w_flow, log_q_flow = flow.sample(X, noise, lag)
    torch.testing.assert_close(y, y_flow)
    torch.testing.assert_close(w, w_flow)
    torch.testing.assert_close(log_q, log_q_flow)


def test_foreign_flow_with_independent_draws_passes(tmp_path: Path) -> None:
    path = export_model(GoodSteps(), metadata(2.0, math.inf), tmp_path / "m.pt")
    check_contract(torch.jit.load(path), read_metadata(path))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("lies about log_q", "log_q"),
        ("forgets the Jacobian", "log_q and the density from the Jacobian"),
        ("not invertible", r"sample\(x, invert\(y, w\)\)"),
        ("depends on x", "must not depend at an infinite lag"),
        ("depends on the batch size", "of a batch of 3 and of 16"),
        ("float32 log_q", "log_q.* must be .* of torch.float64"),
        ("not finite", "w that is not finite|slogdet|differ by nan"),
        ("shape of y", "the first result of sample"),
    ],
)
def test_module_that_breaks_the_contract_is_refused(
    fault: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ContractError, match=message):
        export_model(GoodSteps(fault), metadata(2.0, math.inf), tmp_path / "m.pt")
    assert not list(tmp_path.iterdir())


def test_missing_method_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no method sample"):
        export_model(GaussianSteps(), metadata(), tmp_path / "m.pt")


def test_unscriptable_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"torch\.jit\.script"):
        export_model(UnscriptableSteps(), metadata(), tmp_path / "m.pt")


def test_missing_or_misfit_reference_positions_are_refused(tmp_path: Path) -> None:
    without = metadata()
    without.reference_positions = None
    with pytest.raises(ContractError, match="reference_positions"):
        export_model(GoodSteps(), without, tmp_path / "m.pt")
    misfit = metadata()
    misfit.reference_positions = conformation(5).tolist()
    with pytest.raises(ContractError, match="must be 3 x 3"):
        export_model(GoodSteps(), misfit, tmp_path / "m.pt")


def test_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=r"m\.pt exists"):
        export_model(GoodSteps(), metadata(), path)
    assert path.read_text() == "precious"
    with pytest.raises(ContractError):
        export_model(GoodSteps("not invertible"), metadata(), path, overwrite=True)
    assert path.read_text() == "precious"
    export_model(GoodSteps(), metadata(), path, overwrite=True)
    assert read_metadata(path).noise_size == 18


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        export_model(GoodSteps(), metadata(), tmp_path / "nowhere" / "m.pt")


def test_shapes_without_their_volume_element_are_refused(tmp_path: Path) -> None:
    """`sample` and `log_prob` agree; the determinant, rigid motions and all, does not."""
    flow, frames = trained_like("CO")
    molecule, _ = make("CO")
    shapes = metadata_for(molecule, frames[0], flow.noise_size, (math.inf,))
    shapes.precision = flow.precision
    check_jacobian(flow, shapes)
    volume = flow.shape.internal.log_volume
    flow.shape.internal.log_volume = lambda bonds, angles: 0.0 * volume(bonds, angles)
    with pytest.raises(ContractError, match="Jacobian of sample"):
        export_model(flow, shapes, tmp_path / "m.pt")
