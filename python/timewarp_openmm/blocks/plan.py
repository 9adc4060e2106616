"""The file that says which blocks a structure is sampled with: YAML, made by ``blocks``, edited by
people, and read by ``sample --blocks``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..bounds import SHARE, NonNegative, Temperature
from ..files import sha256_of, write_bytes_atomically
from ..library import SIDE_CHAIN, Library
from .kinds import MOLECULE, PART, Kind

_HEADER = """\
# Blocks for `timewarp-openmm sample --blocks`, which reads the structure, force_field, library,
# models and blocks. Leave out blocks by removing their lines, and have some tried more often by a
# greater weight. exposed, acceptance and rotamer_changes are what was measured, and not_served says
# why other residues have no block; both are for the reader.
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


class PlannedModel(_Section):
    """A model file.

    Attributes
    ----------
    file : str
        Absolute, or relative to the plan's folder.
    sha256 : str
        Another model under the same name would make other blocks.
    """

    file: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class PlannedBlock(_Section):
    """A block.

    Attributes
    ----------
    residue : str
        As ``A:VAL12``, or the first and the last of several, as ``A:ACE1 to A:NME5``.
    weight : float
        How often it is tried, in proportion to the others' weights.
    kind : str
    model : str, optional
        The file, one of the plan's `models`; none of a side chain, whose model is the library's.
    atom : str, optional
        The name of an atom that it moves, where a model has several places in its residues.
    exposed : float, optional
        The share of the surface of what it moves that is exposed.
    acceptance : float, optional
        Of single proposals.
    proposals, rotamer_changes : int, optional
        How many proposals were tried to measure it, and how many accepted ones led into another
        rotamer.
    """

    residue: str
    weight: NonNegative = 1.0
    kind: Kind = "side chain"
    model: str | None = None
    atom: str | None = None
    exposed: Annotated[float, SHARE] | None = None
    acceptance: Annotated[float, SHARE] | None = None
    proposals: Annotated[int, Field(ge=0)] | None = None
    rotamer_changes: Annotated[int, Field(ge=0)] | None = None

    @property
    def name(self) -> str:
        """What people call it: ``A:VAL12``, ``B:LIG1 (molecule, ligand.pt)``."""
        if self.kind == SIDE_CHAIN:
            return self.residue
        given = self.model is not None and self.kind in (MOLECULE, PART)
        model = f", {Path(self.model or '').name}" if given else ""
        return f"{self.residue}{':' + self.atom if self.atom else ''} ({self.kind}{model})"


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
    temperature : float
        K.
    blocks : list of PlannedBlock
    library : PlannedLibrary, optional
        Of the side chains' models; none where no side chain is a block.
    models : list of PlannedModel
        The other blocks'.
    force_field : list of str, optional
        OpenMM's files; none where a System was given.
    not_served : list of NotServed
    """

    format: Literal[1]
    structure: str
    library: PlannedLibrary | None = None
    temperature: Temperature
    models: list[PlannedModel] = []
    blocks: list[PlannedBlock]
    force_field: list[str] | None = None
    not_served: list[NotServed] = []


def proposed_weight(exposed: float | None) -> float:
    """Return how often to try a block of whose surface a share is exposed; None: all that can be.

    Buried ones seldom find room before their neighbours move, so that they are tried less often: a
    tenth as often as those exposed by more than `EXPOSED`, and in proportion between.
    """
    if exposed is None:
        return 1.0
    return round(min(1.0, max(LEAST_WEIGHT, exposed / EXPOSED)), 2)


def write_plan(path: Path, plan: BlockPlan) -> None:
    """Write a plan, a line for each block."""
    content = plan.model_dump(exclude_none=True)
    names = ("models", "blocks", "not_served") if plan.models else ("blocks", "not_served")
    rows = {name: content.pop(name) for name in names}
    content.pop("models", None)
    lines = [_HEADER.rstrip(), *(_entry(name, value) for name, value in content.items())]
    for name, entries in rows.items():
        lines.append(f"{name}:" + ("" if entries else " []"))
        lines += [f"- {_in_one_line(entry)}" for entry in entries]
    write_bytes_atomically(path, ("\n".join(lines) + "\n").encode())


def _entry(name: str, value: Any) -> str:
    if isinstance(value, dict | list):
        return f"{name}: {_in_one_line(value)}"
    return str(yaml.safe_dump({name: value})).rstrip()


def _in_one_line(entry: dict[str, Any] | list[Any]) -> str:
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
    known = {model.file for model in plan.models}
    seen: dict[tuple[str | None, ...], int] = {}
    for number, block in enumerate(plan.blocks):
        line = _line_of(nodes, ("blocks", number))
        if (problem := _why_not_valid(block, plan, known)) is not None:
            raise ValueError(f"{path}: line {line}: {problem}")
        key = (block.residue, block.model, block.atom)
        if key in seen:
            raise ValueError(
                f"{path}: line {line} has a second block of {block.name}, after line "
                f"{seen[key]}; remove one of them"
            )
        seen[key] = line


def _why_not_valid(block: PlannedBlock, plan: BlockPlan, known: AbstractSet[str]) -> str | None:
    """Return what a block lacks or has too much of, and what to do about it."""
    if block.kind == SIDE_CHAIN:
        if block.model is not None or block.atom is not None:
            return (
                f"the side chain {block.residue} has the library's model, and neither model nor "
                "atom; remove these, or name another kind"
            )
        if plan.library is None:
            return (
                f"the side chain {block.residue} has the library's model, but no library is named; "
                "remove the line, or make the blocks again with timewarp-openmm blocks"
            )
    elif block.model is None:
        return f"the {block.kind} {block.residue} has no model; name its file, one of the models"
    elif block.model not in known:
        return (
            f"{block.residue} has the model {block.model}, which is none of the models; add its "
            "file and SHA-256 there"
        )
    return None


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


def describe_model(path: Path, folder: Path) -> PlannedModel:
    """Return how a plan in `folder` names a model file."""
    return PlannedModel(file=portable(path, folder), sha256=sha256_of(path))
