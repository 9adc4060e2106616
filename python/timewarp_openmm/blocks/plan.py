"""The file that says which blocks a structure is sampled with: YAML, made by ``blocks``, edited by
people, and read by ``sample --blocks``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..bounds import SHARE, NonNegative, Temperature
from ..files import write_bytes_atomically
from ..library import Library, open_library
from .sidechains import Block, find_sidechains

if TYPE_CHECKING:
    from openmm import app

_HEADER = """\
# Blocks for `timewarp-openmm sample --blocks`, which reads the structure, force_field, library and
# blocks. Leave out blocks by removing their lines, and have some tried more often by a greater
# weight. exposed, acceptance and rotamer_changes are what was measured, and not_served says why
# other residues have no block; both are for the reader.
"""


#: The share of a side chain's surface from which it counts as exposed.
EXPOSED = 0.3
#: Of blocks that are proposed.
LEAST_WEIGHT = 0.1


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlannedLibrary(_Section):
    """The library that the blocks' models are of.

    Attributes
    ----------
    name : str
    sha256 : str
        Of its ``library.json``: with another one the blocks may be others.
    folder : str, optional
        Absolute, or relative to the file's; of a bundled one none is needed.
    """

    name: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    folder: str | None = None


class PlannedBlock(_Section):
    """A block.

    Attributes
    ----------
    residue : str
        As ``A:VAL12``.
    weight : float
        How often it is tried, in proportion to the others' weights.
    kind : str
    exposed : float, optional
        The share of the side chain's surface that is exposed.
    acceptance : float, optional
        Of single proposals.
    proposals, rotamer_changes : int, optional
        How many proposals were tried to measure it, and how many accepted ones led into another
        rotamer.
    """

    residue: str
    weight: NonNegative = 1.0
    kind: Literal["side chain"] = "side chain"
    exposed: Annotated[float, SHARE] | None = None
    acceptance: Annotated[float, SHARE] | None = None
    proposals: Annotated[int, Field(ge=0)] | None = None
    rotamer_changes: Annotated[int, Field(ge=0)] | None = None


class NotServed(_Section):
    """Residues without a block, and why."""

    residues: list[str]
    reason: str


class BlockPlan(_Section):
    """What a structure is sampled with.

    Attributes
    ----------
    format : 1
    structure : str
        The structure's file, absolute or relative to the plan's.
    library : PlannedLibrary
    temperature : float
        K.
    blocks : list of PlannedBlock
    force_field : list of str, optional
        OpenMM's files; none where a System was given.
    not_served : list of NotServed
    """

    format: Literal[1]
    structure: str
    library: PlannedLibrary
    temperature: Temperature
    blocks: list[PlannedBlock]
    force_field: list[str] | None = None
    not_served: list[NotServed] = []


def proposed_weight(exposed: float) -> float:
    """Return how often to try a side chain of which a share of the surface is exposed.

    Buried ones seldom find room before their neighbours move, so that they are tried less often: a
    tenth as often as those exposed by more than `EXPOSED`, and in proportion between.
    """
    return round(min(1.0, max(LEAST_WEIGHT, exposed / EXPOSED)), 2)


def write_plan(path: Path, plan: BlockPlan) -> None:
    """Write a plan, a line for each block."""
    content = plan.model_dump(exclude_none=True)
    rows = {name: content.pop(name) for name in ("blocks", "not_served")}
    lines = [_HEADER + yaml.safe_dump(content, sort_keys=False, default_flow_style=None).rstrip()]
    for name, entries in rows.items():
        lines.append(f"{name}:" + ("" if entries else " []"))
        lines += [f"- {_in_one_line(entry)}" for entry in entries]
    write_bytes_atomically(path, ("\n".join(lines) + "\n").encode())


def _in_one_line(entry: dict[str, Any]) -> str:
    return str(
        yaml.safe_dump(entry, sort_keys=False, default_flow_style=True, width=10**6)
    ).rstrip()


def read_plan(path: Path) -> BlockPlan:
    """Read what `write_plan` wrote and people have edited.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not YAML or an entry is wrong; the message names lines and entries.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file of blocks at {path}")
    try:
        text = path.read_text(encoding="utf-8")
        content, nodes = yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no blocks; make it with timewarp-openmm blocks")
    try:
        plan = BlockPlan.model_validate(content)
    except ValidationError as error:
        problems = [
            f"  line {_line_of(nodes, item['loc'])}, "
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors()
        ]
        raise ValueError("\n".join([f"{path} is not valid:", *problems])) from error
    _check_blocks(path, plan, nodes)
    return plan


def _check_blocks(path: Path, plan: BlockPlan, nodes: yaml.Node | None) -> None:
    if not plan.blocks:
        raise ValueError(f"{path} has no blocks, so that there is nothing to sample with")
    if all(block.weight == 0 for block in plan.blocks):
        raise ValueError(f"{path}: all weights of blocks are 0; give one a weight above 0")
    seen: dict[str, int] = {}
    for number, block in enumerate(plan.blocks):
        line = _line_of(nodes, ("blocks", number))
        if block.residue in seen:
            raise ValueError(
                f"{path}: line {line} has a second block of {block.residue}, after line "
                f"{seen[block.residue]}; remove one of them"
            )
        seen[block.residue] = line


def _line_of(node: yaml.Node | None, place: Sequence[int | str]) -> int:
    """Return the line of an entry, or of the one around it that it is missing from."""
    line = 1
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
            if not found:
                break
            key, node = found[0]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def portable(path: Path, folder: Path) -> str:
    """Return a path as a plan in `folder` states it: relative to that if it lies within."""
    absolute = path.resolve()
    inside = absolute.is_relative_to(folder.resolve())
    return os.path.relpath(absolute, folder.resolve()) if inside else str(absolute)


def describe_library(library: Library, folder: Path) -> PlannedLibrary:
    """Return how a plan in `folder` names a library."""
    return PlannedLibrary(
        name=library.folder.name if library.is_bundled else library.name,
        sha256=library.digest,
        folder=None if library.is_bundled else portable(library.folder, folder),
    )


def planned_library(plan: BlockPlan, folder: Path) -> Library:
    """Return the library of a plan in `folder`.

    Raises
    ------
    FileNotFoundError, ValueError
        If it cannot be read, or is another one now.
    """
    named = plan.library
    library = open_library(named.name if named.folder is None else folder / named.folder)
    if library.digest != named.sha256:
        raise ValueError(
            f"the library {named.name} in {library.folder} is not the one that the blocks were "
            "made with; make them again with timewarp-openmm blocks, or restore the library"
        )
    return library


def planned_blocks(
    plan: BlockPlan,
    library: Library,
    topology: app.Topology,
    positions: NDArray[np.float64],
) -> list[tuple[Block, float]]:
    """Return the blocks of a plan with their weights, in the plan's order.

    The structure is any that has residues of these labels, such as the plan's own in water.

    Raises
    ------
    ValueError
        If a residue is not there, or the library has no model that fits it there; naming all such.
    """
    labels = [block.residue for block in plan.blocks]
    found = find_sidechains(topology, positions, labels, library)
    if found.unserved:
        problems = [f"  {entry.residue}: {entry.reason}" for entry in found.unserved]
        raise ValueError("\n".join(["some residues cannot be blocks here:", *problems]))
    by_label = {block.residue: block for block in found.blocks}
    return [(by_label[block.residue], block.weight) for block in plan.blocks]
