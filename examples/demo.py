"""Alanine dipeptide with learned jumps, and the same time of molecular dynamics beside it.

    python examples/demo.py --out demo [--seconds 45] [--force]

Writes both trajectories and a Ramachandran map of each, and prints what they did.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
from timewarp_openmm.analysis.torsions import count_crossings, folded_torsions, proper_torsions
from timewarp_openmm.molecule import Molecule, molecule_from_topology
from timewarp_openmm.report.drawing import draw_ramachandran
from timewarp_openmm.simulation.systems import MolecularSystem, named_molecule
from timewarp_openmm.trajectories.frames import open_frames, reader_topology

PLATFORM = "Reference"  # the fastest one on a CPU for a molecule this small


def make_md_system(molecule: MolecularSystem) -> openmm.System:
    """Return the same force field with what MD needs for a step of 2 fs."""
    return app.ForceField(*molecule.force_field).createSystem(
        molecule.topology, nonbondedMethod=app.NoCutoff, constraints=app.HBonds
    )


def run(
    molecule: MolecularSystem,
    system: openmm.System,
    integrator: openmm.Integrator,
    trajectory: Path,
    interval: int,
    seconds: float,
) -> tuple[int, float]:
    """Run for a while, writing a frame every `interval` steps; return steps and seconds."""
    platform = openmm.Platform.getPlatformByName(PLATFORM)
    simulation = app.Simulation(molecule.topology, system, integrator, platform)
    simulation.context.setPositions(molecule.positions)
    simulation.minimizeEnergy()
    simulation.reporters.append(app.DCDReporter(str(trajectory), interval))
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        simulation.step(10 * interval)
    return simulation.currentStep, time.monotonic() - began


def phi_psi(molecule: Molecule, trajectory: Path) -> NDArray[np.float32]:
    """Return phi and psi [F, 2] / rad over a trajectory."""
    topology = reader_topology(molecule)
    torsions = proper_torsions(molecule)[:2]
    pieces = open_frames(trajectory, topology).chunks()
    return np.concatenate([folded_torsions(piece, torsions) for piece in pieces])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder to write to")
    parser.add_argument("--seconds", type=float, default=45.0, help="time for each of the two")
    parser.add_argument("--model", default="alanine-dipeptide", help="a bundled model's name")
    parser.add_argument("--force", action="store_true", help="replace what is in the folder")
    options = parser.parse_args()
    figure = options.out / "ramachandran.png"
    timewarp_dcd, md_dcd = options.out / "timewarp.dcd", options.out / "md.dcd"
    for path in (figure, timewarp_dcd, md_dcd):
        if path.exists() and not options.force:
            parser.error(f"{path} exists; name another folder or pass --force to replace it")
    options.out.mkdir(parents=True, exist_ok=True)
    molecule = named_molecule("alanine-dipeptide")

    timewarp = TimewarpMCMCIntegrator(pretrained(options.model))
    temperature = timewarp.getTemperature()
    timewarp.setRandomNumberSeed(1)
    print(f"Timewarp, {options.seconds:.0f} s ...", flush=True)
    steps, seconds = run(molecule, molecule.system, timewarp, timewarp_dcd, 10, options.seconds)
    print(
        f"  {steps} proposals, {steps / seconds:.0f} per second, "
        f"{timewarp.getAcceptanceRate():.2%} accepted"
    )

    langevin = openmm.LangevinMiddleIntegrator(temperature, 1 / unit.picosecond, 0.002)
    langevin.setRandomNumberSeed(1)
    print(f"LangevinMiddleIntegrator (2 fs), {options.seconds:.0f} s ...", flush=True)
    steps, seconds = run(molecule, make_md_system(molecule), langevin, md_dcd, 100, options.seconds)
    print(f"  {steps} steps, {steps / seconds:.0f} per second, {steps * 2e-6:.2f} ns")

    atoms = molecule_from_topology(molecule.topology)
    samples = {"Timewarp": phi_psi(atoms, timewarp_dcd), "MD": phi_psi(atoms, md_dcd)}
    for name, angles in samples.items():
        print(
            f"{name}: {len(angles)} frames, crossed into or out of phi > 0 "
            f"{count_crossings(angles[:, 0])} times"
        )
    titles = {
        f"{name}, {options.seconds:.0f} s on this machine": angles
        for name, angles in samples.items()
    }
    draw_ramachandran(titles, "alanine dipeptide").savefig(figure, dpi=130)
    print(f"wrote {figure}")


if __name__ == "__main__":
    main()
