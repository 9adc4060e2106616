"""Rotamers of a capped residue in water, by blocks and dynamics, beside umbrella sampling.

    python benchmarks/rotamer_populations.py valine-dipeptide --model valine-dipeptide-sidechain.pt
        [--reference tests/data/valine-dipeptide-rotamers.json] [--minutes 12] [--out F.json]

The System is that of umbrella_rotamers.py: TIP3P, PME, HBonds, hydrogens of 3 dalton, 300 K. A step
of the integrator is 25 time steps of 4 fs and a subchain of 200 proposals of the side chain. Prints
the share of each rotamer by both methods, with standard errors over blocks, and the p-value of all
rotamers together (Hotelling's T-squared on both sides' blocks; rotamers of less than 2 % count as
one). Dynamics at 4 fs have the bias of their time step on both sides alike.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import mdtraj
import numpy as np
from moves import FRICTION, STEP, cpu, equilibrated, particles_of
from numpy.typing import NDArray
from openmm import app
from scipy import stats
from umbrella_rotamers import TEMPERATURE, rotamer_labels, rotamers_of, solvated, torsions_of

from timewarp_openmm import TimewarpMCMCIntegrator

DATA = Path(__file__).parent.parent / "tests" / "data"
DYNAMICS = 25  # time steps
SUBCHAIN = 200  # proposals
BLOCKS = 8  # a rotamer lives some 20 steps
#: Rotamers that are rarer are pooled.
LEAST_SHARE = 0.02


@dataclass(frozen=True)
class Shares:
    """The share of each rotamer in blocks of a run [B, K], and in all of it [K]."""

    blocks: NDArray[np.float64]
    whole: NDArray[np.float64]

    @property
    def errors(self) -> NDArray[np.float64]:
        """Standard errors [K]."""
        errors: NDArray[np.float64] = self.blocks.std(axis=0, ddof=1)
        return errors / math.sqrt(len(self.blocks))

    def pooled(self, common: NDArray[np.bool_]) -> Shares:
        """Return the shares of the common rotamers alone; what is left is that of all others."""
        return Shares(self.blocks[:, common], self.whole[common])


def make_simulation(
    molecule: str, model: Path, seed: int, threads: int
) -> tuple[app.Simulation, TimewarpMCMCIntegrator]:
    """Return an equilibrated simulation of the molecule in water, whose side chain is a block."""
    integrator = TimewarpMCMCIntegrator(temperature=TEMPERATURE)
    integrator.addBlock(str(model), particles=particles_of(model, molecule))
    integrator.setDynamics(DYNAMICS, STEP, FRICTION)
    integrator.setProposalsPerStep(1)
    integrator.setSubchainLength(SUBCHAIN)
    integrator.setRandomNumberSeed(seed)
    topology, system, positions = solvated(molecule)
    start = equilibrated(topology, system, positions, threads)
    simulation = app.Simulation(topology, system, integrator, *cpu(threads))
    simulation.context.setState(start)
    return simulation, integrator


def sample(
    simulation: app.Simulation, seconds: float, steps: int | None = None
) -> tuple[NDArray[np.float64], list[str]]:
    """Return the torsions [F, T] / rad after each step, and their names.

    Parameters
    ----------
    seconds : float
        After which it ends.
    steps : int, optional
        After which it ends, if that is earlier.
    """
    torsions = torsions_of(simulation.topology)
    topology = mdtraj.Topology.from_openmm(simulation.topology)
    frames: list[NDArray[np.float64]] = []
    began = time.monotonic()
    while time.monotonic() - began < seconds and (steps is None or len(frames) < steps):
        simulation.step(1)
        positions = simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
        frame = mdtraj.Trajectory(np.array(positions)[None], topology)
        frames.append(mdtraj.compute_dihedrals(frame, list(torsions.values()), False)[0])
    return np.array(frames), list(torsions)


def shares_of(angles: NDArray[np.floating], names: list[str]) -> Shares:
    """Return the share of each rotamer, in the order of `rotamer_labels`."""
    chis = [i for i, name in enumerate(names) if name.startswith("chi")]
    found = rotamers_of(angles, chis)
    inside = np.eye(len(rotamer_labels(len(chis))))[found]
    blocks = np.array([part.mean(0) for part in np.array_split(inside, BLOCKS)])
    return Shares(blocks, inside.mean(0))


def reference_shares(reference: dict[str, object]) -> Shares:
    """Return what umbrella_rotamers.py has written."""
    rotamers = reference["rotamers"]
    assert isinstance(rotamers, dict)
    return Shares(np.array(reference["rotamers_blocks"]), np.array(list(rotamers.values())))


def p_value(first: Shares, second: Shares) -> float:
    """Return how likely shares so different are, if both are of one distribution.

    Hotelling's T-squared with the covariances of both sides' blocks, and the degrees of freedom of
    the side with fewer blocks, which is on the safe side where the covariances differ.
    """
    common = second.whole >= LEAST_SHARE
    if common.all():
        # Shares have a sum of one, so one of them is not free.
        common[int(second.whole.argmin())] = False
    first, second = first.pooled(common), second.pooled(common)
    covariance = sum(
        np.atleast_2d(np.cov(side.blocks, rowvar=False)) / len(side.blocks)
        for side in (first, second)
    )
    difference = first.whole - second.whole
    squared = float(difference @ np.linalg.solve(covariance, difference))
    freedom = min(len(first.blocks), len(second.blocks)) - 1
    count = len(difference)
    return float(
        stats.f.sf(squared * (freedom - count + 1) / (freedom * count), count, freedom - count + 1)
    )


def changes_of(angles: NDArray[np.floating], names: list[str]) -> int:
    """Return how often the rotamer has changed from one frame to the next."""
    found = rotamers_of(angles, [i for i, name in enumerate(names) if name.startswith("chi")])
    return int(np.count_nonzero(np.diff(found)))


def table(found: Shares, reference: Shares, labels: list[str]) -> str:
    """Return both sides' shares, their errors and how many errors they differ by."""
    scores = (found.whole - reference.whole) / np.hypot(found.errors, reference.errors)
    rows = ["| rotamer | blocks and dynamics | umbrella sampling | z |", "| --- " * 4 + "|"]
    for i, label in enumerate(labels):
        rows.append(
            f"| {label} | {found.whole[i]:.4f} +- {found.errors[i]:.4f} "
            f"| {reference.whole[i]:.4f} +- {reference.errors[i]:.4f} | {scores[i]:.2f} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("molecule", choices=["valine-dipeptide", "leucine-dipeptide"])
    parser.add_argument("--model", type=Path, required=True, help="moves the side chain")
    parser.add_argument("--reference", type=Path, help="JSON file of umbrella_rotamers.py")
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    path = options.reference or DATA / f"{options.molecule}-rotamers.json"
    reference = json.loads(path.read_text())
    expected = reference_shares(reference)
    simulation, integrator = make_simulation(
        options.molecule, options.model, options.seed, options.threads
    )
    began = time.process_time()
    angles, names = sample(simulation, 60 * options.minutes)
    seconds = time.process_time() - began
    found = shares_of(angles, names)
    statistics = integrator.getBlockStatistics(0)
    result = {
        "steps": len(angles),
        "processor_seconds": round(seconds, 1),
        "changes_of_rotamer": changes_of(angles, names),
        "accepted_subchains": statistics.accepted / statistics.tried,
        "p_value": p_value(found, expected),
        "shares": found.whole.tolist(),
        "errors": found.errors.tolist(),
    }
    print(table(found, expected, list(reference["rotamers"])))
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
