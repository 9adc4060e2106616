"""From a name, a structure file or a System XML to a molecule that a flow can move."""

from __future__ import annotations

import copyreg
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

from .._opencl import provide_opencl
from ..molecule.graph import molecule_from_topology
from ..molecule.selection import is_water
from ..molecule.structure_files import load_structure
from ..potentials.function import Function
from ..potentials.registry import find_potential, is_potential, short_name
from ..potentials.serialization import deserialize_system, serialize_system
from ..potentials.system import create_system, total_charge
from ..units import DALTON, NANOMETER
from .gbsa import with_builtin_gbsa

#: amber99sbildn with the OBC implicit solvent: what the published alanine dipeptide data used.
DEFAULT_FORCE_FIELD = ("amber99sbildn.xml", "amber99_obc.xml")
#: nm; in a box.
DEFAULT_CUTOFF = 1.0
#: Molecules that come with the package: name -> force field files.
NAMED_MOLECULES = {"alanine-dipeptide": DEFAULT_FORCE_FIELD}


@dataclass(frozen=True)
class MolecularSystem:
    """A molecule with its force field and one conformation.

    Attributes
    ----------
    name : str
    topology : openmm.app.Topology
    system : openmm.System
    positions : array [N, 3], nm
    force_field : tuple of str
        The files that the System was made from.
    """

    name: str
    topology: app.Topology
    system: openmm.System
    positions: NDArray[np.float64]
    force_field: tuple[str, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        system = serialize_system(self.system)
        return _restored, (self.name, self.topology, system, self.positions, self.force_field)


def _restored(
    name: str,
    topology: app.Topology,
    system: str,
    positions: NDArray[np.float64],
    force_field: tuple[str, ...],
) -> MolecularSystem:
    # A pickle runs what it holds in any case.
    own = deserialize_system(system, trusted=True)
    return MolecularSystem(name, topology, own, positions, force_field)


# There is one object of each element, by which OpenMM tells them.
copyreg.pickle(app.Element, lambda element: (app.Element.getBySymbol, (element.symbol,)))


@dataclass(frozen=True)
class DynamicsOptions:
    """How a System is made whose parts are moved between molecular dynamics.

    Its bonds to hydrogen are constrained, and water is rigid. A structure with a box and water in
    it is periodic (PME); any other has no box, whatever its file says of a crystal's cell.

    Attributes
    ----------
    cutoff : float, optional
        nm; by default 1.0 in a box and none elsewhere.
    hydrogen_mass : float, optional
        dalton, taken from the atom that a hydrogen is bonded to; by default hydrogens keep theirs.
    flexible : bool
        Whether the terms of constrained bonds stay, for those who drop constraints.
    """

    cutoff: float | None = None
    hydrogen_mass: float | None = None
    flexible: bool = False

    def arguments(self, topology: app.Topology) -> dict[str, Any]:
        """Return what ForceField.createSystem is told."""
        periodic = is_solvated(topology)
        cutoff = self.cutoff or (DEFAULT_CUTOFF if periodic else None)
        without_box = app.NoCutoff if cutoff is None else app.CutoffNonPeriodic
        found = {
            "nonbondedMethod": app.PME if periodic else without_box,
            "constraints": app.HBonds,
            "rigidWater": True,
            "flexibleConstraints": self.flexible,
            "removeCMMotion": False,
        }
        if cutoff is not None:
            # Scripts of force fields ask for its unit.
            found["nonbondedCutoff"] = cutoff * NANOMETER
        if self.hydrogen_mass is not None:
            found["hydrogenMass"] = self.hydrogen_mass * DALTON
        return found


#: As a flow can move it: no cut-off, no constraints, no removal of the drift.
_FREE = {
    "nonbondedMethod": app.NoCutoff,
    "constraints": None,
    "rigidWater": False,
    "removeCMMotion": False,
}


def is_solvated(topology: app.Topology) -> bool:
    """Tell a box of water from a molecule without, also one whose file states a crystal's cell."""
    if topology.getPeriodicBoxVectors() is None:
        return False
    return any(is_water(residue) for residue in topology.residues())


def build_system(
    topology: app.Topology,
    force_field: Sequence[str] = DEFAULT_FORCE_FIELD,
    dynamics: DynamicsOptions | None = None,
) -> openmm.System:
    """Make a System that a flow can move as a whole: no cut-off, no constraints, no removal of the
    drift. With `dynamics`, one of which it moves parts. OBC2 is made as OpenMM's own GBSAOBCForce,
    however the files write it.

    Raises
    ------
    ValueError
        If a force field file cannot be found or has no parameters for a residue, or is one of
        implicit solvent for a structure in water.
    """
    try:
        parameters = app.ForceField(*force_field)
    except Exception as error:  # OpenMM raises ValueError, OSError or a parse error by cause
        raise ValueError(
            f"cannot load the force field {' '.join(force_field)}: {error}; name OpenMM's own "
            "files (such as amber99sbildn.xml) or paths to XML files"
        ) from error
    solvated = dynamics is not None and is_solvated(topology)
    try:
        arguments = _FREE if dynamics is None else dynamics.arguments(topology)
        system = parameters.createSystem(topology, **arguments)
    except Exception as error:  # ValueError for missing templates, a bare Exception for several
        if solvated and any(word in str(error) for word in ("GBSAOBC", "implicit solvent")):
            raise ValueError(_not_implicit(force_field)) from error
        raise ValueError(
            f"the force field {' '.join(force_field)} does not fit the molecule: {error} "
            + _remedy(str(error))
        ) from error
    if dynamics is None:
        check_movable(system)
    elif solvated and _is_implicit(system):
        raise ValueError(_not_implicit(force_field))
    return with_builtin_gbsa(system)


def _not_implicit(force_field: Sequence[str]) -> str:
    return (
        f"the structure holds water, and {' '.join(force_field)} puts implicit solvent around it; "
        "name a force field with a model of water with --force-field, such as amber14-all.xml "
        "amber14/tip3p.xml"
    )


def _is_implicit(system: openmm.System) -> bool:
    kinds = (openmm.GBSAOBCForce, openmm.CustomGBForce)
    return any(isinstance(force, kinds) for force in system.getForces())


def _remedy(message: str) -> str:
    if "Multiple non-identical matching templates" in message:
        return (
            "Choose one of these templates yourself: make the System with OpenMM's "
            "createSystem(..., residueTemplates={residue: name}), write it with XmlSerializer, and "
            "give it with --system"
        )
    return (
        "Add missing hydrogens and caps to the structure, or name a force field that has these "
        "residues with --force-field"
    )


def with_hydrogen_bonds_constrained(molecule: MolecularSystem) -> openmm.System:
    """Return a copy of the System in which bonds to hydrogen have the length of least energy.

    As ``createSystem(constraints=HBonds)`` makes it, for Systems of any origin.

    Raises
    ------
    ValueError
        If no HarmonicBondForce says how long a bond is.
    """
    system = openmm.XmlSerializer.clone(molecule.system)
    hydrogens = {atom.index for atom in molecule.topology.atoms() if atom.element.symbol == "H"}
    missing = {
        frozenset((first.index, second.index))
        for first, second in molecule.topology.bonds()
        if hydrogens & {first.index, second.index}
    }
    for force in system.getForces():
        if not isinstance(force, openmm.HarmonicBondForce):
            continue
        for number in range(force.getNumBonds()):
            i, j, length, _ = force.getBondParameters(number)
            if frozenset((i, j)) in missing:
                missing.remove(frozenset((i, j)))
                system.addConstraint(i, j, length)
                force.setBondParameters(number, i, j, length, 0.0)
    if missing:
        i, j = sorted(min(missing, key=sorted))
        raise ValueError(
            f"no HarmonicBondForce of the System says how long the bond between particles {i} and "
            f"{j} is, so that it cannot be constrained; leave constraints out"
        )
    return system


def check_movable(system: openmm.System) -> None:
    """Refuse what has no density for a flow: constraints, virtual sites, massless particles.

    Raises
    ------
    ValueError
        Naming the first such particle and how to build the System without it.
    """
    if system.getNumConstraints() > 0:
        i, j, _ = system.getConstraintParameters(0)
        raise ValueError(
            f"the System has {system.getNumConstraints()} constraints (the first between particles "
            f"{i} and {j}), without which models are made; make it with constraints=None and "
            "rigidWater=False. They serve Systems with constraints all the same"
        )
    for i in range(system.getNumParticles()):
        if system.isVirtualSite(i):
            raise ValueError(
                f"particle {i} is a virtual site; use a force field without virtual sites"
            )
        if system.getParticleMass(i)._value <= 0:
            raise ValueError(f"particle {i} has no mass; give every particle its mass")


def named_molecule(name: str) -> MolecularSystem:
    """Return a molecule that comes with the package.

    Raises
    ------
    ValueError
        If there is none of this name.

    Examples
    --------
    >>> named_molecule("alanine-dipeptide").system.getNumParticles()
    22
    """
    if name not in NAMED_MOLECULES:
        raise ValueError(
            f"no molecule named {name!r}; there are: {', '.join(NAMED_MOLECULES)}. "
            "Give another molecule as a PDB, mmCIF, SDF or MOL file"
        )
    with resources.as_file(structure_file(name)) as path:
        topology, positions = load_structure(path)
    force_field = NAMED_MOLECULES[name]
    return MolecularSystem(
        name, topology, build_system(topology, force_field), positions, force_field
    )


def structure_file(name: str) -> resources.abc.Traversable:
    """Return the PDB file of a named molecule."""
    return resources.files("timewarp_openmm") / "data" / "structures" / f"{name}.pdb"


def load_molecule(
    structure: str | Path,
    force_field: Sequence[str] | None = None,
    system_xml: str | Path | None = None,
    dynamics: DynamicsOptions | None = None,
    target: str | None = None,
) -> MolecularSystem:
    """Make a molecule from a structure file (see `load_structure`) and a force field (by default
    DEFAULT_FORCE_FIELD), the name of a potential in its place (see `potentials.registry`), or a
    System XML; with `dynamics`, as `build_system` takes it, any System, of which OBC2 is made as
    OpenMM's own GBSAOBCForce. With `target`, the name of
    a potential, its energy is that, and a System that is given only says what its charge is.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing or malformed, or the parts do not fit each other.
    """
    if target is not None and (force_field or system_xml is not None):
        return with_potential(load_molecule(structure, force_field, system_xml), target)
    topology, positions = load_structure(structure)
    name = Path(structure).stem
    if target is not None:
        return _with_named_potential(name, topology, positions, target, dynamics)
    if system_xml is None:
        files = tuple(force_field or DEFAULT_FORCE_FIELD)
        if any(is_potential(file) for file in files):
            if len(files) > 1:
                raise ValueError(f"a potential goes with no other force field: {' '.join(files)}")
            return _with_named_potential(name, topology, positions, files[0], dynamics)
        system = build_system(topology, files, dynamics)
        return MolecularSystem(name, topology, system, positions, files)
    if force_field:
        raise ValueError("give either force field files or a System XML, not both")
    system = load_system_xml(system_xml)
    if system.getNumParticles() != topology.getNumAtoms():
        raise ValueError(
            f"{system_xml} has {system.getNumParticles()} particles but {structure} has "
            f"{topology.getNumAtoms()} atoms; make the System from this structure"
        )
    if dynamics is None:
        check_movable(system)
    else:
        # Local energies know its Born terms, and it is faster.
        system = with_builtin_gbsa(system)
    return MolecularSystem(name, topology, system, positions, (Path(system_xml).name,))


def with_potential(
    molecule: MolecularSystem, potential: str | Function, charge: int | None = None
) -> MolecularSystem:
    """Return a molecule with another energy: a potential instead of its force field.

    Parameters
    ----------
    potential : str or callable
        As `find_potential` takes it.
    charge : int, optional
        By default what its bond orders and its present System say.

    Raises
    ------
    ValueError
        If these differ, there is no such potential, or it does not know the molecule's elements.
    """
    found = find_potential(potential)
    atoms = molecule_from_topology(molecule.topology, molecule.system)
    if charge is None:
        charge = total_charge(atoms, molecule.system)
    return replace(
        molecule,
        system=create_system(found, atoms, charge),
        force_field=(short_name(found),),
    )


def _with_named_potential(
    name: str,
    topology: app.Topology,
    positions: NDArray[np.float64],
    potential_name: str,
    dynamics: DynamicsOptions | None,
) -> MolecularSystem:
    if dynamics is not None:
        raise ValueError(
            f"{potential_name} is a potential of one isolated molecule; blocks and water need a "
            "force field"
        )
    potential, atoms = find_potential(potential_name), molecule_from_topology(topology)
    system = create_system(potential, atoms, total_charge(atoms))
    return MolecularSystem(name, topology, system, positions, (short_name(potential),))


def load_system_xml(path: str | Path) -> openmm.System:
    """Read a System that openmm.XmlSerializer or `serialize_system` wrote.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no System XML at {path}")
    try:
        return deserialize_system(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as a System: {error}") from error


def make_platform(name: str) -> tuple[openmm.Platform, dict[str, str]]:
    """Return an OpenMM platform and its properties for one thread.

    Raises
    ------
    ValueError
        If there is no platform of this name.
    """
    provide_opencl()
    names = [
        openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())
    ]
    if name not in names:
        raise ValueError(f"no OpenMM platform named {name!r}; there are: {', '.join(names)}")
    return openmm.Platform.getPlatformByName(name), {"Threads": "1"} if name == "CPU" else {}
