"""The samplers that are compared, each advanced for a while at a time."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from ..simulation.gbsa import with_builtin_gbsa
from ..simulation.langevin import Langevin
from ..simulation.systems import MolecularSystem, make_platform
from ..units import NANOMETER

if TYPE_CHECKING:
    from ..integrator import TimewarpMCMCIntegrator

#: 1/ps, where no reference says otherwise.
FRICTION = 1.0
#: ps between recorded frames of MD; iterations between those of Timewarp.
MD_INTERVAL = 0.2
TIMEWARP_INTERVAL = 10
#: Iterations that let TorchScript compile and the batch size settle, not counted.
WARM_UP = 200
#: Dalton, with mass repartitioning.
HEAVY_HYDROGEN = 3.0
REPLICAS = 6
HOTTEST = 2.0


@dataclass(frozen=True)
class Thermostat:
    """Of every LangevinMiddleIntegrator in a benchmark: temperature / K and friction / (1/ps)."""

    temperature: float
    friction: float = FRICTION

    def dynamics(self, timestep: float) -> Langevin:
        """Return the dynamics with a time step / ps."""
        return Langevin(self.temperature, self.friction, timestep)


@dataclass
class Recording:
    """What a sampler has done so far, in stepping time alone.

    Attributes
    ----------
    seconds : float
        Wall time of stepping; recording is left out for every sampler alike.
    evaluations : int
        Energy (and force) evaluations.
    steps : int
        Time steps or iterations.
    picoseconds : float
        Simulated, 0 for Timewarp.
    frames : list of float32 array [N, 3], nm
    """

    seconds: float = 0.0
    evaluations: int = 0
    steps: int = 0
    picoseconds: float = 0.0
    frames: list[NDArray[np.float32]] = field(default_factory=list)


class Sampler(ABC):
    """A sampler with its own Context; `advance` runs it for a number of seconds of stepping."""

    def __init__(self) -> None:
        self.recording = Recording()

    def advance(self, seconds: float) -> None:
        """Step and record until `seconds` more of stepping have passed."""
        end = self.recording.seconds + seconds
        while self.recording.seconds < end:
            began = time.perf_counter()
            self.step()
            self.recording.seconds += time.perf_counter() - began
            self.record()

    @abstractmethod
    def step(self) -> None:
        """Step to the next frame."""

    @abstractmethod
    def record(self) -> None:
        """Count what was done and keep the frame."""


def _positions(context: openmm.Context) -> NDArray[np.float32]:
    state = context.getState(positions=True)
    return np.asarray(state.getPositions(asNumpy=True).value_in_unit(NANOMETER), dtype=np.float32)


class TimewarpSampler(Sampler):
    """The chain with a model."""

    def __init__(
        self,
        integrator: TimewarpMCMCIntegrator,
        system: openmm.System,
        start: NDArray[np.float64],
        platform: openmm.Platform,
        seed: int,
    ) -> None:
        super().__init__()
        self._integrator = integrator
        self._integrator.setRandomNumberSeed(seed)
        self._context = openmm.Context(system, self._integrator, platform)
        self._context.setPositions(start)
        self._integrator.step(WARM_UP)
        self._before = self._evaluated()

    def _evaluated(self) -> int:
        # A proposal that is not finite is rejected before its energy is asked for.
        return self._integrator.getNumProposed() - self._integrator.getNumNonFinite()

    def step(self) -> None:
        self._integrator.step(TIMEWARP_INTERVAL)

    def record(self) -> None:
        recording = self.recording
        recording.steps += TIMEWARP_INTERVAL
        # One more for the current energy, which is computed anew at each call.
        recording.evaluations += self._evaluated() - self._before + 1
        self._before = self._evaluated()
        recording.frames.append(_positions(self._context))


@dataclass(frozen=True)
class Dynamics:
    """What is simulated, where and how: a LangevinMiddleIntegrator at one time step / ps."""

    system: openmm.System
    platform: openmm.Platform
    thermostat: Thermostat
    timestep: float

    def integrator(self, seed: int) -> openmm.LangevinMiddleIntegrator:
        return self.thermostat.dynamics(self.timestep).integrator(seed)

    def prepare(self, context: openmm.Context, start: NDArray[np.float64], seed: int) -> None:
        """Put a Context to a start [N, 3] / nm, with velocities of the thermostat."""
        context.setPositions(start)
        context.applyConstraints(1e-6)
        context.setVelocitiesToTemperature(self.thermostat.temperature, seed)


class MolecularDynamics(Sampler):
    """Plain molecular dynamics."""

    def __init__(self, dynamics: Dynamics, start: NDArray[np.float64], seed: int) -> None:
        super().__init__()
        self._timestep = dynamics.timestep
        self._steps = round(MD_INTERVAL / dynamics.timestep)
        self._integrator = dynamics.integrator(seed)
        self._context = openmm.Context(dynamics.system, self._integrator, dynamics.platform)
        dynamics.prepare(self._context, start, seed)

    def step(self) -> None:
        self._integrator.step(self._steps)

    def record(self) -> None:
        frame = _positions(self._context)
        if not np.isfinite(frame).all():
            raise ValueError(f"MD at {1000 * self._timestep:g} fs is not stable for this molecule")
        self.recording.steps += self._steps
        self.recording.evaluations += self._steps
        self.recording.picoseconds += self._steps * self._timestep
        self.recording.frames.append(frame)


class ReplicaExchange(Sampler):
    """OpenMM's ReplicaExchangeSampler over temperatures; the frames are those of the lowest.

    The ladder is geometric, from the thermostat's to twice as much, a replica on each of six rungs.
    """

    def __init__(
        self, topology: app.Topology, dynamics: Dynamics, start: NDArray[np.float64], seed: int
    ) -> None:
        super().__init__()
        integrator = dynamics.integrator(seed)
        simulation = app.Simulation(topology, dynamics.system, integrator, dynamics.platform)
        dynamics.prepare(simulation.context, start, seed)
        coldest = dynamics.thermostat.temperature
        ladder = np.geomspace(coldest, HOTTEST * coldest, REPLICAS)
        self._steps = round(1.0 / dynamics.timestep)
        self._timestep = dynamics.timestep
        self._sampler = app.ReplicaExchangeSampler(
            [{"temperature": t * unit.kelvin} for t in ladder], simulation, self._steps
        )

    def step(self) -> None:
        self._sampler.simulate(1)

    def record(self) -> None:
        coldest = self._sampler.replicaStateIndex.index(0)
        state = self._sampler.replicaConformation[coldest]
        steps = self._steps * REPLICAS
        self.recording.steps += steps
        # Each replica's energy once more for the exchange.
        self.recording.evaluations += steps + REPLICAS
        self.recording.picoseconds += steps * self._timestep
        self.recording.frames.append(
            np.asarray(state.getPositions(asNumpy=True).value_in_unit(NANOMETER), dtype=np.float32)
        )


def constrained_system(molecule: MolecularSystem, heavy_hydrogens: bool) -> openmm.System:
    """Return the molecule's force field with constrained hydrogen bonds, as MD would use it; with
    OBC2 as fast as the molecule's own System has it."""
    mass = HEAVY_HYDROGEN * unit.dalton if heavy_hydrogens else None
    system = app.ForceField(*molecule.force_field).createSystem(
        molecule.topology,
        nonbondedMethod=app.NoCutoff,
        constraints=app.HBonds,
        hydrogenMass=mass,
        removeCMMotion=False,
    )
    return with_builtin_gbsa(system)


#: Whose frames define the slow coordinates.
REFERENCE_METHOD = "MD 1 fs"
#: (start, seed) -> Sampler.
Maker = Callable[[NDArray[np.float64], int], Sampler]


@dataclass(frozen=True)
class TimewarpMaker:
    """Makes chains of an integrator, whose XML holds its model."""

    integrator: str
    molecule: MolecularSystem
    platform: str

    def __call__(self, start: NDArray[np.float64], seed: int) -> Sampler:
        # Loads the compiled plugin.
        from ..integrator import TimewarpMCMCIntegrator

        integrator = TimewarpMCMCIntegrator.cast(openmm.XmlSerializer.deserialize(self.integrator))
        platform, _ = make_platform(self.platform)
        return TimewarpSampler(integrator, self.molecule.system, start, platform, seed)


@dataclass(frozen=True)
class DynamicsMaker:
    """Makes molecular dynamics of the molecule's System, with a time step / ps, or exchange."""

    molecule: MolecularSystem
    platform: str
    thermostat: Thermostat
    timestep: float
    replica_exchange: bool = False

    def __call__(self, start: NDArray[np.float64], seed: int) -> Sampler:
        platform, _ = make_platform(self.platform)
        dynamics = Dynamics(self.molecule.system, platform, self.thermostat, self.timestep)
        if self.replica_exchange:
            return ReplicaExchange(self.molecule.topology, dynamics, start, seed)
        return MolecularDynamics(dynamics, start, seed)


def make_methods(
    model: str,
    molecule: MolecularSystem,
    from_force_field: bool,
    platform: str,
    thermostat: Thermostat,
    replica_exchange: bool,
) -> dict[str, Maker]:
    """Return how to make a chain of each method, by name; by whom, on whatever machine.

    Parameters
    ----------
    from_force_field : bool
        Whether the System was made from a force field, so that one with constraints can be made
        too; otherwise there is MD at 1 fs only.
    """

    def plain(of: MolecularSystem, timestep: float) -> DynamicsMaker:
        return DynamicsMaker(of, platform, thermostat, timestep)

    methods: dict[str, Maker] = {
        "Timewarp": TimewarpMaker(
            _integrator(model, molecule, thermostat.temperature), molecule, platform
        ),
        REFERENCE_METHOD: plain(molecule, 0.001),
    }
    exchanged = plain(molecule, 0.001)
    if from_force_field:
        constrained = replace(molecule, system=constrained_system(molecule, False))
        heavy = replace(molecule, system=constrained_system(molecule, True))
        exchanged = plain(constrained, 0.002)
        methods["MD 2 fs, HBonds"] = plain(constrained, 0.002)
        methods["MD 4 fs, HBonds, HMR"] = plain(heavy, 0.004)
    if replica_exchange:
        methods["replica exchange"] = replace(exchanged, replica_exchange=True)
    return methods


def _integrator(model: str, molecule: MolecularSystem, temperature: float) -> str:
    """Return the integrator as XML, with its model within and its atoms found."""
    from ..integrator import TimewarpMCMCIntegrator

    integrator = TimewarpMCMCIntegrator(
        model, topology=molecule.topology, temperature=temperature, positions=molecule.positions
    )
    integrator.setEmbedModel(True)
    return str(openmm.XmlSerializer.serialize(integrator))
