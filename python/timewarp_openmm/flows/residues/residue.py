"""The flow of a residue with its caps, and its file in a library.

The file holds weights, not a program: peptides are made of the flow's links, which have to be
built again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, cast

import torch
from pydantic import AfterValidator, ConfigDict, with_config
from typing_extensions import TypedDict

from ...molecule.capped_residues import CappedResidueParts, capped_residue_parts
from ...molecule.graph import Molecule
from ...stored import RECORD, DamagedFileError, conform
from ..chained.config import ChainedFlowConfig
from ..chained.flow import ChainedFlow
from ..internal.flow import InternalFlow
from ..weights import load_tensors, restore_weights, save_tensors

_REMEDY = "restore it from a copy, or build the library's residue again"


def _fits_molecule(text: str) -> str:
    conform(json.loads(text), Molecule)
    return text


def _fits_config(text: str) -> str:
    ChainedFlowConfig.model_validate_json(text)
    return text


@with_config(ConfigDict(**RECORD, arbitrary_types_allowed=True))
class _Content(TypedDict):
    molecule: Annotated[str, AfterValidator(_fits_molecule)]
    flow: Annotated[str, AfterValidator(_fits_config)]
    positions: torch.Tensor
    weights: dict[str, torch.Tensor]


@dataclass(frozen=True)
class ResidueFlow:
    """A flow that makes a residue with its caps part by part (`CappedResidueParts`).

    Attributes
    ----------
    flow : ChainedFlow
        Its links are those of the three `parts`.
    molecule : Molecule
    positions : float64 Tensor [N, 3], nm
        A conformation, by which chirality is told.
    """

    flow: ChainedFlow
    molecule: Molecule
    positions: torch.Tensor

    @cached_property
    def parts(self) -> CappedResidueParts:
        return capped_residue_parts(self.molecule)

    @property
    def start(self) -> InternalFlow:
        """The link that makes what the residue hangs on."""
        return cast(InternalFlow, self.flow.links[0])

    @property
    def residue(self) -> InternalFlow:
        """The link that makes the residue."""
        return cast(InternalFlow, self.flow.links[1])

    @property
    def methyl(self) -> InternalFlow | None:
        """The link that makes the rest of the N-methyl group; None where there is none."""
        return cast(InternalFlow, self.flow.links[2]) if self.parts.methyl else None


def write_residue_flow(
    path: Path, flow: ChainedFlow, config: ChainedFlowConfig, molecule: Molecule, positions: object
) -> None:
    """Write a trained flow of a capped residue."""
    content: _Content = {
        "molecule": json.dumps(asdict(molecule)),
        "flow": config.model_dump_json(),
        "positions": torch.as_tensor(positions, dtype=torch.float64),
        "weights": flow.state_dict(),
    }
    save_tensors(path, content, compressed=True)


def read_residue_flow(path: Path) -> ResidueFlow:
    """Read what `write_residue_flow` wrote; no code in the file is run.

    Raises
    ------
    FileNotFoundError
    DamagedFileError
        If it is something else, a model file for instance.
    """
    content = load_tensors(path, _Content, "the flow of a capped residue", _REMEDY)
    molecule = conform(json.loads(content["molecule"]), Molecule)
    config = ChainedFlowConfig.model_validate_json(content["flow"])
    parts = capped_residue_parts(molecule)
    if not parts.start or config.later_parts != parts.later:
        raise DamagedFileError(path, "its flow does not make a residue with caps", _REMEDY)
    flow = ChainedFlow(config, molecule)
    restore_weights(flow, content["weights"], path, _REMEDY)
    return ResidueFlow(flow.eval().requires_grad_(False), molecule, content["positions"])
