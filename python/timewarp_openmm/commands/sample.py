"""``timewarp-openmm sample``: the OpenMM scripts of the README, from the command line."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field

from ..bounds import (
    BLOCK_PROPOSALS,
    CHAINS,
    CUTOFF,
    DYNAMICS_STEPS,
    EFFECTIVE_SAMPLES,
    FRICTION,
    HYDROGEN_MASS,
    RHAT,
    STEP_INTERVAL,
    STEPS,
    SUBCHAIN,
    TIMESTEP,
    Seed,
    Temperature,
)
from .options import (
    Options,
    OutputPath,
    SchedulerOption,
    WorkersOption,
    option_name,
    scheduler_field,
    workers_field,
)

if TYPE_CHECKING:
    import openmm
    from openmm import app

    from ..blocks.sidechains import Block
    from ..integrator import TimewarpMCMCIntegrator
    from ..simulation.systems import MolecularSystem

#: What is about dynamics between proposals, and goes with --blocks.
_WITH_BLOCKS = (
    "dynamics",
    "proposals",
    "blocks_per_try",
    "step_size",
    "friction",
    "cutoff",
    "hydrogen_mass",
)
#: What is about several chains.
_WITH_CHAINS = ("workers", "scheduler", "until_rhat", "until_ess")
#: What local energies leave out adds up, so that larger tries are seldom accepted.
_MOST_BLOCKS_PER_TRY = 8


class SampleOptions(Options):
    """What ``timewarp-openmm sample`` is told."""

    model: Path | None = Field(None, description="A model file (.pt), of the whole molecule.")
    blocks: Path | None = Field(
        None, description="A file of `blocks` instead: its blocks, and dynamics between."
    )
    pdb: Path | None = Field(
        None, description="Structure and starting positions; default: that of --blocks."
    )
    steps: Annotated[int, STEPS] = Field(
        description="Metropolis-Hastings iterations; with --blocks, rounds of dynamics and "
        "proposals."
    )
    out: OutputPath = Field(
        description="Trajectory to write (DCD); with --chains, a folder with one of each (HDF5)."
    )
    chains: Annotated[int, CHAINS] | None = Field(
        None,
        description="Run so many chains with --model, from different basins, in processes of this "
        "machine or on a cluster; the same call goes on with interrupted ones.",
    )
    workers: WorkersOption = workers_field("--chains")
    scheduler: SchedulerOption = scheduler_field("--chains")
    until_rhat: Annotated[float, RHAT] | None = Field(
        None,
        description="With --chains, end all of them once R-hat of the slowest torsion is no more; "
        "--steps are then the most.",
    )
    until_ess: Annotated[float, EFFECTIVE_SAMPLES] | None = Field(
        None,
        description="With --chains, likewise: effective samples of the slowest torsion, of all "
        "chains together.",
    )
    platform: str | None = Field(
        None, description="OpenMM platform; default: Reference, and with --blocks the fastest."
    )
    interval: Annotated[int, STEP_INTERVAL] = Field(10, description="Steps between frames.")
    temperature: Temperature | None = Field(
        None, description="Default: the model's, or that of --blocks."
    )
    subchain: Annotated[int, SUBCHAIN] | None = Field(
        None,
        description="Proposals tested with a surrogate energy (with --blocks their local one) "
        "before OpenMM's own decides; 0: none. Default: 0, or as many as the model was measured "
        "with if it comes with a surrogate.",
    )
    dynamics: Annotated[int, DYNAMICS_STEPS] | None = Field(
        None, description="With --blocks, time steps in each round (default 50)."
    )
    proposals: Annotated[int, BLOCK_PROPOSALS] | None = Field(
        None, description="With --blocks, proposals in each round (default: one for each block)."
    )
    blocks_per_try: Annotated[int, BLOCK_PROPOSALS] | None = Field(
        None,
        description="With --blocks, how many of the proposals OpenMM's energy decides on at once "
        f"(default: as many as make whole tries, up to {_MOST_BLOCKS_PER_TRY}).",
    )
    step_size: Annotated[float, TIMESTEP] | None = Field(
        None, description="With --blocks, of the dynamics (default 0.002)."
    )
    friction: Annotated[float, FRICTION] | None = Field(
        None, description="With --blocks, of the dynamics (default 1)."
    )
    cutoff: Annotated[float, CUTOFF] | None = Field(
        None,
        description="With --blocks, of the non-bonded energy; default: 1 in a box, none elsewhere.",
    )
    hydrogen_mass: Annotated[float, HYDROGEN_MASS] | None = Field(
        None, description="With --blocks, of hydrogens, repartitioned."
    )
    seed: Seed | None = Field(None, description="Random number seed.")
    force_field: list[str] | None = Field(
        None, description="OpenMM files; default: the model's, or those of --blocks."
    )
    system: Path | None = Field(None, description="A System XML instead.")
    target: str | None = Field(
        None,
        description="A potential to sample instead: gfn2-xtb, ani1x, openmmml:NAME, "
        "module:function, file.py:function. The force field is then the surrogate of --subchain.",
    )
    force: bool = Field(False, description="Replace the files that are there.")


@dataclass(frozen=True)
class _Run:
    """What is stepped.

    Attributes
    ----------
    simulation : openmm.app.Simulation
    integrator : TimewarpMCMCIntegrator
    step_time : float
        ps between two steps, in the trajectory.
    blocks : sequence of str
        What people call each; none for a chain of one model.
    """

    simulation: app.Simulation
    integrator: TimewarpMCMCIntegrator
    step_time: float
    blocks: Sequence[str] = ()


def sample(options: SampleOptions) -> None:
    """Sample a molecule with a model, or a structure with blocks, and write a trajectory."""
    from ..files import refuse_existing

    if (options.model is None) == (options.blocks is None):
        raise ValueError("give either --model or --blocks")
    if options.blocks is not None and options.target is not None:
        raise ValueError("--target is of a whole molecule and goes with --model")
    if options.chains is None:
        refuse_existing(options.out, options.force)
        _refuse(options, _WITH_CHAINS, "--chains")
    if options.blocks is not None:
        if options.chains is not None:
            raise ValueError("--chains goes with --model; run sample --blocks once for each chain")
        _record(options, _run_of_blocks(options, options.blocks))
        return
    _refuse(options, _WITH_BLOCKS, "--blocks")
    assert options.model is not None
    if options.chains is not None:
        from .sample_chains import sample_chains

        sample_chains(options, options.model)
        return
    _record(options, _run_of_model(options, options.model))


def _refuse(options: SampleOptions, names: Sequence[str], needed: str) -> None:
    """Refuse options that mean nothing without another one."""
    for name in names:
        if getattr(options, name) is not None:
            raise ValueError(f"{option_name(name)} goes with {needed}")


def _run_of_model(options: SampleOptions, model: Path) -> _Run:
    from .sample_model import load_sampled, set_surrogate

    molecule, metadata = load_sampled(options, model)

    # Loads the compiled plugin, so it comes after all that can be wrong without it.
    from ..integrator import TimewarpMCMCIntegrator

    integrator = TimewarpMCMCIntegrator(
        str(model),
        topology=molecule.topology,
        temperature=options.temperature,
        positions=molecule.positions,
    )
    set_surrogate(options, model, metadata, molecule, integrator)
    simulation = _simulation(options, molecule, integrator, options.platform or "Reference")
    return _Run(simulation, integrator, integrator.getStepSize())


def _run_of_blocks(options: SampleOptions, path: Path) -> _Run:
    from ..blocks.plan import read_plan
    from ..blocks.planned import planned_blocks, planned_library, planned_models
    from ..blocks.statistics import statistics_file
    from ..files import refuse_existing
    from ..seeds import shifted_seed
    from ..simulation.langevin import default_platform
    from ..simulation.systems import DynamicsOptions, load_molecule

    statistics = statistics_file(options.out)
    refuse_existing(statistics, options.force)
    plan = read_plan(path)
    library, models = planned_library(plan, path.parent), planned_models(plan, path.parent)
    force_field = options.force_field or plan.force_field
    if force_field is None and options.system is None:
        raise ValueError(
            f"{path} names no force field, because the blocks were made for a System; give that "
            "with --system, or name a --force-field"
        )
    dynamics = DynamicsOptions(options.cutoff, options.hydrogen_mass)
    molecule = load_molecule(
        options.pdb or path.parent / plan.structure,
        options.force_field if options.system is not None else force_field,
        options.system,
        dynamics,
    )
    blocks = planned_blocks(plan, library, models, molecule.topology, molecule.positions)
    names = [block.name for block in plan.blocks]

    # Load the compiled plugin, so they come after all that can be wrong without it.
    from ..integrator import TimewarpMCMCIntegrator
    from ..reporters import BlockReporter

    temperature = options.temperature or plan.temperature
    integrator = TimewarpMCMCIntegrator(temperature=temperature)
    for block, weight in blocks:
        integrator.addBlock(block.model, block.particles, weight)
    steps, step_size = options.dynamics or 50, options.step_size or 0.002
    integrator.setDynamics(steps, step_size, options.friction or 1.0)
    sharing = _blocks_per_try(options, molecule.system, [block for block, _ in blocks], names)
    tries, blocks_per_try = _tries_of_blocks(len(blocks), options.proposals, sharing)
    integrator.setProposalsPerStep(tries)
    integrator.setBlocksPerTry(blocks_per_try)
    if options.subchain:
        integrator.setSubchainLength(options.subchain)
    platform = options.platform or default_platform(molecule.system.getNumParticles())
    simulation = _simulation(options, molecule, integrator, platform)
    simulation.minimizeEnergy()
    seed = (shifted_seed(options.seed, 1),) if options.seed is not None else ()
    simulation.context.setVelocitiesToTemperature(temperature, *seed)
    simulation.reporters.append(BlockReporter(statistics, options.interval))
    return _Run(simulation, integrator, steps * step_size, names)


def _blocks_per_try(
    options: SampleOptions, system: openmm.System, blocks: Sequence[Block], names: Sequence[str]
) -> int | None:
    """Return how many blocks OpenMM's energy decides on at once; None: as suits their number.

    A block that moves all that has mass has no local energy, so that nothing can be decided with
    it.
    """
    massive = {i for i in range(system.getNumParticles()) if system.getParticleMass(i)._value > 0}
    alone = [n for b, n in zip(blocks, names, strict=True) if massive.issubset(b.moved)]
    if not alone:
        return options.blocks_per_try
    if options.blocks_per_try not in (None, 1):
        raise ValueError(
            f"--blocks-per-try {options.blocks_per_try} needs blocks that are parts of the "
            f"structure, and {alone[0]} is all of it; leave the option out"
        )
    return 1


def _tries_of_blocks(
    num_blocks: int, proposals: int | None, blocks_per_try: int | None
) -> tuple[int, int]:
    """Return the number of tries in a round, and of blocks in a try.

    Examples
    --------
    >>> _tries_of_blocks(121, None, None)
    (16, 8)
    >>> _tries_of_blocks(121, 10, None)
    (2, 5)
    """
    if proposals is None:
        size = blocks_per_try or min(_MOST_BLOCKS_PER_TRY, num_blocks)
        return math.ceil(num_blocks / size), size
    if blocks_per_try is None:
        sizes = range(1, _MOST_BLOCKS_PER_TRY + 1)
        blocks_per_try = max(size for size in sizes if proposals % size == 0)
    if proposals % blocks_per_try != 0:
        raise ValueError(
            f"--proposals {proposals} is no multiple of --blocks-per-try {blocks_per_try}"
        )
    return proposals // blocks_per_try, blocks_per_try


def _simulation(
    options: SampleOptions,
    molecule: MolecularSystem,
    integrator: TimewarpMCMCIntegrator,
    platform: str,
) -> app.Simulation:
    from openmm import app

    from ..seeds import shifted_seed
    from ..simulation.systems import make_platform

    if options.seed is not None:
        integrator.setRandomNumberSeed(shifted_seed(options.seed, 0))
    simulation = app.Simulation(
        molecule.topology, molecule.system, integrator, *make_platform(platform)
    )
    simulation.context.setPositions(molecule.positions)
    return simulation


def _record(options: SampleOptions, run: _Run) -> None:
    """Take the steps, and write a trajectory of them."""
    from openmm import app

    from ..files import open_exclusively
    from .progress import counting

    simulation, integrator = run.simulation, run.integrator
    steps, interval, out = options.steps, options.interval, options.out
    began, stuck = time.monotonic(), False
    # Not a DCDReporter: one that cannot write to a full disk prints a traceback when it goes.
    with (
        open_exclusively(out) as handle,
        counting("sampling", steps, "steps" if run.blocks else "iterations") as report,
    ):
        trajectory = app.DCDFile(handle, simulation.topology, run.step_time, interval, interval)
        for _ in range(steps // interval):
            simulation.step(interval)
            state = simulation.context.getState(positions=True)
            trajectory.writeModel(
                state.getPositions(), periodicBoxVectors=state.getPeriodicBoxVectors()
            )
            report(simulation.currentStep)
            stuck = stuck or _warn_if_stuck(run)
        simulation.step(steps % interval)
        stuck = stuck or _warn_if_stuck(run)
    seconds = time.monotonic() - began
    what = "steps" if run.blocks else "iterations"
    typer.echo(
        f"{out}: {steps // interval} frames, acceptance {integrator.getAcceptanceRate():.2%}, "
        f"{steps / seconds:.1f} {what}/s"
    )
    if (failed := integrator.getNumNonFinite()) > 0:
        typer.echo(f"{failed} proposals had no finite density or energy and were rejected")
    if run.blocks:
        _tell_of_blocks(run, out)


def _tell_of_blocks(run: _Run, out: Path) -> None:
    from ..blocks.statistics import statistics_file

    never = [
        name
        for i, name in enumerate(run.blocks)
        if run.integrator.getBlockStatistics(i).accepted == 0
    ]
    first, *others = run.blocks
    named = (
        f"{len(run.blocks)} blocks, in the order of {first} to {others[-1]}" if others else first
    )
    typer.echo(f"{statistics_file(out)}: {named}")
    if never:
        typer.echo(f"never moved by a proposal: {', '.join(never)}")


def _warn_if_stuck(run: _Run) -> bool:
    """Warn, once, of a chain that has accepted nothing in a thousand tries."""
    from ..simulation.chains import describe_stuck

    # Dynamics move what blocks do not; those that never moved are named at the end.
    if run.blocks:
        return False
    message = describe_stuck(run.simulation.currentStep, run.integrator.getNumAccepted())
    if message is not None:
        typer.echo(f"timewarp-openmm: warning: {message}", err=True)
    return message is not None
