"""How often a peptide plane inside a chain turns over, by blocks and by molecular dynamics.

    python benchmarks/peptide_planes.py MODEL ... [--peptides ALA-GLY-GLY-ALA ...] [--seconds 60]
        [--rounds 4] [--tries 32] [--subchain 1] [--dynamics 25] [--starts 8] [--proposals 2000]
        [--out F.json]

MODEL is a model of a plane, made by ``timewarp-openmm fit PDB --moved plane``, of capped dipeptides
(``--write DIPEPTIDE.pdb``, ``GLY-GLY.pdb`` for instance, writes one). Each is looked for in each
peptide between caps: ff14SB and OBC2, 300 K, bonds to hydrogen constrained. Of each place are given

- the acceptance of single proposals in conformations of molecular dynamics, while everything else
  stands still, and how many of them turn the plane over, that is, by more than 90 degrees;
- the turns in the same wall time, one after the other in rounds, of a chain with ``--dynamics``
  time steps of 2 fs and ``--tries`` of ``--subchain`` proposals for each block, and of
  LangevinMiddleIntegrator with the same time step. A turn is counted when the torsion N - CA - CA -
  O about the axis has moved by more than 120 degrees since the last one.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit
from records import write_record
from transfer import TEMPERATURE, starts_of

from timewarp_openmm import TimewarpMCMCIntegrator, find_blocks, read_metadata
from timewarp_openmm.library import BUNDLED_FORCE_FIELD
from timewarp_openmm.molecule.torsions import torsion
from timewarp_openmm.simulation.capped_peptides import capped_peptide
from timewarp_openmm.simulation.gbsa import with_builtin_gbsa
from timewarp_openmm.simulation.systems import MolecularSystem

HOT = 500.0
STEP_SIZE = 0.002
#: rad; of the torsion about the axis.
TURNED, COUNTED = math.pi / 2, 2 * math.pi / 3

Axis = tuple[int, int, int, int]
Positions = NDArray[np.float64]


def with_constraints(molecule: MolecularSystem) -> openmm.System:
    """Return the peptide's System with constrained bonds to hydrogen and OpenMM's own OBC2."""
    force_field = app.ForceField(*molecule.force_field)
    return with_builtin_gbsa(force_field.createSystem(molecule.topology, constraints=app.HBonds))


def axis_of(topology: app.Topology, moved: list[int]) -> Axis:
    """Return the atoms of N - CA - CA - O about the axis of the plane that is moved."""
    names = [{a.name: a.index for a in residue.atoms()} for residue in topology.residues()]
    (first,) = (i for i, own in enumerate(names) if {own.get("C"), own.get("O")} <= set(moved))
    own, following = names[first], names[first + 1]
    return own["N"], own["CA"], following["CA"], own["O"]


def places_of(models: list[Path], molecule: MolecularSystem) -> list[dict[str, Any]]:
    """Return all places of the models in a peptide."""
    places = []
    for model in models:
        moved = read_metadata(model).moved_atoms()
        for particles in find_blocks(model, molecule.topology, molecule.positions):
            axis = axis_of(molecule.topology, [particles[i] for i in moved])
            atom = list(molecule.topology.atoms())[axis[0]]
            name = f"{model.stem} at {atom.residue.name}{atom.residue.index}"
            places.append({"name": name, "model": str(model), "particles": particles, "axis": axis})
    return places


def positions_of(context: openmm.Context) -> Positions:
    return np.asarray(context.getState(positions=True).getPositions(asNumpy=True)._value)


def turned_by(before: float, after: float) -> float:
    """Return the angle between two torsions / rad, from 0 to pi."""
    return abs(math.remainder(after - before, 2 * math.pi))


def single_proposals(
    place: dict[str, Any], system: openmm.System, start: Positions, proposals: int
) -> tuple[float, float]:
    """Return the shares of proposals that are accepted, and that are and turn the plane over."""
    integrator = TimewarpMCMCIntegrator(temperature=TEMPERATURE)
    integrator.addBlock(place["model"], place["particles"])
    integrator.setFrozenOthers(True)
    integrator.setRandomNumberSeed(3)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(start)
    accepted, turns, angle = 0, 0, torsion(start, place["axis"])
    for _ in range(proposals):
        integrator.step(1)
        if integrator.getBlockStatistics(0).accepted > accepted:
            accepted += 1
            now = torsion(positions_of(context), place["axis"])
            turns += turned_by(angle, now) > TURNED
            angle = now
    return accepted / proposals, turns / proposals


class TurnCounter:
    """Counts the turns of some planes."""

    def __init__(self, axes: list[Axis], positions: Positions) -> None:
        self._axes = axes
        self._last = [torsion(positions, axis) for axis in axes]
        self.turns = [0] * len(axes)

    def look(self, positions: Positions) -> None:
        """Compare with where the planes were at their last turns."""
        for i, axis in enumerate(self._axes):
            now = torsion(positions, axis)
            if turned_by(self._last[i], now) > COUNTED:
                self.turns[i] += 1
                self._last[i] = now


def run_for(
    seconds: float, step: Callable[[], None], context: openmm.Context, counter: TurnCounter
) -> tuple[int, float]:
    """Return how many steps fit into some wall time, and the time."""
    begin, steps = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        step()
        counter.look(positions_of(context))
        steps += 1
    return steps, time.perf_counter() - begin


def rates(
    places: list[dict[str, Any]], system: openmm.System, start: Positions, options: Any
) -> dict[str, Any]:
    """Return turns of each place and seconds, with blocks and with dynamics alone."""
    blocks = TimewarpMCMCIntegrator(temperature=TEMPERATURE)
    for place in places:
        blocks.addBlock(place["model"], place["particles"])
    blocks.setDynamics(steps=options.dynamics, stepSize=STEP_SIZE, frictionCoeff=1.0)
    blocks.setSubchainLength(options.subchain)
    blocks.setProposalsPerStep(options.tries * len(places))
    blocks.setRandomNumberSeed(5)
    dynamics = openmm.LangevinMiddleIntegrator(TEMPERATURE, 1.0, STEP_SIZE)
    dynamics.setRandomNumberSeed(6)
    axes = [place["axis"] for place in places]
    found: dict[str, Any] = {}
    arms = {}
    for name, integrator in (("blocks", blocks), ("dynamics", dynamics)):
        platform = openmm.Platform.getPlatformByName("Reference")
        context = openmm.Context(system, integrator, platform)
        context.setPositions(start)
        context.setVelocitiesToTemperature(TEMPERATURE, 7)
        counter = TurnCounter(axes, start)
        steps = 1 if name == "blocks" else options.dynamics
        arms[name] = (lambda integrator=integrator, n=steps: integrator.step(n), context, counter)
        found[name] = {"turns": counter.turns, "seconds": 0.0, "steps": 0}
    for _ in range(options.rounds):
        for name, (step, context, counter) in arms.items():
            steps, seconds = run_for(options.seconds / options.rounds, step, context, counter)
            found[name]["seconds"] += seconds
            found[name]["steps"] += steps * options.dynamics
    statistics = [blocks.getBlockStatistics(i) for i in range(len(places))]
    found["tries accepted"] = [s.accepted / s.tried if s.tried else 0.0 for s in statistics]
    return found


def measure(peptide: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each place in a peptide."""
    molecule = capped_peptide(peptide.split("-"), BUNDLED_FORCE_FIELD)
    system, places = with_constraints(molecule), places_of(options.models, molecule)
    if not places:
        raise SystemExit(f"no model fits into {peptide}")
    constrained = replace(molecule, system=system)
    starts = starts_of(constrained, options.starts, temperature=HOT, timestep=STEP_SIZE)
    singles = [
        np.array([single_proposals(place, system, x, options.proposals) for x in starts])
        for place in places
    ]
    found = rates(places, system, starts[0], options) if options.seconds > 0 else None
    rows = []
    for i, (place, single) in enumerate(zip(places, singles, strict=True)):
        mean, error = single.mean(0), single.std(0, ddof=1) / math.sqrt(len(single))
        row = {
            "peptide": peptide,
            "plane": place["name"],
            "accepted": [float(mean[0]), float(error[0])],
            "turned over": [float(mean[1]), float(error[1])],
            "lowest": float(single[:, 0].min()),
        }
        if found is not None:
            row |= {
                f"{key} by {arm}": found[arm]["turns"][i] if key == "turns" else found[arm][key]
                for arm in ("blocks", "dynamics")
                for key in ("turns", "seconds", "steps")
            }
            row["tries accepted"] = found["tries accepted"][i]
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def write_structure(path: Path) -> None:
    """Write the capped peptide that a file is named after."""
    molecule = capped_peptide(path.stem.split("-"), BUNDLED_FORCE_FIELD)
    positions = molecule.positions * unit.nanometer
    with path.open("w") as file:
        app.PDBFile.writeFile(molecule.topology, positions, file)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--peptides", nargs="+", default=["ALA-GLY-GLY-ALA"])
    parser.add_argument("--seconds", type=float, default=60.0, help="of either arm")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--tries", type=int, default=32)
    parser.add_argument("--subchain", type=int, default=1)
    parser.add_argument("--dynamics", type=int, default=25)
    parser.add_argument("--starts", type=int, default=8)
    parser.add_argument("--proposals", type=int, default=2000)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.write is not None:
        write_structure(options.write)
        return
    rows = [row for peptide in options.peptides for row in measure(peptide, options)]
    asked = {key: value for key, value in vars(options).items() if key not in ("models", "out")}
    write_record(options.out, {**asked, "models": [str(m) for m in options.models]}, rows)


if __name__ == "__main__":
    main()
