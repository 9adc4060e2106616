"""Systems as text, also those with a potential: the one place that serializes them.

OpenMM stores a PythonForce as a pickle, and reading one runs whatever code it holds. Here the
*name* of the potential is stored with its version and atoms, and its force is made anew.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from xml.etree import ElementTree

import openmm

from .force import PotentialSpec, force_of_spec, read_spec, spec_of

#: The root of a file with potentials; OpenMM alone refuses it rather than to leave them out.
_ROOT, _ENTRY = "SystemWithPotentials", "Potential"


def serialize_system(system: openmm.System) -> str:
    """Return a System as XML.

    Raises
    ------
    ValueError
        If it has a PythonForce that is no potential of the registry.
    """
    specs = [_named_spec(f) for f in system.getForces() if isinstance(f, openmm.PythonForce)]
    if not specs:
        return str(openmm.XmlSerializer.serialize(system))
    rest = openmm.XmlSerializer.clone(system)
    for index in reversed(range(rest.getNumForces())):
        if isinstance(rest.getForce(index), openmm.PythonForce):
            rest.removeForce(index)
    root = ElementTree.Element(_ROOT)
    for spec in specs:
        ElementTree.SubElement(root, _ENTRY).text = json.dumps(asdict(spec))
    root.append(ElementTree.fromstring(openmm.XmlSerializer.serialize(rest)))
    return ElementTree.tostring(root, "unicode")


def _named_spec(force: openmm.PythonForce) -> PotentialSpec:
    spec = spec_of(force)
    if spec is None:
        raise ValueError(
            f"the System has a PythonForce ({force.getName()}) that only runs in this process; "
            "make the System by timewarp_openmm.potentials, so that others find its function"
        )
    return spec


def deserialize_system(text: str, trusted: bool = False) -> openmm.System:
    """Return the System that `serialize_system` or OpenMM wrote.

    Parameters
    ----------
    trusted : bool
        Whether the text comes from this session, so that functions that it names may be run.

    Raises
    ------
    ValueError
        If it is something else, holds a pickle, or names a function that the user has not.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML: {error}") from error
    if any(node.get("type") == "PythonForce" for node in root.iter()):
        raise ValueError(
            "it holds a PythonForce, which is stored as a pickle and can run any code; name its "
            "potential with --target or --force-field instead"
        )
    if root.tag != _ROOT:
        return _deserialize(text)
    body = root.find("System")
    if body is None:
        raise ValueError("it holds potentials without a System")
    system = _deserialize(ElementTree.tostring(body, "unicode"))
    for entry in root.findall(_ENTRY):
        try:
            spec = read_spec(entry.text or "")
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"it does not describe its potential: {error}") from error
        system.addForce(force_of_spec(spec, trusted))
    return system


def _deserialize(text: str) -> openmm.System:
    try:
        system = openmm.XmlSerializer.deserialize(text)
    except (openmm.OpenMMException, ValueError) as error:
        raise ValueError(f"not a serialized System: {error}") from error
    if not isinstance(system, openmm.System):
        raise ValueError(f"a {type(system).__name__}, not a System")
    return system
