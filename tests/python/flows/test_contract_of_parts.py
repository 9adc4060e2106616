"""Models that move a part of their atoms, and models that keep lengths of bonds: what the contract
asks of them, and that Python and the plugin both see what breaks it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openmm
import pytest
import torch
from reference_models import SPHERICAL_FAULTS, TREES, save_model, spherical

from timewarp_openmm import TimewarpMCMCIntegrator
from timewarp_openmm.contract import ContractError, ModelMetadata, read_metadata
from timewarp_openmm.flows import check_contract, export_model

#: What each fault is called by Python, and by the plugin. The plugin has no Jacobians: a density
#: that is wrong in both directions alike is seen when a file is written.
MESSAGES = {
    "context moves": ("context atoms and x, which are to be the very same", "of context atoms by"),
    "volume missing": ("density from the Jacobian", None),
    "kept is resampled": ("deviates have no effect|kept bond", "which is to be kept, by"),
    "kept has a density": ("density from the Jacobian", None),
}


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("context", [False, True])
def test_models_that_keep_the_contract_are_written_and_loaded(
    tree: str, context: bool, tmp_path: Path
) -> None:
    module, metadata = spherical(tree, context)
    path = export_model(module, metadata, tmp_path / "m.pt")
    found = read_metadata(path)
    atoms = len(TREES[tree])
    assert found.moved_atoms() == list(range(int(context), atoms))
    assert found.context_atoms() == list(range(int(context)))
    assert found.stretches == [[TREES[tree][i], i] for i in range(1, atoms)]
    check_contract(torch.jit.load(str(path)), found)
    TimewarpMCMCIntegrator(str(path))


@pytest.mark.parametrize("fault", SPHERICAL_FAULTS)
def test_each_fault_is_refused_when_written_and_when_loaded(fault: str, tmp_path: Path) -> None:
    module, metadata = spherical("star", True, fault)
    python, plugin = MESSAGES[fault]
    with pytest.raises(ContractError, match=python):
        export_model(module, metadata, tmp_path / "m.pt")
    save_model(module, metadata, tmp_path / "m.pt")
    if plugin is not None:
        with pytest.raises(openmm.OpenMMException, match=plugin):
            TimewarpMCMCIntegrator(str(tmp_path / "m.pt"))


class LooksAtContextRows(torch.nn.Module):
    """Takes context atoms from y in `log_prob`, whose rows of them are nothing to go by."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, _ = spherical("star", True)

    @torch.jit.export
    def sample(
        self, x: torch.Tensor, noise: torch.Tensor, lag: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.inner.sample(x, noise, lag)

    @torch.jit.export
    def log_prob(
        self, y: torch.Tensor, w: torch.Tensor, x: torch.Tensor, lag: torch.Tensor
    ) -> torch.Tensor:
        return self.inner.log_prob(y, w, y, lag)

    @torch.jit.export
    def invert(
        self, y: torch.Tensor, w: torch.Tensor, x: torch.Tensor, lag: torch.Tensor
    ) -> torch.Tensor:
        return self.inner.invert(y, w, x, lag)


def test_densities_take_context_atoms_from_x(tmp_path: Path) -> None:
    _, metadata = spherical("star", True)
    metadata.stretches = None
    with pytest.raises(ContractError, match="other rows of context atoms in y and w"):
        export_model(LooksAtContextRows(), metadata, tmp_path / "m.pt")
    save_model(LooksAtContextRows(), metadata, tmp_path / "m.pt")
    with pytest.raises(openmm.OpenMMException, match="log_prob depends on the rows of context"):
        TimewarpMCMCIntegrator(str(tmp_path / "m.pt"))


def test_a_model_without_the_constrained_methods_is_refused(tmp_path: Path) -> None:
    _, metadata = spherical("star", True)
    with pytest.raises(ContractError, match="no method sample_constrained"):
        export_model(LooksAtContextRows(), metadata, tmp_path / "m.pt")
    save_model(LooksAtContextRows(), metadata, tmp_path / "m.pt")
    with pytest.raises(openmm.OpenMMException, match="no method sample_constrained"):
        TimewarpMCMCIntegrator(str(tmp_path / "m.pt"))


def test_old_files_move_all_atoms_and_say_nothing_of_stretches() -> None:
    content = json.loads(spherical("star")[1].to_json())
    del content["moved"], content["stretches"], content["torsion_noise"]
    old = ModelMetadata.from_json(json.dumps(content))
    assert old.moved_atoms() == [0, 1, 2, 3]
    assert old.context_atoms() == []
    assert old.stretches is None
    assert old.torsion_noise is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"moved": []}, "moved"),
        ({"moved": [2, 1]}, "moved"),
        ({"moved": [1, 1]}, "moved"),
        ({"moved": [1, 4]}, "moved"),
        ({"moved": [1.5]}, "moved"),
        ({"molecule": None, "stretches": None}, "moved"),
        ({"stretches": [[1, 2]]}, "not bonded"),
        ({"stretches": [[1, 0]]}, "moved"),
        ({"stretches": [[0, 1], [0, 1]]}, "another"),
        ({"stretches": [[0, 7]]}, "stretches|bonded"),
        ({"stretches": [[0, 1, 2]]}, "stretches"),
        ({"torsion_noise": [3, 2]}, "torsion_noise"),
        ({"torsion_noise": [3, 3]}, "torsion_noise"),
        ({"torsion_noise": [18]}, "torsion_noise"),
        ({"torsion_noise": [-1]}, "torsion_noise"),
        ({"torsion_noise": [[0]]}, "torsion_noise"),
    ],
)
def test_wrong_entries_are_refused_by_both_readers(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    module, metadata = spherical("star", True)
    content = {**json.loads(metadata.to_json()), **changes}
    with pytest.raises(ContractError, match=message):
        ModelMetadata.from_json(json.dumps(content))
    metadata.to_json = lambda: json.dumps(content)  # type: ignore[method-assign]
    save_model(module, metadata, tmp_path / "m.pt")
    with pytest.raises(openmm.OpenMMException, match=message):
        TimewarpMCMCIntegrator(str(tmp_path / "m.pt"))
