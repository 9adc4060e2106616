"""Residue numbers as the structure has them, in MDTraj HDF5 files.

MDTraj's topology has whole numbers only: an insertion code (52A) and an identifier in hexadecimal
are lost. So they are kept beside it, in an attribute of the file that MDTraj leaves alone.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..stored import conform

if TYPE_CHECKING:
    # The process that reads trajectories does without OpenMM.
    from openmm import app

_ATTRIBUTE = "residue_labels"
_Labels = list[tuple[str, str]]


def residue_labels(topology: app.Topology) -> str:
    """Return the number and the insertion code of each residue, as they are written to a file."""
    return json.dumps([(r.id, (r.insertionCode or "").strip()) for r in topology.residues()])


def write_labels(file: Any, labels: str) -> None:
    """Put labels into an open HDF5TrajectoryFile."""
    file.root._v_attrs[_ATTRIBUTE] = labels


def read_labels(file: Any) -> str | None:
    """Return the labels in an open HDF5TrajectoryFile; None where there are none."""
    attributes = file.root._v_attrs
    return str(attributes[_ATTRIBUTE]) if _ATTRIBUTE in attributes else None


def label_residues(topology: app.Topology, labels: str) -> None:
    """Give the residues of a topology the labels that `residue_labels` returned.

    Raises
    ------
    ValueError
        If these are not the labels of so many residues.
    """
    try:
        found = conform(json.loads(labels), _Labels)
        pairs = list(zip(topology.residues(), found, strict=True))
    except ValueError as error:
        raise ValueError(f"its {_ATTRIBUTE} are not those of its residues: {error}") from error
    for residue, (number, code) in pairs:
        residue.id, residue.insertionCode = number, code
