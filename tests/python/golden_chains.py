"""Chains of the bundled models, as they were before a refactoring: what it must not change.

``python golden_chains.py FILE`` runs every case and writes what happened, in an environment whose
arithmetic does not depend on the processor as far as that can be had.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORD = Path(__file__).parents[1] / "data" / "golden-chains.json"
#: One thread, and code paths that all processors share.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_CBWR": "COMPATIBLE",
    "ATEN_CPU_CAPABILITY": "default",
    "DNNL_MAX_CPU_ISA": "SSE41",
}
MODELS = {
    "alanine-dipeptide": 120,
    "alanine-dipeptide-lags": 120,
    "alanine-dipeptide-cartesian": 300,
}
#: A state that the first model's chain has come to; the third accepts little from a minimum.
START = Path(__file__).parents[1] / "data" / "golden-start.json"


@dataclass(frozen=True)
class Case:
    """One chain.

    Attributes
    ----------
    model, platform : str
    batch, iterations : int
    surrogate : bool
        Whether proposals are tested with a surrogate first, three to a step.
    resumed : bool
        Whether it goes on from a checkpoint in a new Context after the first half.
    """

    model: str
    platform: str
    batch: int
    iterations: int
    surrogate: bool
    resumed: bool

    @property
    def name(self) -> str:
        parts = [self.model, self.platform, f"batch {self.batch}"]
        parts += ["surrogate"] * self.surrogate + ["resumed"] * self.resumed
        return ", ".join(parts)


def cases(platforms: tuple[str, ...]) -> list[Case]:
    """Return all cases on these platforms."""
    return [
        Case(model, platform, batch, iterations, surrogate, resumed)
        for platform in platforms
        for model, iterations in MODELS.items()
        for batch in (1, 64)
        for surrogate in (False, True)
        for resumed in (False, True)
        if not (resumed and batch == 1)
    ]


def run(case: Case) -> dict[str, Any]:
    """Run a chain; return its decisions and its last state, and a digest of all its states."""
    from chains import positions_of, velocities_of

    simulation = _simulation(case)
    decisions, digest = [], hashlib.sha256()
    previous = positions_of(simulation.context)
    for iteration in range(case.iterations):
        if case.resumed and iteration == case.iterations // 2:
            simulation = _resumed(case, simulation)
        simulation.step(1)
        positions = positions_of(simulation.context)
        decisions.append("1" if (positions != previous).any() else "0")
        previous = positions
        digest.update(positions.tobytes())
        digest.update(velocities_of(simulation.context).tobytes())
    return {
        "decisions": "".join(decisions),
        "positions": previous.round(9).tolist(),
        "digest": digest.hexdigest(),
    }


def _simulation(case: Case) -> Any:
    from chains import make_platform
    from openmm import app

    from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
    from timewarp_openmm.simulation.systems import named_molecule

    molecule = named_molecule("alanine-dipeptide")
    integrator = TimewarpMCMCIntegrator(pretrained(case.model))
    integrator.setBatchSize(case.batch)
    integrator.setRandomNumberSeed(20)
    if case.surrogate:
        integrator.setSurrogate(_surrogate(), 3)
    platform, properties = make_platform(case.platform)
    if "Precision" in properties:
        properties["Precision"] = "double"
    simulation = app.Simulation(
        molecule.topology, molecule.system, integrator, platform, properties
    )
    simulation.context.setPositions(json.loads(START.read_text()))
    return simulation


def _surrogate() -> Any:
    """Return the energy without its solvent: a surrogate that is wrong, so that both tests act."""
    from timewarp_openmm.energies import surrogate_energy
    from timewarp_openmm.simulation.systems import named_molecule

    system = named_molecule("alanine-dipeptide").system
    for index in reversed(range(system.getNumForces())):
        if "GB" in type(system.getForce(index)).__name__:
            system.removeForce(index)
    return surrogate_energy(system)


def _resumed(case: Case, simulation: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "checkpoint")
        simulation.saveCheckpoint(file)
        again = _simulation(case)
        again.loadCheckpoint(file)
    return again


def fingerprint() -> str:
    """Return what the last bits depend on: versions and processor."""
    import openmm
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    return f"torch {torch.__version__}, openmm {openmm.__version__}, {model}"


def run_all(platforms: tuple[str, ...]) -> dict[str, Any]:
    """Run all cases in a process of their own; return their results by name."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        subprocess.run(
            [sys.executable, __file__, str(out), *platforms],
            env={**os.environ, **ENVIRONMENT},
            check=True,
        )
        result: dict[str, Any] = json.loads(out.read_text())
    return result


def main() -> None:
    out, *platforms = sys.argv[1:]
    results = {case.name: run(case) for case in cases(tuple(platforms) or ("Reference", "OpenCL"))}
    content = {"fingerprint": fingerprint(), "chains": results}
    Path(out).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
