"""Making a library: a model of each residue's side chain, for use in any peptide and protein."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import openmm
import torch
from numpy.typing import NDArray

from .. import __version__
from ..bounds import MINUTES, SEED, TEMPERATURE, WORKERS
from ..files import exclusive_lock, sha256_of, write_bytes_atomically
from ..flows.internal.config import InternalFlowConfig
from ..library import FORMAT, LIBRARY_FILE, EntryContent, LibraryContent, read_content
from ..molecule.selection import side_chains
from ..simulation.backbone_spread import backbone_free_energy, with_spread_backbone
from ..simulation.capped_peptides import SIDE_CHAINS, capped_peptide
from ..stages import compare, refuse
from ..stored import read_arrays, write_arrays
from .budget import FitBudget
from .fit import LOCK_FILE, Display, Validation, fit
from .settings import FitSettings

_BACKBONE_FILE = "backbone.npz"
_REMEDY = "remove it, so that it is made again"
#: Residues without rotamers of their own, by Amber's names, and why no library has them.
NOT_MOVED = {
    "ALA": "its only torsion turns a methyl group, whose hydrogens are equivalent",
    "CYX": "its side chain is one with that of another residue",
    "GLY": "it has no side chain",
    "PRO": "its side chain is a ring over the backbone",
}
#: Smaller than the flow of one molecule: 23 of them have to fit into a package.
SIDE_CHAIN_FLOW = InternalFlowConfig(rotatable_hidden=48, stiff_hidden=64, stiff_layers=4)
#: A spread backbone has many basins, which short trajectories tell enough of.
SIDE_CHAIN_BUDGET = FitBudget(
    explore_share=0.1,
    simulate_share=0.2,
    train_share=0.08,
    refine_rate=1.5e-3,
    runs_per_basin=2,
    equilibration=2.0,
    shortest=5.0,
    least_basins=12,
    most_basins=64,
)
#: Of the models' weights: files of two thirds of the size. Acceptance is measured with them.
WEIGHT_BITS = 10
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
    residues : tuple of str
        Amber's names.
    minutes : float
        Wall time for each residue.
    temperature : float
        K.
    seed : int
    workers : int
        Threads or processes.
    metadynamics : float
        ps, for the free energy of the backbone.
    """

    name: str
    force_field: tuple[str, ...]
    residues: tuple[str, ...] = tuple(SIDE_CHAINS)
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
        unknown = [name for name in self.residues if name not in SIDE_CHAINS]
        for name in unknown:
            reason = f": {NOT_MOVED[name]}" if name in NOT_MOVED else ""
            raise ValueError(
                f"no library has a model of {name}{reason}; choose among {', '.join(SIDE_CHAINS)}"
            )

    def identity(self) -> dict[str, object]:
        """Return what makes two libraries the same; more minutes and residues go on with one."""
        return {
            "name": self.name,
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
    budget: FitBudget = SIDE_CHAIN_BUDGET,
) -> LibraryContent:
    """Make a model of each residue's side chain, and the file that lists them.

    The same call goes on with what an interrupted one has left, and the list is written after each
    residue. A call with more minutes or residues goes on with a finished library.

    Parameters
    ----------
    out : path
        The library's folder: ``library.json``, and for each residue a model and its card. Stages
        leave their files in ``<out>.work``.
    force : bool
        Replace a library of other settings.

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
    capped_peptide([settings.residues[0]], settings.force_field)
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(work / LOCK_FILE):
        # Another process may have gone on with it meanwhile.
        content = _open(out, settings, force)
        free_energy = _backbone(work / _BACKBONE_FILE, settings)
        for number, name in enumerate(settings.residues):
            display.residue(name, number, len(settings.residues))
            if not _is_done(out, content, name, settings):
                _add(out, work, content, name, settings, free_energy, display, budget)
    return content


def _open(out: Path, settings: LibrarySettings, force: bool) -> LibraryContent:
    """Return the content of a library, an empty one if there is none."""
    path = out / LIBRARY_FILE
    if path.is_file():
        content = read_content(path)
        there = {**content, "seed": content["made_with"].get("seed")}
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
            "metadynamics": settings.metadynamics,
            "flow": SIDE_CHAIN_FLOW.model_dump(mode="json", exclude={"lag_times", "moved"}),
            "minutes": {},
        },
        "entries": [],
        "not_moved": dict(NOT_MOVED),
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


def _add(
    out: Path,
    work: Path,
    content: LibraryContent,
    name: str,
    settings: LibrarySettings,
    free_energy: NDArray[np.float64],
    display: LibraryDisplay,
    budget: FitBudget,
) -> None:
    """Make the model of one residue and write the list with it, or with why there is none."""
    molecule = with_spread_backbone(capped_peptide([name], settings.force_field), free_energy)
    asked = FitSettings(
        minutes=settings.minutes,
        temperature=settings.temperature,
        seed=settings.seed,
        workers=settings.workers,
        moved=tuple(sorted(side_chains(molecule.topology))),
        flow=SIDE_CHAIN_FLOW,
        weight_bits=WEIGHT_BITS,
    )
    path = out / f"{name}.pt"
    others = [entry for entry in content["entries"] if entry["residue"] != name]
    try:
        found = fit(molecule, path, asked, work / name, display, force=True, budget=budget)
    except ValueError as error:
        display.tell(f"{name}: {error}")
        if len(others) < len(content["entries"]):
            return
        content["not_moved"][name] = f"its fit failed: {error}"
    else:
        entries = [*others, _entry(name, path, found)]
        content["entries"] = sorted(entries, key=lambda entry: entry["residue"])
        content["not_moved"].pop(name, None)
        content["made_with"]["minutes"][name] = settings.minutes
    text = json.dumps(content, indent=1) + "\n"
    write_bytes_atomically(out / LIBRARY_FILE, text.encode())


def _entry(name: str, path: Path, found: Validation) -> EntryContent:
    return {
        "residue": name,
        "kind": "side chain",
        "file": path.name,
        "sha256": sha256_of(path),
        "acceptance": found.acceptance,
        "error": found.error,
        "lowest": found.lowest,
        "sites": found.chains,
    }
