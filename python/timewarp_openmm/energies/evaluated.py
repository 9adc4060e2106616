"""Energies and forces of many conformations, kept on disk so that none is computed twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openmm
from numpy.typing import NDArray

from ..potentials.serialization import serialize_system
from ..stages import compare, refuse
from ..stored import read_arrays, write_arrays
from ..units import thermal_energy
from ..workers.base import Workers
from ..workers.opening import using
from .workers import EnergyWorkers

#: Conformations of one file, of each worker.
_CHUNK = 16
_REMEDY = "remove it, so that its energies are computed again"
_SCHEMA = {"identity": "str", "energies": "float F", "gradients": "float F N 3"}


def evaluate_into(
    folder: Path,
    system: openmm.System,
    positions: NDArray[np.float64],
    temperature: float,
    workers: int | Workers,
    max_seconds: float,
    least: int = 0,
    report: Callable[[float, str], None] = lambda *_: None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return U/kT [F'] and its gradient [F', N, 3] / 1/nm of the first F' conformations.

    What an earlier call has computed in `folder` is read; what the time allows is computed now.

    Parameters
    ----------
    positions : array [F, N, 3], nm
    temperature : float
        K.
    workers : int or Workers
        Who computes them, or so many processes of this machine.
    max_seconds : float
        No more is begun after it, once so many as `least` are there.

    Raises
    ------
    FileExistsError
        If `folder` holds energies of another System or of other conformations.
    """
    from hashlib import sha256

    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    identity: dict[str, object] = {
        "system": sha256(serialize_system(system).encode()).hexdigest(),
        "positions": sha256(np.ascontiguousarray(positions, dtype=float).tobytes()).hexdigest(),
        "kT": thermal_energy(temperature),
    }
    energies: list[NDArray[np.float64]] = []
    gradients: list[NDArray[np.float64]] = []
    done = 0
    with using(workers) as where:
        elsewhere = EnergyWorkers(system, temperature, "Reference", where)
        while done < len(positions):
            path = folder / f"energies-{len(energies):05d}.npz"
            if path.exists():
                found = _read(path, identity)
            elif done >= least and time.monotonic() - began >= max_seconds:
                break
            else:
                chunk = positions[done : done + _CHUNK * where.count()]
                found = elsewhere.begin(chunk, forces=True).result()
                values = dict(zip(("energies", "gradients"), found, strict=True))
                write_arrays(path, {"identity": np.array(json.dumps(identity)), **values})
            energies.append(found[0])
            gradients.append(found[1])
            done += len(found[0])
            report(done / len(positions), f"{done} energies")
    if not energies:
        return np.zeros(0), np.zeros((0, *positions.shape[1:]))
    return np.concatenate(energies), np.concatenate(gradients)


def _read(
    path: Path, identity: dict[str, object]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    stored = read_arrays(path, _SCHEMA, _REMEDY)
    if different := compare(json.loads(str(stored["identity"])), identity):
        raise refuse(path.parent, "energies of something else", different)
    return stored["energies"], stored["gradients"]
