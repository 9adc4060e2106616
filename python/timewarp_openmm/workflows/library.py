"""Making a library: a model of each residue, or of its side chain, for use in any peptide."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import openmm
import torch
from numpy.typing import NDArray

from .. import __version__
from ..bounds import MINUTES, SEED, TEMPERATURE, WORKERS
from ..files import exclusive_lock, sha256_of, write_bytes_atomically
from ..library import FORMAT, LIBRARY_FILE, SIDE_CHAIN, EntryContent, LibraryContent, read_content
from ..simulation.backbone_spread import backbone_free_energy, with_spread_backbone
from ..simulation.capped_peptides import capped_peptide
from ..simulation.systems import MolecularSystem
from ..stages import compare, refuse
from ..stored import read_arrays, write_arrays
from ..workers.base import Workers
from ..workers.opening import using
from .budget import FitBudget
from .distant_fit import FitTask, fit_anywhere, pack
from .fit import LOCK_FILE, Display, Validation, fit, fit_identity, make_way
from .library_kinds import KINDS, WEIGHT_BITS
from .settings import FitSettings

_BACKBONE_FILE = "backbone.npz"
_REMEDY = "remove it, so that it is made again"
#: ps of metadynamics that the backbone's free energy is made of.
METADYNAMICS = 1000.0


@dataclass(frozen=True)
class LibrarySettings:
    """What is asked of a library.

    Attributes
    ----------
    name : str
    force_field : tuple of str
        OpenMM's force field files.
    kind : str
        What it holds models of, by their names in `KINDS`.
    residues : tuple of str
        Amber's names; all that there are models of if none is named.
    ends : bool
        Whether models of these at charged ends of chains are asked for, too.
    minutes : float
        Wall time for each residue.
    temperature : float
        K.
    seed : int
    workers : int
        Threads or processes.
    metadynamics : float
        ps, for the free energy of the backbone, where it is spread.
    """

    name: str
    force_field: tuple[str, ...]
    kind: str = SIDE_CHAIN
    residues: tuple[str, ...] = ()
    ends: bool = False
    minutes: float = 10.0
    temperature: float = 300.0
    seed: int = 1
    workers: int = 2
    metadynamics: float = METADYNAMICS

    def __post_init__(self) -> None:
        MINUTES.check("minutes", self.minutes)
        TEMPERATURE.check("temperature", self.temperature)
        SEED.check("seed", self.seed)
        WORKERS.check("workers", self.workers)
        if self.kind not in KINDS:
            raise ValueError(f"no library is of {self.kind!r}; choose among {', '.join(KINDS)}")
        kind = KINDS[self.kind]
        for name in self.residues:
            if name not in (*kind.residues, *kind.ends):
                known = kind.not_moved.get(name) or (kind.ends and kind.not_moved.get(name[1:]))
                reason = f": {known}" if known else ""
                ends = f", {', '.join(kind.ends)}" if kind.ends else ""
                raise ValueError(
                    f"no library of this kind has a model of {name}{reason}; choose among "
                    f"{', '.join(kind.residues)}{ends}"
                )
        if self.ends and not kind.ends:
            raise ValueError(
                "models at ends of chains are of whole residues: ask for --kind residues, or leave "
                "--ends out"
            )

    def chosen(self) -> tuple[str, ...]:
        """Return the residues that are asked for."""
        kind = KINDS[self.kind]
        named = self.residues or kind.residues
        at_ends = [end for end in kind.ends if self.ends and end[1:] in named]
        return tuple(dict.fromkeys([*named, *at_ends]))

    def identity(self) -> dict[str, object]:
        """Return what makes two libraries the same; more minutes and residues go on with one."""
        return {
            "name": self.name,
            "kind": self.kind,
            "force_field": list(self.force_field),
            "temperature": self.temperature,
            "seed": self.seed,
        }


class LibraryDisplay(Display, Protocol):
    """Shows where the building of a library stands."""

    def residue(self, name: str, number: int, count: int) -> None: ...


def build_library(
    out: str | Path,
    settings: LibrarySettings,
    display: LibraryDisplay,
    force: bool = False,
    budget: FitBudget | None = None,
    workers: Workers | None = None,
) -> LibraryContent:
    """Make a model of each residue, or of its side chain, and the file that lists them.

    The same call goes on with what an interrupted one has left, and the list is written after each
    residue. A call with more minutes or residues goes on with a finished library.

    Parameters
    ----------
    out : path
        The library's folder: ``library.json``, and for each residue a model and its card. Stages
        leave their files in ``<out>.work``.
    force : bool
        Replace a library of other settings.
    budget : FitBudget, optional
        By default that of the kind.
    workers : Workers, optional
        Instead of so many processes of this machine as the settings say. Those of a cluster make a
        model each, all of it; those of this machine work on one model after the other together.

    Returns
    -------
    LibraryContent
        What ``library.json`` holds. A residue whose fit failed keeps the model that it had; one
        without is among those not moved, with the reason, and the same call tries it again.

    Raises
    ------
    FileExistsError
        If `out` holds something else, and `force` is false.
    ValueError
        If a force field file cannot be read.
    """
    out = Path(out)
    work = out.with_name(f"{out.name}.work")
    # Refused before time is spent or anything is written.
    _open(out, settings, force)
    capped_peptide([settings.chosen()[0]], settings.force_field)
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    with (
        using(settings.workers if workers is None else workers) as where,
        exclusive_lock(work / LOCK_FILE),
    ):
        # Another process may have gone on with it meanwhile.
        content = _open(out, settings, force)

        def enter(name: str, found: Validation | str) -> None:
            _enter(out, work, content, name, settings, display, found)

        names = settings.chosen()
        if where.elsewhere:
            missing = [name for name in names if not _is_done(out, content, name, settings)]
            fits = [_asked(out, work, name, settings, budget) for name in missing]
            _fit_elsewhere(fits, display, where, enter)
            return content
        for number, name in enumerate(names):
            display.residue(name, number, len(names))
            if not _is_done(out, content, name, settings):
                asked = _asked(out, work, name, settings, budget)
                enter(name, _fit_here(asked, display, where))
    return content


def _open(out: Path, settings: LibrarySettings, force: bool) -> LibraryContent:
    """Return the content of a library, an empty one if there is none."""
    path = out / LIBRARY_FILE
    if path.is_file():
        content = read_content(path)
        made_with = content["made_with"]
        there = {
            **content,
            "seed": made_with.get("seed"),
            "kind": made_with.get("kind", SIDE_CHAIN),
        }
        different = compare(there, settings.identity())
        if not different:
            return content
        if not force:
            raise refuse(out, "another library", different)
    elif out.exists() and any(out.iterdir()) and not force:
        raise FileExistsError(f"{out} is there and holds no library; name another folder")
    return {
        "format": FORMAT,
        "name": settings.name,
        "force_field": list(settings.force_field),
        "temperature": settings.temperature,
        "made_with": {
            "seed": settings.seed,
            "timewarp-openmm": __version__,
            "openmm": openmm.version.version,
            "torch": torch.__version__,
            "kind": settings.kind,
            "metadynamics": settings.metadynamics,
            "flow": KINDS[settings.kind].flow.model_dump(
                mode="json", exclude={"lag_times", "moved"}
            ),
            "minutes": {},
        },
        "entries": [],
        "not_moved": dict(KINDS[settings.kind].not_moved),
    }


def _is_done(out: Path, content: LibraryContent, name: str, settings: LibrarySettings) -> bool:
    if content["made_with"]["minutes"].get(name, 0.0) < settings.minutes:
        return False
    found = [entry for entry in content["entries"] if entry["residue"] == name]
    paths = [out / entry["file"] for entry in found]
    return [sha256_of(path) for path in paths if path.is_file()] == [e["sha256"] for e in found]


def _backbone(path: Path, settings: LibrarySettings) -> NDArray[np.float64]:
    """Return the free energy of the backbone, made once."""
    identity = json.dumps({**settings.identity(), "metadynamics": settings.metadynamics})
    if path.exists():
        stored = read_arrays(path, {"identity": "str", "free_energy": "float J I"}, _REMEDY)
        if str(stored["identity"]) == identity:
            return np.asarray(stored["free_energy"], dtype=np.float64)
    free_energy = backbone_free_energy(
        settings.force_field, settings.temperature, settings.metadynamics, settings.seed
    )
    write_arrays(path, {"identity": np.array(identity), "free_energy": free_energy})
    return free_energy


@dataclass(frozen=True)
class _Asked:
    """The fit of one residue, and where its files go."""

    name: str
    molecule: MolecularSystem
    settings: FitSettings
    budget: FitBudget
    model: Path
    work: Path


def _asked(
    out: Path, work: Path, name: str, settings: LibrarySettings, budget: FitBudget | None
) -> _Asked:
    kind = KINDS[settings.kind]
    molecule = capped_peptide([name], settings.force_field)
    if kind.spreads_backbone:
        molecule = with_spread_backbone(molecule, _backbone(work / _BACKBONE_FILE, settings))
    parts = kind.parts(molecule.topology)
    asked = FitSettings(
        minutes=settings.minutes,
        temperature=settings.temperature,
        seed=settings.seed,
        workers=settings.workers,
        moved=parts.moved,
        later_parts=parts.later_parts,
        flow=kind.flow,
        weight_bits=WEIGHT_BITS,
    )
    model = (out if kind.write is None else work) / f"{name}.pt"
    return _Asked(name, molecule, asked, budget or kind.budget, model, work / name)


def _fit_here(asked: _Asked, display: LibraryDisplay, workers: Workers) -> Validation | str:
    """Return what a fit has found, or why it has failed."""
    try:
        return fit(
            asked.molecule,
            asked.model,
            asked.settings,
            asked.work,
            display,
            force=True,
            budget=asked.budget,
            workers=workers,
        )
    except ValueError as error:
        return str(error)


def _fit_elsewhere(
    fits: Sequence[_Asked],
    display: LibraryDisplay,
    workers: Workers,
    enter: Callable[[str, Validation | str], None],
) -> None:
    """Have each fit done by one worker, and enter it as soon as it is finished."""
    pieces = {}
    for asked in fits:
        own = replace(asked.settings, workers=1)
        # What is of another fit is kept here, and not sent.
        identity = fit_identity(asked.molecule, own)
        make_way(asked.work, identity, display, force=True)
        task = FitTask(asked.molecule, own, asked.budget, pack(asked.work))
        pieces[workers.submit(fit_anywhere, task, name=f"the fit of {asked.name}")] = asked
    for number, piece in enumerate(as_completed(pieces)):
        outcome = piece.result()
        asked = next(asked for own, asked in pieces.items() if own is piece)
        display.residue(asked.name, number, len(fits))
        for message in outcome.told:
            display.tell(f"{asked.name}: {message}")
        outcome.write(asked.model, asked.work)
        enter(asked.name, outcome.found)


def _enter(
    out: Path,
    work: Path,
    content: LibraryContent,
    name: str,
    settings: LibrarySettings,
    display: LibraryDisplay,
    found: Validation | str,
) -> None:
    """Write the list with the model of one residue, or with why there is none."""
    kind, path = KINDS[settings.kind], out / f"{name}.pt"
    others = [entry for entry in content["entries"] if entry["residue"] != name]
    if isinstance(found, str):
        display.tell(f"{name}: {found}")
        if len(others) < len(content["entries"]):
            return
        content["not_moved"][name] = f"its fit failed: {found}"
    else:
        if kind.write is not None:
            kind.write(work / name, path)
            card = (work / f"{name}.md").read_bytes()
            write_bytes_atomically(path.with_suffix(".md"), card)
        entries = [*others, _entry(name, kind.name, path, found)]
        content["entries"] = sorted(entries, key=lambda entry: entry["residue"])
        content["not_moved"].pop(name, None)
        content["made_with"]["minutes"][name] = settings.minutes
    text = json.dumps(content, indent=1) + "\n"
    write_bytes_atomically(out / LIBRARY_FILE, text.encode())


def _entry(name: str, kind: str, path: Path, found: Validation) -> EntryContent:
    return {
        "residue": name,
        "kind": kind,
        "file": path.name,
        "sha256": sha256_of(path),
        "acceptance": found.acceptance,
        "error": found.error,
        "lowest": found.lowest,
        "sites": found.chains,
    }
