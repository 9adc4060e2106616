"""What potentials refuse, and what happens where an energy does not converge."""

from __future__ import annotations

import importlib.metadata
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openmm
import potential_functions
import pytest
from chains import NUM_ATOMS
from openmm import app

from timewarp_openmm import TimewarpMCMCIntegrator
from timewarp_openmm.molecule.graph import molecule_from_topology
from timewarp_openmm.potentials.base import Atoms, ConvergenceError
from timewarp_openmm.potentials.force import PotentialEnergy, PotentialSpec, potential_force
from timewarp_openmm.potentials.function import FunctionPotential
from timewarp_openmm.potentials.registry import find_potential
from timewarp_openmm.potentials.serialization import deserialize_system, serialize_system
from timewarp_openmm.potentials.system import create_system, total_charge
from timewarp_openmm.simulation.systems import load_molecule, named_molecule, with_potential


def topology_of(symbols: list[str], bonds: list[tuple[int, int]]) -> app.Topology:
    topology = app.Topology()
    residue = topology.addResidue("LIG", topology.addChain())
    atoms = [
        topology.addAtom(f"{symbol}{i}", app.Element.getBySymbol(symbol), residue)
        for i, symbol in enumerate(symbols)
    ]
    for i, j in bonds:
        topology.addBond(atoms[i], atoms[j])
    return topology


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gfn3-xtb", "there is no potential 'gfn3-xtb'; there are gfn2-xtb"),
        ("no_such_module:energy", "cannot import no_such_module"),
        ("no_such_file.py:energy", "cannot import .*no_such_file.py.*FileNotFoundError"),
        ("potential_functions:nothing", "there is no function potential_functions:nothing"),
    ],
)
def test_a_potential_that_is_not_there_is_named(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_potential(name)


@pytest.mark.parametrize(
    ("name", "package"),
    [("gfn2-xtb", "tblite"), ("ani1x", "torchani"), ("openmmml:mace", "openmmml")],
)
def test_what_is_missing_is_named_with_what_installs_it(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(package: str) -> str:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr("timewarp_openmm.potentials.base.version", missing)
    with pytest.raises(ValueError, match=f"{name} needs {package}.*pip install"):
        find_potential(name)


def test_ions_are_not_for_ani() -> None:
    pytest.importorskip("torchani")
    with pytest.raises(ValueError, match=r"ani1x knows neutral molecules.*charge \+1"):
        find_potential("ani1x").calculator(Atoms((7, 1, 1, 1, 1), charge=1))
    water = molecule_from_topology(topology_of(["S", "H", "H"], [(0, 1), (0, 2)]))
    with pytest.raises(ValueError, match=r"does not know the element S .*it knows H C N O"):
        create_system(find_potential("ani1x"), water, charge=0)


def test_what_openmmml_cannot_make_is_named() -> None:
    pytest.importorskip("openmmml")
    with pytest.raises(ValueError, match="OpenMM-ML cannot make no-such-model"):
        find_potential("openmmml:no-such-model").calculator(Atoms((1, 1)))


def test_an_element_that_the_potential_lacks_is_named() -> None:
    pytest.importorskip("tblite")
    molecule = molecule_from_topology(topology_of(["C", "H", "H", "H", "Zn"], [(0, 4)]))
    with pytest.raises(ValueError, match=r"does not know the element Zn of 1:LIG1:Zn4 \(atom 4\)"):
        create_system(find_potential("gfn2-xtb"), molecule, charge=0)


@pytest.mark.parametrize(
    ("charge", "multiplicity", "fits"), [(0, 1, False), (0, 2, True), (1, 1, True), (1, 2, False)]
)
def test_a_radical_is_refused_unless_it_is_meant(
    charge: int, multiplicity: int, fits: bool
) -> None:
    methyl = molecule_from_topology(topology_of(["C", "H", "H", "H"], [(0, 1), (0, 2), (0, 3)]))
    potential = find_potential("potential_functions:pairs")
    if fits:
        assert create_system(potential, methyl, charge, multiplicity).getNumForces() == 1
    else:
        with pytest.raises(ValueError, match="it is a radical, or its charge"):
            create_system(potential, methyl, charge, multiplicity)


def charged_system(charges: list[float]) -> openmm.System:
    system, force = openmm.System(), openmm.NonbondedForce()
    for charge in charges:
        system.addParticle(1.0)
        force.addParticle(charge, 0.1, 0.0)
    system.addForce(force)
    return system


def test_charges_of_structure_and_system_must_agree() -> None:
    molecule = named_molecule("alanine-dipeptide")
    atoms = molecule_from_topology(molecule.topology)
    assert total_charge(atoms, molecule.system) == total_charge(atoms) == 0
    wrong = charged_system([1.0] + 21 * [0.0])
    with pytest.raises(ValueError, match=r"has the charge \+0, and the System.*\+1\.000"):
        total_charge(atoms, wrong)
    with pytest.raises(ValueError, match=r"add up to 0\.400"):
        total_charge(atoms, charged_system([0.4] + 21 * [0.0]))
    unknown = atoms.without_bond_orders()
    assert total_charge(unknown, wrong) == 1
    with pytest.raises(ValueError, match="charge of the molecule is not known; give an SDF"):
        total_charge(unknown)


def test_functions_that_others_cannot_find_are_refused() -> None:
    def inner(positions: np.ndarray, atoms: Atoms) -> tuple[float, np.ndarray]:
        return 0.0, positions

    with pytest.raises(ValueError, match=r"cannot find .*inner; define the function at the top"):
        find_potential(inner)
    assert FunctionPotential.of(potential_functions.well).name == "potential_functions:well"


def test_forces_of_another_shape_are_refused() -> None:
    calculator = find_potential("potential_functions:misshapen").calculator(Atoms((1, 1)))
    with pytest.raises(ValueError, match=r"shape \[1, 3\]; they must have one row.* 2 atoms"):
        calculator(np.zeros((2, 3)))


def test_a_function_is_called_by_one_thread_at_a_time() -> None:
    """It may keep what it likes between calls."""
    calculators = [
        find_potential("potential_functions:alone").calculator(Atoms((1, 1))) for _ in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda calculator: calculator(np.ones((2, 3)))[0], calculators))
    assert found == 4 * [300.0]


def test_a_file_runs_no_code_that_the_user_has_not_named(tmp_path: Path) -> None:
    """Neither a pickle nor a function; worker processes of the same session may."""
    file, trace = tmp_path / "mine.py", tmp_path / "trace"
    file.write_text(
        f"open({str(trace)!r}, 'w').close()\n"
        "def energy(positions, atoms):\n    return 0.0, 0 * positions\n"
    )
    molecule = with_potential(named_molecule("alanine-dipeptide"), f"{file}:energy")
    text = serialize_system(molecule.system)
    assert trace.exists()
    assert deserialize_system(text).getNumForces() == 1
    other = text.replace("mine.py", "other.py")
    trace.unlink()
    file.rename(tmp_path / "other.py")
    with pytest.raises(ValueError, match=r"only run if you name it; give it as --target"):
        deserialize_system(other)
    with pytest.raises(ValueError, match=r"PythonForce.*can run any code"):
        deserialize_system(openmm.XmlSerializer.serialize(molecule.system))
    assert not trace.exists()
    (tmp_path / "system.xml").write_text(openmm.XmlSerializer.serialize(molecule.system))
    structure = Path(__file__).parents[3] / "examples" / "molecules" / "leucine-dipeptide.pdb"
    with pytest.raises(ValueError, match=r"system.xml cannot be read.*PythonForce"):
        load_molecule(structure, system_xml=tmp_path / "system.xml")


def test_a_force_that_others_cannot_make_is_not_stored() -> None:
    system = openmm.System()
    system.addForce(openmm.PythonForce(lambda state: (0.0, np.zeros((0, 3)))))
    with pytest.raises(ValueError, match=r"only runs in this process"):
        serialize_system(system)


def test_another_version_is_another_potential(tmp_path: Path) -> None:
    file = tmp_path / "edited.py"
    code = "def energy(positions, atoms):\n    return 0.0, 0 * positions\n"
    file.write_text(code)
    molecule = with_potential(named_molecule("alanine-dipeptide"), f"{file}:energy")
    text = serialize_system(molecule.system)
    file.write_text(code.replace("0.0", "1.0"))
    with pytest.raises(ValueError, match=r"was made with .*SHA-256 .*here it is SHA-256"):
        deserialize_system(text)


def bounded_system() -> openmm.System:
    """Return wells whose energy does not converge to the right of 0.1 nm."""
    system = openmm.System()
    for _ in range(NUM_ATOMS):
        system.addParticle(12.0)
    potential = find_potential("potential_functions:bounded_well")
    spec = PotentialSpec(potential.name, potential.version, Atoms(NUM_ATOMS * (6,)))
    system.addForce(potential_force(spec, potential))
    return system


@pytest.mark.parametrize("subchain", [0, 3])
@pytest.mark.parametrize("name", ["Reference", "CPU"])
def test_what_does_not_converge_is_rejected_and_counted(
    name: str, subchain: int, models: dict[str, str]
) -> None:
    """Also after a subchain, whose surrogate knows nothing of it."""
    integrator = TimewarpMCMCIntegrator(models["lags"], temperature=300)
    integrator.setRandomNumberSeed(3)
    if subchain:
        import torch

        class Flat(torch.nn.Module):
            def forward(self, positions: torch.Tensor) -> torch.Tensor:
                return 0 * positions.double().flatten(1).sum(1)

        integrator.setSurrogate(torch.jit.script(Flat()), subchain)
    platform = openmm.Platform.getPlatformByName(name)
    context = openmm.Context(bounded_system(), integrator, platform)
    context.setPositions(np.zeros((NUM_ATOMS, 3)))
    right = 0
    for _ in range(200):
        integrator.step(1)
        positions = context.getState(positions=True).getPositions(asNumpy=True)._value
        right += int((positions[:, 0] > 0.1).any())
    assert right == 0
    assert integrator.getNumAccepted() > 5
    assert integrator.getNumNonFinite() > 5


def state_of(positions: np.ndarray) -> openmm.State:
    """Return the State that a force is given, at positions of alanine dipeptide."""
    platform = openmm.Platform.getPlatformByName("Reference")
    system = named_molecule("alanine-dipeptide").system
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(positions)
    return context.getState(positions=True)


def never_converging() -> PotentialEnergy:
    potential = find_potential("potential_functions:never")
    atoms = molecule_from_topology(named_molecule("alanine-dipeptide").topology)
    numbers = tuple(app.Element.getBySymbol(e).atomic_number for e in atoms.elements)
    return PotentialEnergy(PotentialSpec(potential.name, "", Atoms(numbers)), potential)


def test_too_many_failures_stop_with_the_structure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than one in a hundred: the eleventh of the first thousand, each written anew."""
    monkeypatch.chdir(tmp_path)
    energy, positions = never_converging(), named_molecule("alanine-dipeptide").positions
    state = state_of(positions)
    for _ in range(10):
        assert energy(state)[0] == math.inf
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):
        with pytest.raises(ValueError, match=r"1[12] of 1[12] energies.*not-converged-.*\.xyz"):
            energy(state)
    files = sorted(tmp_path.glob("not-converged-*.xyz"))
    assert len(files) == 2
    lines = files[0].read_text().splitlines()
    assert lines[0] == "22"
    written = np.array([line.split()[1:] for line in lines[2:]], dtype=float)
    np.testing.assert_allclose(written, 10 * positions, atol=1e-7)


@pytest.mark.parametrize("what", ["collides", "has come off"])
def test_what_is_no_molecule_says_nothing_of_the_potential(what: str) -> None:
    """A minimiser tries such structures, and so does a flow that has learned little."""
    positions = named_molecule("alanine-dipeptide").positions.copy()
    positions[3] = positions[8] + 0.01 if what == "collides" else positions[3] + 2.0
    energy, state = never_converging(), state_of(positions)
    for _ in range(50):
        assert energy(state)[0] == math.inf
    assert (energy.energies, energy.failures) == (50, 0)


def test_a_minimiser_steps_back_from_what_does_not_converge() -> None:
    """OpenMM's first step of GFN2-xTB from a force field's minimum tears the molecule apart."""
    pytest.importorskip("tblite")
    molecule = named_molecule("alanine-dipeptide")
    target = with_potential(molecule, "gfn2-xtb")
    platform = openmm.Platform.getPlatformByName("Reference")
    contexts = [
        openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
        for system in (molecule.system, target.system)
    ]
    contexts[0].setPositions(molecule.positions)
    openmm.LocalEnergyMinimizer.minimize(contexts[0])
    contexts[1].setPositions(contexts[0].getState(positions=True).getPositions())
    before = contexts[1].getState(energy=True).getPotentialEnergy()._value
    openmm.LocalEnergyMinimizer.minimize(contexts[1], maxIterations=20)
    after = contexts[1].getState(energy=True).getPotentialEnergy()._value
    assert before - 200 < after < before - 5


def test_xtb_that_does_not_converge_says_so() -> None:
    pytest.importorskip("tblite")
    molecule = named_molecule("alanine-dipeptide")
    atoms = molecule_from_topology(molecule.topology)
    numbers = tuple(app.Element.getBySymbol(e).atomic_number for e in atoms.elements)
    calculator = find_potential("gfn2-xtb").calculator(Atoms(numbers))
    with pytest.raises(ConvergenceError, match="SCF not converged"):
        calculator(4.0 * molecule.positions)
    assert math.isfinite(calculator(molecule.positions)[0])
