"""Whether a peptide plane inside a chain has another orientation, while all else stands still.

    python benchmarks/plane_orientations.py [--pairs ALA-ALA ALA-GLY GLY-GLY] [--frames 150]
        [--out F.json]

In frames of molecular dynamics of a capped dipeptide (ff14SB and OBC2, 300 K, 2 ps apart), with
two sets of atoms free: the four of the plane (C, O, N, H), and these with what else is bonded to
the two alpha carbons (hydrogens and side chains; the selection ``plane`` of ``fit --moved``). The
energy is minimised in them where they are. Then the plane is turned about the axis between the
alpha carbons, in steps of 5 degrees, to where the angles N - CA - C of both residues are strained
least of all orientations more than 60 degrees away, what is on the alpha carbons turns with it
about the bonds that stay, and the energy is minimised again. Given are the shares of the frames in
which that ends more than 60 degrees away and no more than 3, 8 or 20 kT higher, and the lowest of
all frames.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from records import write_record

from timewarp_openmm.library import BUNDLED_FORCE_FIELD
from timewarp_openmm.molecule.selection import select_atoms
from timewarp_openmm.molecule.torsions import torsion
from timewarp_openmm.simulation.capped_peptides import capped_peptide
from timewarp_openmm.simulation.gbsa import with_builtin_gbsa
from timewarp_openmm.units import thermal_energy

TEMPERATURE = 300.0
KT = thermal_energy(TEMPERATURE)
#: Time steps of 1 fs between frames.
INTERVAL = 2000
#: rad; N - CA - C without strain.
UNSTRAINED = math.radians(110.5)
LEAST_TURN = math.radians(60)
CEILINGS = (3.0, 8.0, 20.0)

Positions = NDArray[np.float64]


@dataclass(frozen=True)
class Plane:
    """A plane of a capped dipeptide.

    Attributes
    ----------
    before, start, first, oxygen, second, end, after : int
        N and CA of the first residue, C and O; N and CA of the second, and its C.
    four : list of int
        The plane's atoms.
    beside_start, beside_end : list of int
        What else is on the alpha carbons.
    """

    before: int
    start: int
    first: int
    oxygen: int
    second: int
    end: int
    after: int
    four: list[int]
    beside_start: list[int]
    beside_end: list[int]

    def turn_of(self, x: Positions) -> float:
        """Return the torsion / rad about the axis."""
        return torsion(x, (self.before, self.start, self.end, self.oxygen))


def plane_of(topology: openmm.app.Topology) -> Plane:
    """Return the plane between the two residues."""
    _, one, other, _ = ({a.name: a.index for a in r.atoms()} for r in topology.residues())
    four = [one["C"], one["O"], other["N"], other["H"]]
    beside = sorted(set(select_atoms(topology, "plane")) - set(four))
    return Plane(
        one["N"],
        one["CA"],
        one["C"],
        one["O"],
        other["N"],
        other["CA"],
        other["C"],
        four,
        [i for i in beside if i in one.values()],
        [i for i in beside if i in other.values()],
    )


def turned(x: Positions, origin: Positions, axis: Positions, angle: float) -> Positions:
    """Return positions turned about an axis through the origin."""
    axis, v = axis / np.linalg.norm(axis), x - origin
    across = np.cross(axis, v)
    along = np.multiply.outer(v @ axis, axis)
    return origin + along + (v - along) * math.cos(angle) + across * math.sin(angle)


def strain(x: Positions, plane: Plane) -> float:
    """Return the sum of squares of what both angles N - CA - C are off, rad^2."""
    total = 0.0
    for a, b, c in (
        (plane.before, plane.start, plane.first),
        (plane.second, plane.end, plane.after),
    ):
        u, v = x[a] - x[b], x[c] - x[b]
        cosine = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
        total += (math.acos(cosine) - UNSTRAINED) ** 2
    return total


def turned_over(x: Positions, plane: Plane) -> Positions:
    """Return the conformation whose plane is turned to where it is strained least."""
    axis, found = x[plane.end] - x[plane.start], []
    for angle in np.radians(np.arange(60, 301, 5)):
        y = x.copy()
        y[plane.four] = turned(x[plane.four], x[plane.start], axis, angle)
        found.append(y)
    best = min(found, key=lambda y: strain(y, plane))
    for end, keeps, atom, beside in (
        (plane.start, plane.before, plane.first, plane.beside_start),
        (plane.end, plane.after, plane.second, plane.beside_end),
    ):
        # Any fourth point tells by how much the bond has turned about the one that stays.
        away = np.vstack([x, best[atom], x[keeps] + np.array([0.1, 0.03, 0.02])])
        angle = torsion(away, (len(x) + 1, keeps, end, len(x)))
        angle -= torsion(away, (len(x) + 1, keeps, end, atom))
        best[beside] = turned(x[beside], x[end], x[end] - x[keeps], angle)
    return best


class Minimiser:
    """Minimises the energy of a System in some of its atoms."""

    def __init__(self, system: openmm.System, free: Sequence[int]) -> None:
        system = openmm.XmlSerializer.clone(system)
        for i in set(range(system.getNumParticles())) - set(free):
            system.setParticleMass(i, 0)
        platform = openmm.Platform.getPlatformByName("Reference")
        self._context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)

    def minimised(self, x: Positions) -> tuple[float, Positions]:
        """Return the energy / kT of a minimum, and where it is."""
        self._context.setPositions(x)
        openmm.LocalEnergyMinimizer.minimize(self._context, 0.5, 1000)
        state = self._context.getState(energy=True, positions=True)
        y = np.asarray(state.getPositions(asNumpy=True)._value)
        return float(state.getPotentialEnergy()._value / KT), y


def measure(pair: str, frames: int) -> list[dict[str, Any]]:
    """Return a row for each set of atoms."""
    molecule = capped_peptide(pair.split("-"), BUNDLED_FORCE_FIELD)
    system, plane = with_builtin_gbsa(molecule.system), plane_of(molecule.topology)
    sets = {
        "the plane": plane.four,
        "with what is on the alpha carbons": plane.four + plane.beside_start + plane.beside_end,
    }
    minimisers = {name: Minimiser(system, atoms) for name, atoms in sets.items()}
    higher: dict[str, list[float]] = {name: [] for name in sets}
    dynamics = openmm.LangevinMiddleIntegrator(TEMPERATURE, 1.0, 0.001)
    dynamics.setRandomNumberSeed(3)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, dynamics, platform)
    context.setPositions(molecule.positions)
    context.setVelocitiesToTemperature(TEMPERATURE, 1)
    for _ in range(frames):
        dynamics.step(INTERVAL)
        x = np.asarray(context.getState(positions=True).getPositions(asNumpy=True)._value)
        for name, minimiser in minimisers.items():
            here, x_here = minimiser.minimised(x)
            y = turned_over(x_here, plane)
            if name == "the plane":
                beside = plane.beside_start + plane.beside_end
                y[beside] = x_here[beside]
            there, y = minimiser.minimised(y)
            turn = abs(math.remainder(plane.turn_of(y) - plane.turn_of(x_here), 2 * math.pi))
            higher[name].append(there - here if turn > LEAST_TURN else math.inf)
    rows = []
    for name, found in higher.items():
        shares = {f"share below {c:g} kT": float(np.mean(np.array(found) < c)) for c in CEILINGS}
        lowest = min(found)
        row = {"pair": pair, "free": name, **shares}
        row["lowest / kT"] = round(lowest, 1) if math.isfinite(lowest) else None
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs="+", default=["ALA-ALA", "ALA-GLY", "GLY-GLY"])
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = [row for pair in options.pairs for row in measure(pair, options.frames)]
    write_record(options.out, {"pairs": options.pairs, "frames": options.frames}, rows)


if __name__ == "__main__":
    main()
