"""Import of published checkpoints: the same numbers, and nothing executed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from timewarp_openmm.commands.import_published import ImportOptions
from timewarp_openmm.commands.import_published import import_published as import_command
from timewarp_openmm.contract import read_metadata
from timewarp_openmm.flows.published.checkpoint import import_published, read_checkpoint

DATA = Path(__file__).parents[2] / "data" / "published"
CHECKPOINT = DATA / "random_small.pt"
CONFIG = DATA / "random_small.json"
TOPOLOGY = DATA / "alanine-dipeptide.pdb"


@pytest.fixture(scope="module")
def reference() -> dict[str, torch.Tensor]:
    with np.load(DATA / "random_small.npz") as content:
        return {k: torch.tensor(content[k]) for k in content.files if k != "elements"}


def test_log_likelihoods_agree_with_the_published_implementation(
    reference: dict[str, torch.Tensor],
) -> None:
    flow = import_published(CHECKPOINT, CONFIG, TOPOLOGY).double()
    y, w, x, v = (reference[k] for k in ("y", "y_velocs", "x", "x_velocs"))
    with torch.inference_mode():
        x_only = flow.log_prob(y, w, x, torch.ones(8))
        x_and_v = flow.log_prob_given_velocities(y, w, x, v)
    torch.testing.assert_close(x_only, reference["log_likelihood_x_only"], rtol=1e-6, atol=0)
    torch.testing.assert_close(x_and_v, reference["log_likelihood_x_and_v"], rtol=1e-6, atol=0)


def test_ignored_conditioning_velocities_leave_the_density_given_x(
    reference: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    config = json.loads(CONFIG.read_text())
    network = config["model_config"]["custom_transformer_nvp_config"]
    network["conditional_flow_density"]["ignore_conditional_velocity"] = True
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    flow = import_published(CHECKPOINT, path, TOPOLOGY).double()
    y, w, x, v = (reference[k] for k in ("y", "y_velocs", "x", "x_velocs"))
    with torch.inference_mode():
        result = flow.log_prob_given_velocities(y, w, x, v)
    torch.testing.assert_close(result, reference["log_likelihood_x_only"], rtol=1e-6, atol=0)


def test_command_writes_a_model(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    import_command(
        ImportOptions(
            checkpoint=CHECKPOINT, config=CONFIG, topology=TOPOLOGY, out=path, temperature=300.0
        )
    )
    metadata = read_metadata(path)
    assert metadata.temperature == 300.0
    assert metadata.molecule is not None
    assert metadata.molecule.num_atoms == 22
    assert metadata.provenance["imported_from"] == "random_small.pt"


class Trap:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, path: Path, by: str) -> None:
        self.path, self.by = path, by

    def __reduce__(self) -> object:
        if self.by == "function":
            return (open, (str(self.path), "w"))
        return (Path.touch, (self.path,))


class TrainingConfig:
    """Stands for the configuration object in published checkpoints."""

    def __init__(self) -> None:
        self.name, self.sizes = "kernel", {"d_model": 32}


def test_foreign_objects_are_neither_executed_nor_in_the_way(tmp_path: Path) -> None:
    weights = torch.load(CHECKPOINT, weights_only=True)
    mark = tmp_path / "executed"
    path = tmp_path / "with_objects.pt"
    torch.save(
        weights | {"training_config": TrainingConfig(), "extra": Trap(mark, "function")}, path
    )
    state = read_checkpoint(path)
    assert not mark.exists()
    assert all(torch.equal(state[k], v) for k, v in weights["model_state_dict"].items())


def test_checkpoint_that_calls_what_it_made_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    path = tmp_path / "trap.pt"
    torch.save({"model_state_dict": {}, "extra": Trap(mark, "method")}, path)
    with pytest.raises(ValueError, match="can't be read as a checkpoint"):
        read_checkpoint(path)
    assert not mark.exists()


def test_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.pt"
    text.write_text("not a checkpoint")
    with pytest.raises(ValueError, match="can't be read as a checkpoint"):
        read_checkpoint(text)
    other = tmp_path / "other.pt"
    torch.save({"weights": torch.zeros(3)}, other)
    with pytest.raises(ValueError, match="holds no model_state_dict"):
        read_checkpoint(other)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        read_checkpoint(tmp_path / "missing.pt")


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        (("model_type",), "equivariant_nvp", "kernel attention"),
        (("custom_transformer_nvp_config", "num_coupling_layers"), 2, "tensors more"),
        (("custom_transformer_nvp_config", "num_coupling_layers"), 6, "has no flow.chain.5"),
        (("custom_transformer_nvp_config", "atom_embedding_dim"), 8, "atom_embedder.weight is"),
        (
            ("custom_transformer_nvp_config", "encoder_layer_config", "attention_type"),
            "local",
            "attention_type",
        ),
        (
            ("custom_transformer_nvp_config", "encoder_layer_config", "lengthscales"),
            [0.1, 0.2, 0.5, 0.7, 1.0, 1.3],
            "length scales",
        ),
    ],
)
def test_configuration_that_does_not_belong_is_refused(
    entry: tuple[str, ...], value: object, message: str, tmp_path: Path
) -> None:
    config = json.loads(CONFIG.read_text())
    inner = config["model_config"]
    for key in entry[:-1]:
        inner = inner[key]
    inner[entry[-1]] = value
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        import_published(CHECKPOINT, path, TOPOLOGY)
