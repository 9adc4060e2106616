"""Rotamers of a capped residue in water by umbrella sampling, made with OpenMM alone: a reference.

    python benchmarks/umbrella_rotamers.py valine-dipeptide [--nanoseconds 2] [--trajectories 4]
        [--out F.json]

An umbrella (Torrie and Valleau 1977) takes most of the threefold barrier from chi1, and chi2 where
there is one, so that molecular dynamics crosses it every few tens of picoseconds; the frames are
then reweighted by the exponential of the umbrella. Each trajectory leaves its first 50 ps out.
The JSON file holds the share of each rotamer (chi1: g+ 0 to 120, t 120 to 240, g- 240 to 360
degrees; likewise chi2) and of phi > 0; errors are standard errors over blocks of the trajectories.
Box of TIP3P water, PME with a cut-off of 0.9 nm, HBonds, hydrogens of 3 dalton, 4 fs, 300 K. An
interrupted run goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import platform
from pathlib import Path

import mdtraj
import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

MOLECULES = Path(__file__).parent.parent / "examples" / "molecules"
FORCE_FIELD = ("amber99sbildn.xml", "tip3p.xml")
TEMPERATURE = 300.0
BOX = 1.9  # nm
HEIGHT = 11.0  # kJ/mol; the barriers are some 12
INTERVAL = 100  # steps of 4 fs between frames
PIECE = 250  # frames between files
EQUILIBRATION = 12_500  # steps
BLOCKS = 4  # of each trajectory


def torsions_of(topology: app.Topology) -> dict[str, tuple[int, ...]]:
    """Return the atoms of phi, psi, and chi1 and chi2 as far as there are any."""
    trajectory_topology = mdtraj.Topology.from_openmm(topology)
    found = {}
    nothing = mdtraj.Trajectory(np.zeros((1, topology.getNumAtoms(), 3)), trajectory_topology)
    for name in ("phi", "psi", "chi1", "chi2"):
        indices, _ = getattr(mdtraj, f"compute_{name}")(nothing)
        if len(indices):
            found[name] = tuple(int(i) for i in indices[0])
    return found


def umbrella(torsions: dict[str, tuple[int, ...]]) -> openmm.PeriodicTorsionForce:
    """Return -HEIGHT/2 (1 + cos 3 chi) for each chi, which is lowest on top of the barriers."""
    force = openmm.PeriodicTorsionForce()
    for name, atoms in torsions.items():
        if name.startswith("chi"):
            force.addTorsion(*atoms, 3, 0.0, -HEIGHT / 2)
    return force


def solvated(name: str, box: float = BOX) -> tuple[app.Topology, openmm.System, unit.Quantity]:
    """Return topology, System and positions of the molecule in a box of water, of edge / nm."""
    pdb = app.PDBFile(str(MOLECULES / f"{name}.pdb"))
    force_field = app.ForceField(*FORCE_FIELD)
    modeller = app.Modeller(pdb.topology, pdb.positions)
    modeller.addSolvent(force_field, boxSize=openmm.Vec3(box, box, box) * unit.nanometer)
    system = force_field.createSystem(
        modeller.topology,
        nonbondedMethod=app.PME,
        nonbondedCutoff=0.9 * unit.nanometer,
        constraints=app.HBonds,
        hydrogenMass=3 * unit.dalton,
    )
    return modeller.topology, system, modeller.positions


def run(name: str, number: int, frames: int, work: Path) -> NDArray[np.float32]:
    """Return the torsions [frames, 4] / rad of one trajectory, going on where it was left."""
    topology, system, positions = solvated(name)
    torsions = torsions_of(topology)
    system.addForce(umbrella(torsions))
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 1.0, 0.004)
    integrator.setRandomNumberSeed(number + 1)
    simulation = app.Simulation(
        topology, system, integrator, openmm.Platform.getPlatformByName("CPU"), {"Threads": "1"}
    )
    checkpoint, record = work / f"{name}-{number}.chk", work / f"{name}-{number}.npy"
    if record.exists():
        simulation.loadCheckpoint(str(checkpoint))
        angles = np.load(record)
    else:
        simulation.context.setPositions(positions)
        simulation.minimizeEnergy(maxIterations=200)
        simulation.context.setVelocitiesToTemperature(TEMPERATURE, number + 1)
        simulation.step(EQUILIBRATION)
        angles = np.zeros((0, len(torsions)), dtype=np.float32)
    mdtraj_topology = mdtraj.Topology.from_openmm(topology)
    while len(angles) < frames:
        piece = []
        for _ in range(PIECE):
            simulation.step(INTERVAL)
            x = simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
            frame = mdtraj.Trajectory(np.array(x)[None], mdtraj_topology)
            piece.append(mdtraj.compute_dihedrals(frame, list(torsions.values()), False)[0])
        angles = np.concatenate([angles, np.array(piece, dtype=np.float32)])
        simulation.saveCheckpoint(str(checkpoint))
        np.save(record, angles)
        print(f"{name} {number}: {len(angles)} of {frames} frames", flush=True)
    return angles[:frames]


def weights_of(angles: NDArray[np.floating], chis: list[int]) -> NDArray[np.float64]:
    """Return the frames' shares without the umbrella."""
    energy = -HEIGHT / 2 * (1 + np.cos(3 * angles[:, chis].astype(float))).sum(1)
    weights: NDArray[np.float64] = np.exp(energy / (0.00831446 * TEMPERATURE))
    return weights / weights.sum()


def rotamer_labels(chis: int) -> list[str]:
    """Return a label of each rotamer of so many chis: a letter each, p (g+), t or m (g-)."""
    return ["".join(letters) for letters in itertools.product("ptm", repeat=chis)]


def rotamers_of(angles: NDArray[np.floating], chis: list[int]) -> NDArray[np.int_]:
    """Return the place of each frame's rotamer [F] among `rotamer_labels`; angles are in rad."""
    wells = np.floor(np.degrees(angles[:, chis]) / 120).astype(int) % 3
    places: NDArray[np.int_] = wells @ 3 ** np.arange(len(chis))[::-1]
    return places


def shares(angles: NDArray[np.floating], chis: list[int], phi: int) -> NDArray[np.float64]:
    """Return the share of each rotamer, and last that of phi > 0."""
    weights = weights_of(angles, chis)
    values = np.bincount(rotamers_of(angles, chis), weights, 3 ** len(chis))
    return np.array([*values, weights[angles[:, phi] > 0].sum()])


def summarize(runs: list[NDArray[np.floating]], names: list[str]) -> dict[str, object]:
    """Return every share with its error, and how often the umbrella let rotamers change."""
    chis = [i for i, name in enumerate(names) if name.startswith("chi")]
    phi = names.index("phi")
    blocks = [part for angles in runs for part in np.array_split(angles, BLOCKS)]
    parts = np.array([shares(block, chis, phi) for block in blocks])
    # Blocks of fewer samples are noisier, so the whole gives the value and the blocks the error.
    whole = shares(np.concatenate(runs), chis, phi)
    error = parts.std(axis=0, ddof=1) / math.sqrt(len(parts))
    weights = weights_of(np.concatenate(runs), chis)
    changes = sum(int(np.count_nonzero(np.diff(rotamers_of(angles, chis)))) for angles in runs)
    labels = rotamer_labels(len(chis))
    return {
        "rotamers": dict(zip(labels, whole[:-1].round(5).tolist(), strict=True)),
        "rotamers_error": dict(zip(labels, error[:-1].round(5).tolist(), strict=True)),
        "rotamers_blocks": parts[:, :-1].round(5).tolist(),
        "phi_positive": round(float(whole[-1]), 5),
        "phi_positive_error": round(float(error[-1]), 5),
        "changes_of_rotamer": changes,
        "kish_share": round(float(1 / (weights**2).sum() / len(weights)), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("molecule", choices=["valine-dipeptide", "leucine-dipeptide"])
    parser.add_argument("--nanoseconds", type=float, default=2.0, help="of each trajectory")
    parser.add_argument("--trajectories", type=int, default=4)
    parser.add_argument("--work", type=Path, default=Path("runs/umbrella-rotamers"))
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    frames = round(options.nanoseconds * 1000 / (INTERVAL * 0.004))
    runs = [run(options.molecule, n, frames, options.work) for n in range(options.trajectories)]
    topology = app.PDBFile(str(MOLECULES / f"{options.molecule}.pdb")).topology
    result: dict[str, object] = {
        "script": f"benchmarks/umbrella_rotamers.py {options.molecule} "
        f"--nanoseconds {options.nanoseconds:g} --trajectories {options.trajectories}",
        "method": "umbrella sampling, reweighted",
        "force_field": list(FORCE_FIELD),
        "temperature_K": TEMPERATURE,
        "trajectories": options.trajectories,
        "umbrella_kJ_mol": HEIGHT,
        "openmm": openmm.version.version,
        "python": platform.python_version(),
    } | summarize(runs, list(torsions_of(topology)))
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
