"""``timewarp-openmm fit``: from a structure to a validated model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import typer
from pydantic import Field

from ..bounds import ACCEPTANCE_TARGET, FIT_MINUTES, Seed, Temperature
from .options import (
    ARGUMENT,
    Options,
    OutputPath,
    SchedulerOption,
    WorkersOption,
    chosen_workers,
    scheduler_field,
    validated,
    workers_field,
)
from .progress import print_progress

if TYPE_CHECKING:
    import openmm

    from ..simulation.systems import MolecularSystem
    from ..workers.base import Workers
    from ..workflows.settings import FitSettings


class FitOptions(Options):
    """What ``timewarp-openmm fit`` is told."""

    structure: Annotated[Path, ARGUMENT] = Field(
        description="PDB, mmCIF, SDF, MOL or MOL2 file of one molecule with hydrogens (with "
        "--particles, of any structure), or a SMILES string (parametrised as by ligand, whose "
        "files go beside the model)."
    )
    out: OutputPath = Field(description="The model file to write (.pt).")
    force_field: list[str] | None = Field(
        None, description="OpenMM force field file; once per file."
    )
    system: Path | None = Field(None, description="A System XML instead.")
    minutes: Annotated[float, FIT_MINUTES] = Field(
        30.0, description="Wall time for everything, in all calls together."
    )
    particles: str | None = Field(
        None,
        description="Atoms of a larger structure that the model moves in place, such as 'resname "
        "LIG' or 'sidechain of resSeq 45', named as for --moved; what is around them is sampled "
        "by dynamics.",
    )
    moved: str | None = Field(
        None,
        description="Atoms that the model moves, and sees the others as context: sidechain (beyond "
        "the beta carbon), plane (between two alpha carbons, with what is on these), indices from "
        "0 (4,7-9), or an MDTraj selection; default: all.",
    )
    last: str | None = Field(
        None,
        description="Atoms that the model makes last, given all others that it moves, named as for "
        "--moved: with sidechain, side chains turn while the backbone stands still; default: all "
        "are made together.",
    )
    constraints: Literal["none", "HBonds"] = Field(
        "none",
        description="Constraints of the System in which acceptance is measured at the end; the "
        "model is made without any and serves both.",
    )
    temperature: Temperature = Field(310.0, description="Of the samples.")
    target: str | None = Field(
        None,
        description="A potential that the model is for: gfn2-xtb, ani1x, openmmml:NAME, "
        "module:function, file.py:function; default: the force field, with which it begins anyway.",
    )
    target_acceptance: Annotated[float, ACCEPTANCE_TARGET] = Field(
        0.9, description="Acceptance at which refining stops."
    )
    seed: Seed = Field(1, description="Seed of the whole fit.")
    workers: WorkersOption = workers_field()
    scheduler: SchedulerOption = scheduler_field()
    work: OutputPath | None = Field(
        None, description="Folder of the stages' files; default: <out>.work."
    )
    force: bool = Field(False, description="Replace the model that is there.")


def fit(options: FitOptions) -> None:
    """Make a model for a molecule: explore, simulate, train, refine, export, measure.

    The same command goes on with an interrupted fit; with more minutes, with a finished one.
    """
    with chosen_workers("fit", options.workers, options.scheduler) as workers:
        _fit(options, workers)


def _fit(options: FitOptions, workers: Workers) -> None:
    from ..molecule.selection import select_atoms
    from ..simulation.systems import load_molecule
    from ..workflows.settings import FitSettings

    if options.particles is not None:
        _fit_in_place(options, options.particles, workers)
        return
    structure, system = options.structure, options.system
    if not structure.exists() and _is_smiles(structure):
        structure, system = _parametrised(options)
    force_field = None if system is not None else options.force_field
    molecule = load_molecule(structure, force_field, system)

    def select(text: str | None) -> tuple[int, ...] | None:
        return None if text is None else select_atoms(molecule.topology, text)

    settings = FitSettings(
        options.minutes,
        options.temperature,
        options.target_acceptance,
        options.seed,
        workers.count(),
        select(options.moved),
        None if options.constraints == "none" else options.constraints,
        () if options.last is None else (select_atoms(molecule.topology, options.last),),
    )
    if options.target is not None:
        _fit_target(options, options.target, molecule, settings, workers)
        return
    where = " with bonds to hydrogen constrained" if settings.constraints else ""
    _run(options, molecule, settings, workers, where)


def _run(
    options: FitOptions,
    molecule: MolecularSystem,
    settings: FitSettings,
    workers: Workers,
    where: str,
    measured_in: openmm.System | None = None,
) -> None:
    """Run a fit, and say what the model accepts, and `where` that was measured."""
    from ..workflows.fit import fit as run_fit

    with FitDisplay(options.minutes) as display:
        result = run_fit(
            molecule,
            options.out,
            settings,
            options.work,
            display,
            options.force,
            workers=workers,
            measured_in=measured_in,
        )
    typer.echo(
        f"{options.out}: acceptance{where} {result.acceptance:.1%} +- {result.error:.1%} in "
        f"{result.chains} chains from different basins (lowest {result.lowest:.1%})"
    )


def _fit_in_place(options: FitOptions, particles: str, workers: Workers) -> None:
    from ..molecule.selection import select_atoms
    from ..simulation.surroundings import cut_surroundings
    from ..simulation.systems import DynamicsOptions, load_molecule
    from ..workflows.settings import FitSettings

    _check_in_place(options)
    force_field = None if options.system is not None else options.force_field
    dynamics = DynamicsOptions(flexible=True)
    whole = load_molecule(options.structure, force_field, options.system, dynamics)
    place = cut_surroundings(whole, select_atoms(whole.topology, particles))
    others = len(place.atoms) - len(place.fragment.moved)
    typer.echo(
        f"{len(place.fragment.moved)} atoms are moved among {others} around them, of "
        f"{len(whole.positions)} in the structure",
        err=True,
    )
    if place.similar_gbsa:
        typer.echo(
            "implicit solvent is OBC2 with the same charges and radii while the model is made, "
            "since OpenMM computes it many times as fast; chains have the System's own",
            err=True,
        )
    if place.left_out:
        typer.echo(
            f"left out of the energy while the model is made: {', '.join(place.left_out)}, which "
            "cannot be cut; chains in the whole System have it, and may accept less",
            err=True,
        )
    settings = FitSettings(
        options.minutes,
        options.temperature,
        options.target_acceptance,
        options.seed,
        workers.count(),
        fragment=place.fragment,
    )
    where = f" in place, among {others} atoms that stay,"
    _run(options, place.molecule, settings, workers, where, place.given)


def _check_in_place(options: FitOptions) -> None:
    """Refuse what goes with one molecule by itself only."""
    given = {
        "--moved": options.moved,
        "--last": options.last,
        "--target": options.target,
        "--constraints": None if options.constraints == "none" else options.constraints,
    }
    if conflicts := [name for name, value in given.items() if value is not None]:
        raise ValueError(
            f"--particles goes without {' and '.join(conflicts)}: it says itself what is moved, "
            "the energy is that of the structure's System, and so are the constraints"
        )
    if not options.structure.exists() and _is_smiles(options.structure):
        raise ValueError(
            f"--particles names a part of a structure, and {options.structure} is a SMILES string; "
            "give the file of the whole structure, with --system or --force-field"
        )


def _fit_target(
    options: FitOptions,
    target: str,
    molecule: MolecularSystem,
    settings: FitSettings,
    workers: Workers,
) -> None:
    from ..potentials.registry import find_potential
    from ..potentials.surrogates import surrogate_file
    from ..simulation.systems import with_potential
    from ..workflows.fit_target import fit_target

    potential = find_potential(target)
    on_target = with_potential(molecule, target)
    with FitDisplay(options.minutes) as display:
        found = fit_target(
            molecule,
            on_target,
            potential,
            options.out,
            settings,
            display,
            options.work,
            options.force,
            workers=workers,
        )
    typer.echo(
        f"{options.out}: on {target}, acceptance {found.proposals.acceptance:.1%} +- "
        f"{found.proposals.error:.1%} of single proposals in {found.proposals.chains} chains from "
        f"different basins (lowest {found.proposals.lowest:.1%}); with "
        f"{surrogate_file(options.out)} and subchains of {found.subchain}, "
        f"{found.energies.acceptance:.1%} of energies"
    )


def _is_smiles(structure: Path) -> bool:
    from ..molecule.ligand_input import is_smiles

    return is_smiles(str(structure))


def _parametrised(options: FitOptions) -> tuple[Path, Path]:
    """Return structure and System of a SMILES string, made now or by an earlier call."""
    from ..molecule.ligand_input import canonical_smiles, read_ligand
    from .ligand import LigandOptions, ligand_files, prepare

    if options.system is not None:
        raise ValueError("a SMILES string is parametrised; --system goes with a structure file")
    if len(options.force_field or ()) > 1:
        raise ValueError("a SMILES string has one --force-field, such as gaff-2.2.20")
    smiles, name = str(options.structure), options.out.with_suffix("")
    structure, system = ligand_files(name)
    if structure.exists() and system.exists():
        there, wanted = (canonical_smiles(read_ligand(s)) for s in (str(structure), smiles))
        if there != wanted:
            raise FileExistsError(f"{structure} is of {there}; name another --out for {wanted}")
        return structure, system
    for path in (structure, system):
        if path.exists():
            raise FileExistsError(f"{path} is there, and {structure} or {system} is not; remove it")
    force_field = options.force_field[0] if options.force_field else None
    given = {"source": smiles, "out": name, "seed": options.seed, "force_field": force_field}
    prepare(validated(LigandOptions, given))
    typer.echo(f"{smiles}: structure in {structure}, System in {system}", err=True)
    return structure, system


class FitDisplay:
    """Shows the stage, what it reports, and the time left of the budget."""

    def __init__(self, minutes: float) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._minutes = minutes
        self._began = time.monotonic()
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:18}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._name, self._next_line = "", 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def restart(self) -> None:
        """Begin another budget of the same time."""
        self._began = time.monotonic()

    def stage(self, name: str) -> None:
        """Begin a stage."""
        self._finish()
        self._name, self._next_line = name, 0.0
        self._bar = self._bars.add_task(name, total=1.0, note="")

    def update(self, done: float, note: str) -> None:
        """Show the part of the stage that is done, in [0, 1], and a note."""
        left = max(0.0, self._minutes - (time.monotonic() - self._began) / 60)
        text = f"{note}; at most {left:.1f} min left"
        self._bars.update(self._bar, completed=done, note=text)
        if not self._console.is_terminal and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + 20.0
            print_progress(f"{self._name}: {done:.0%} {text}")

    def tell(self, message: str) -> None:
        """Print what the user should know beyond progress."""
        self._console.print(message, highlight=False, soft_wrap=True)

    def _finish(self) -> None:
        if self._name:
            self._bars.update(self._bar, completed=1.0)
