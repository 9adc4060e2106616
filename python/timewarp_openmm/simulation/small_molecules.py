"""Force fields of small molecules, by openmmforcefields and the OpenFF toolkit."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import openmm
from openmm import app

from ..molecule.mol_files import topology_of
from .gbsa import with_builtin_gbsa

if TYPE_CHECKING:
    from rdkit import Chem

Charges = Literal["nagl", "am1bcc"]
Solvent = Literal["none", "obc2"]
#: GAFF 2 as AmberTools has it.
DEFAULT_FORCE_FIELD = "gaff-2.2.20"
#: OpenFF's graph network that predicts AM1-BCC charges.
_NAGL_MODEL = "openff-gnn-am1bcc-1.0.0.pt"
_MODULES = ("openff.toolkit", "openmmforcefields")
_INSTALL = (
    'install them with pip install "timewarp-openmm[ligands]", or from conda-forge: '
    "openmmforcefields openff-nagl ambertools"
)
#: Elementary charges by which charges may fail to add up.
_CHARGE_TOLERANCE = 1e-3


def parametrise(
    mol: Chem.Mol,
    force_field: str = DEFAULT_FORCE_FIELD,
    charges: Charges = "nagl",
    solvent: Solvent = "obc2",
) -> openmm.System:
    """Make the System of a small molecule: no cut-off, no constraints.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        With all hydrogens, Kekulé bonds and stereochemistry; its atoms' order is the System's.
    force_field : str
        A version of GAFF, such as ``gaff-2.2.20``, or of OpenFF, such as ``openff-2.2.1``.
    charges : {"nagl", "am1bcc"}
        By OpenFF's network, or computed by AmberTools' sqm, which takes a minute and more.
    solvent : {"none", "obc2"}
        Vacuum, or OBC2.

    Raises
    ------
    ValueError
        If the packages are not installed, there is no such force field, or it lacks parameters.
    """
    _require_packages()
    from openff.toolkit import Molecule

    topology = topology_of(mol)
    with _programs_beside_python():
        molecule = Molecule.from_rdkit(mol, allow_undefined_stereo=True)
        _assign_charges(molecule, charges)
        generator = _generator(molecule, force_field)
        files = ["implicit/obc2.xml"] if solvent == "obc2" else []
        maker = app.ForceField(*files)
        maker.registerTemplateGenerator(generator.generator)
        try:
            system = maker.createSystem(
                topology,
                nonbondedMethod=app.NoCutoff,
                constraints=None,
                rigidWater=False,
                removeCMMotion=False,
            )
        except Exception as error:  # template generators raise whatever they meet
            raise ValueError(f"{force_field} has no parameters for it: {_first(error)}") from error
    return with_builtin_gbsa(system)


def _first(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _require_packages() -> None:
    missing = [name for name in _MODULES if not _is_there(name)]
    if missing:
        raise ValueError(f"small molecules need {' and '.join(missing)}; {_INSTALL}")


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def _programs_beside_python() -> Iterator[None]:
    """Let AmberTools' programs be found in an environment that is not activated."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


def _assign_charges(molecule: Any, charges: Charges) -> None:
    from openff.toolkit.utils import AmberToolsToolkitWrapper
    from openff.toolkit.utils.exceptions import ToolkitUnavailableException
    from openff.toolkit.utils.nagl_wrapper import NAGLToolkitWrapper

    method, kind = (
        (_NAGL_MODEL, NAGLToolkitWrapper)
        if charges == "nagl"
        else ("am1bcc", AmberToolsToolkitWrapper)
    )
    try:
        toolkit = kind()
    except ToolkitUnavailableException as error:
        raise ValueError(f"{charges} charges need a package that is missing; {_INSTALL}") from error
    try:
        molecule.assign_partial_charges(method, toolkit_registry=toolkit)
    except Exception as error:  # its wrappers raise whatever the programs do
        other = "; try am1bcc charges" if charges == "nagl" else ""
        raise ValueError(
            f"its {charges} charges cannot be computed: {_first(error)}{other}, or make the System "
            "yourself"
        ) from error
    total = float(molecule.partial_charges.magnitude.sum())
    if abs(total - float(molecule.total_charge.magnitude)) > _CHARGE_TOLERANCE:
        raise ValueError(
            f"its {charges} charges add up to {total:.3f}, and its charge is "
            f"{molecule.total_charge.magnitude}; try other charges"
        )


def _generator(molecule: Any, force_field: str) -> Any:
    from openmmforcefields.generators import GAFFTemplateGenerator, SMIRNOFFTemplateGenerator

    family = force_field.split("-")[0]
    kinds = {"gaff": GAFFTemplateGenerator, "openff": SMIRNOFFTemplateGenerator}
    if family not in kinds:
        raise ValueError(
            f"{force_field} is no force field of small molecules; name a version of GAFF, such as "
            f"{DEFAULT_FORCE_FIELD}, or of OpenFF, such as openff-2.2.1"
        )
    try:
        return kinds[family](molecules=[molecule], forcefield=force_field)
    except (ValueError, ImportError, SyntaxError) as error:
        raise ValueError(f"{force_field} cannot be used here: {_first(error)}") from error
