"""What a molecule is, by content: a file's name says nothing about it."""

from __future__ import annotations

import json
import re
from hashlib import sha256

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

from ..potentials.serialization import serialize_system
from .systems import MolecularSystem


def content_of(molecule: MolecularSystem) -> dict[str, object]:
    """Return the digests that identify a molecule among stored work."""
    return {
        "system": system_digest(molecule.system),
        "structure": structure_digest(molecule.topology, molecule.positions),
    }


def system_digest(system: openmm.System) -> str:
    """Return the SHA-256 of a System as OpenMM serializes it, whatever version does."""
    text = re.sub(r' openmmVersion="[^"]*"', "", serialize_system(system), count=1)
    return sha256(text.encode()).hexdigest()


def structure_digest(topology: app.Topology, positions: NDArray[np.float64]) -> str:
    """Return the SHA-256 of atoms, bonds and positions [..., N, 3] / nm.

    Bond orders, which decide on a flow's coordinates, count where the topology states any.
    """
    atoms = [
        (atom.name, atom.element.symbol if atom.element else "", atom.residue.name, atom.residue.id)
        for atom in topology.atoms()
    ]
    bonds = sorted(sorted((bond[0].index, bond[1].index)) for bond in topology.bonds())
    orders = sorted(
        (*sorted((bond[0].index, bond[1].index)), str(bond.order or bond.type))
        for bond in topology.bonds()
        if bond.order is not None or bond.type is not None
    )
    digest = sha256(json.dumps([atoms, bonds, *([orders] if orders else [])]).encode())
    digest.update(np.ascontiguousarray(positions, dtype=np.float64).tobytes())
    return digest.hexdigest()
