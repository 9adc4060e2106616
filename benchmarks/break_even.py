"""Time to 100 transitions of phi: fit and Timewarp, against Langevin dynamics at its best setting.

    python benchmarks/break_even.py MODEL --population P --population-error E [--runs 24] [--out F]

MODEL is one that `timewarp-openmm fit` has made for alanine dipeptide: it says how long it took.
``--measured F`` in its place takes what an earlier run has measured, for another population.
Dynamics cross phi so seldom that counting would take days. Its rate is that of equilibrium: as many
leave the basin 0 < phi < 2.4 rad as enter it, so that there are 2 p k transitions per time, with p
the basin's population (benchmarks/umbrella_sampling.py) and k the rate of leaving it, measured by
dynamics that start inside and run until phi is well outside. The interval is that of k
(exponential waiting times: chi-squared, 95 %) and of p (2 standard errors) together.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from model_acceptance import PHI_ATOMS, start_in_basin, torsion
from openmm import app
from scipy.stats import chi2

from timewarp_openmm import TimewarpMCMCIntegrator, read_metadata
from timewarp_openmm.analysis.torsions import count_crossings
from timewarp_openmm.simulation.systems import MolecularSystem, named_molecule

TRANSITIONS = 100
TEMPERATURE = 310.0
FRICTION = 1.0
INSIDE = (1.0, 0.6)  # phi, psi / rad
#: rad; phi below it has left for good, phi at 0 may turn back.
WELL_OUTSIDE = -0.7
#: ps between looks at phi, and after which a run is given up (it counts as censored).
LOOK, LONGEST = 1.0, 20_000.0
SPEED_SECONDS = 10.0


@dataclass(frozen=True)
class Setting:
    """How dynamics are run: the usual three."""

    name: str
    timestep: float  # ps
    constraints: object
    hydrogen_mass: float | None  # dalton

    def system(self, molecule: MolecularSystem) -> openmm.System:
        field = app.ForceField(*molecule.force_field)
        extra = {} if self.hydrogen_mass is None else {"hydrogenMass": self.hydrogen_mass}
        return field.createSystem(molecule.topology, constraints=self.constraints, **extra)

    def context(self, molecule: MolecularSystem, seed: int) -> openmm.Context:
        integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, FRICTION, self.timestep)
        integrator.setRandomNumberSeed(seed)
        platform = openmm.Platform.getPlatformByName("Reference")
        return openmm.Context(self.system(molecule), integrator, platform)


SETTINGS = (
    Setting("1 fs", 0.001, None, None),
    Setting("2 fs, bonds to hydrogen constrained", 0.002, app.HBonds, None),
    Setting("4 fs, the same and heavy hydrogens", 0.004, app.HBonds, 4.0),
)


def phi_of(context: openmm.Context) -> float:
    positions = context.getState(positions=True).getPositions(asNumpy=True)._value
    return float(torsion(positions, PHI_ATOMS))


def md_speed(molecule: MolecularSystem, setting: Setting) -> float:
    """Return ps per second of wall time."""
    context = setting.context(molecule, 1)
    context.setPositions(molecule.positions)
    openmm.LocalEnergyMinimizer.minimize(context)
    context.getIntegrator().step(500)
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < SPEED_SECONDS:
        context.getIntegrator().step(500)
        steps += 500
    return steps * setting.timestep / (time.perf_counter() - began)


def time_to_leave(setting: Setting, seed: int) -> tuple[float, bool]:
    """Return how long / ps dynamics stay in the basin, and whether they left it."""
    molecule = named_molecule("alanine-dipeptide")
    start = start_in_basin(molecule, *INSIDE, seed=seed)
    context = setting.context(molecule, seed)
    context.setPositions(start)
    context.applyConstraints(1e-6)
    context.setVelocitiesToTemperature(TEMPERATURE, seed)
    context.getIntegrator().step(round(20 / setting.timestep))
    if not 0 < phi_of(context) < 2.4:
        return 0.0, True
    steps = round(LOOK / setting.timestep)
    stayed = 0.0
    while stayed < LONGEST:
        context.getIntegrator().step(steps)
        stayed += LOOK
        # Through phi = 0, or through phi = pi.
        if phi_of(context) < WELL_OUTSIDE:
            return stayed, True
    return stayed, False


def leaving_rate(
    setting: Setting, runs: int, workers: int
) -> tuple[float, tuple[float, float], int, float]:
    """Return k / (1/ps), its 95 % interval, events, and the total time / ps."""
    with ProcessPoolExecutor(workers) as pool:
        stays = list(pool.map(time_to_leave, [setting] * runs, range(1, runs + 1)))
    # A start that left within its equilibration says nothing.
    stays = [(stayed, left) for stayed, left in stays if stayed > 0]
    events, total = sum(left for _, left in stays), sum(stayed for stayed, _ in stays)
    if events == 0:
        raise SystemExit(f"no run left the basin in {total / 1000:.0f} ns; ask for more --runs")
    low = chi2.ppf(0.025, 2 * events) / 2 / total
    high = chi2.ppf(0.975, 2 * events + 2) / 2 / total
    return events / total, (float(low), float(high)), events, total


def sampling_seconds(molecule: MolecularSystem, model: Path) -> tuple[float, int, float]:
    """Return the wall time to 100 transitions, the iterations, and the acceptance."""
    integrator = TimewarpMCMCIntegrator(str(model))
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("Reference")
    began = time.perf_counter()
    context = openmm.Context(molecule.system, integrator, platform)
    context.setPositions(molecule.positions)
    openmm.LocalEnergyMinimizer.minimize(context)
    phi = [phi_of(context)]
    while count_crossings(np.array(phi)) < TRANSITIONS:
        for _ in range(100):
            integrator.step(1)
            phi.append(phi_of(context))
    return time.perf_counter() - began, len(phi) - 1, integrator.getAcceptanceRate()


def measure(model: Path, runs: int, workers: int) -> dict[str, Any]:
    """Return what takes time to measure: speeds, the model's cost, and the rate of dynamics."""
    made = read_metadata(model).provenance.get("fit")
    if made is None:
        raise SystemExit(f"{model} was not made by timewarp-openmm fit")
    molecule = named_molecule("alanine-dipeptide")
    speeds = {setting.name: md_speed(molecule, setting) for setting in SETTINGS}
    fastest = max(SETTINGS, key=lambda setting: speeds[setting.name])
    print(json.dumps({"ps_per_second": speeds}, indent=1), flush=True)
    sampling, iterations, acceptance = sampling_seconds(molecule, model)
    rate, interval, events, total = leaving_rate(fastest, runs, workers)
    return {
        "ps_per_second": speeds,
        "md_setting": fastest.name,
        "mean_stay_ns": 1e-3 / rate,
        "mean_stay_ns_95": [1e-3 / interval[1], 1e-3 / interval[0]],
        "stays_ended": events,
        "simulated_ns": total / 1000,
        "fit_minutes": made["total_minutes"],
        "sampling_seconds_to_100": sampling,
        "sampling_iterations_to_100": iterations,
        "acceptance": acceptance,
    }


def compare(measured: dict[str, Any], p: float, error: float) -> dict[str, Any]:
    """Return the times to 100 transitions, where the basin's population is p +- error."""
    speed = measured["ps_per_second"][measured["md_setting"]]
    timewarp = 60 * measured["fit_minutes"] + measured["sampling_seconds_to_100"]

    def md_seconds(mean_stay_ns: float, p: float) -> float:
        return TRANSITIONS * 1000 * mean_stay_ns / (2 * p) / speed

    stay, (shortest, longest) = measured["mean_stay_ns"], measured["mean_stay_ns_95"]
    best = md_seconds(shortest, p + 2 * error)
    worst = md_seconds(longest, max(p - 2 * error, 1e-4))
    return {
        "population": p,
        "population_error": error,
        "ns_per_transition": stay / (2 * p),
        "md_hours_to_100": md_seconds(stay, p) / 3600,
        "md_hours_to_100_95": [best / 3600, worst / 3600],
        "timewarp_seconds_to_100": timewarp,
        "ratio": md_seconds(stay, p) / timewarp,
        "ratio_95": [best / timewarp, worst / timewarp],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("model", type=Path, nargs="?")
    source.add_argument("--measured", type=Path, help="JSON file of an earlier run")
    parser.add_argument("--population", type=float, required=True, help="of 0 < phi < 2.4 rad")
    parser.add_argument("--population-error", type=float, required=True)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    if options.measured is not None:
        measured = json.loads(options.measured.read_text())
    else:
        measured = measure(options.model, options.runs, options.workers)
    result = measured | compare(measured, options.population, options.population_error)
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
