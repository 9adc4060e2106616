"""What holds for every potential: those whose packages are installed, and functions."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import openmm
import potential_functions
import pytest
from numpy.typing import NDArray
from openmm import app

from timewarp_openmm.molecule.equivalent_atoms import equivalent_leaves
from timewarp_openmm.molecule.graph import molecule_from_topology
from timewarp_openmm.potentials.base import Atoms
from timewarp_openmm.potentials.registry import find_potential
from timewarp_openmm.potentials.serialization import deserialize_system, serialize_system
from timewarp_openmm.potentials.system import create_system
from timewarp_openmm.simulation.systems import MolecularSystem, named_molecule, with_potential
from timewarp_openmm.units import KILOJOULE_PER_MOLE, NANOMETER

NAMES = ["gfn2-xtb", "gfn1-xtb", "ani1x", "openmmml:pairs", "potential_functions:pairs"]


@pytest.fixture(params=NAMES)
def molecule(request: pytest.FixtureRequest) -> MolecularSystem:
    """Alanine dipeptide with a potential."""
    if request.param == "openmmml:pairs":
        potential_functions.register_with_openmmml("pairs")
    try:
        return with_potential(named_molecule("alanine-dipeptide"), request.param)
    except ValueError as error:
        if "is not installed" in str(error):
            pytest.skip(str(error))
        raise


def evaluate(system: openmm.System, positions: NDArray[np.float64]) -> tuple[float, NDArray]:
    """Return energy / kJ/mol and forces / kJ/mol/nm in a new Context."""
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(positions)
    state = context.getState(energy=True, forces=True)
    forces = state.getForces(asNumpy=True).value_in_unit(KILOJOULE_PER_MOLE / NANOMETER)
    return state.getPotentialEnergy().value_in_unit(KILOJOULE_PER_MOLE), np.asarray(forces)


def bent(molecule: MolecularSystem) -> NDArray[np.float64]:
    """Return positions that are no minimum."""
    noise = np.random.default_rng(5).normal(size=molecule.positions.shape)
    return molecule.positions + 0.003 * noise


def test_forces_are_the_gradient_of_the_energy(molecule: MolecularSystem) -> None:
    positions = bent(molecule)
    _, forces = evaluate(molecule.system, positions)
    for seed in range(3):
        direction = np.random.default_rng(seed).normal(size=positions.shape)
        direction /= np.linalg.norm(direction)
        step = 1e-4
        above, _ = evaluate(molecule.system, positions + step * direction)
        below, _ = evaluate(molecule.system, positions - step * direction)
        slope = (above - below) / (2 * step)
        assert slope == pytest.approx(-(forces * direction).sum(), abs=0.5, rel=1e-3)


def test_rigid_motion_leaves_the_energy_and_turns_the_forces(molecule: MolecularSystem) -> None:
    positions = bent(molecule)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    energy, forces = evaluate(molecule.system, positions)
    moved_energy, moved_forces = evaluate(molecule.system, positions @ turn.T + [0.3, -0.2, 0.9])
    assert moved_energy == pytest.approx(energy, abs=2e-3)
    np.testing.assert_allclose(moved_forces, forces @ turn.T, atol=0.5)


def test_exchanging_equivalent_atoms_leaves_the_energy(molecule: MolecularSystem) -> None:
    atoms = molecule_from_topology(molecule.topology, molecule.system)
    groups = [g for g in equivalent_leaves(atoms) if len(g) > 1]
    assert len(groups) >= 3
    positions = bent(molecule)
    energy, _ = evaluate(molecule.system, positions)
    for group in groups:
        exchanged = positions.copy()
        exchanged[list(group)] = positions[[*group[1:], group[0]]]
        assert evaluate(molecule.system, exchanged)[0] == pytest.approx(energy, abs=2e-3)


def test_an_energy_does_not_depend_on_those_before(molecule: MolecularSystem) -> None:
    """Bit for bit, whatever Context and calculator computes it, in whatever order."""
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(molecule.system, openmm.VerletIntegrator(0.001), platform)
    found = []
    for positions in (molecule.positions, bent(molecule), molecule.positions):
        context.setPositions(positions)
        energy = context.getState(energy=True).getPotentialEnergy()
        found.append(energy.value_in_unit(KILOJOULE_PER_MOLE))
        assert found[-1] == evaluate(molecule.system, positions)[0]
    assert found[0] == found[2] != found[1]


def test_a_stored_system_is_the_same_one(molecule: MolecularSystem) -> None:
    text = serialize_system(molecule.system)
    assert "function=" not in text
    again = deserialize_system(text, trusted=True)
    assert serialize_system(again) == text
    positions = bent(molecule)
    assert evaluate(again, positions)[0] == evaluate(molecule.system, positions)[0]
    assert molecule.system.getForce(0).getName() == again.getForce(0).getName()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux has them")
@pytest.mark.parametrize(("name", "package"), [("gfn2-xtb", "tblite"), ("ani1x", "torchani")])
def test_an_energy_takes_one_thread(name: str, package: str) -> None:
    """In a process that has loaded nothing before, and may use four: none is started."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    code = (
        "import os, sys, numpy as np\n"
        "from timewarp_openmm.potentials.base import Atoms\n"
        "from timewarp_openmm.potentials.registry import find_potential\n"
        f"calculate = find_potential({name!r}).calculator(Atoms((8, 1, 1)))\n"
        "water = np.array([[0, 0, -0.039], [0.0763, 0, 0.0195], [-0.0763, 0, 0.0195]])\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "for _ in range(3): calculate(water)\n"
        "print(len(os.listdir('/proc/self/task')) - before)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "4"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == "0"


def test_openmmml_has_the_energy_of_what_it_is_made_of() -> None:
    """Here of a PythonForce, whose Context is asked for within another's."""
    pytest.importorskip("openmmml")
    potential_functions.register_with_openmmml("pairs")
    found = [
        evaluate(with_potential(named_molecule("alanine-dipeptide"), name).system, positions)
        for name in ("openmmml:pairs", "potential_functions:pairs")
        for positions in [named_molecule("alanine-dipeptide").positions]
    ]
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-9, atol=1e-9)


def test_ani_is_what_its_library_computes() -> None:
    """Of methane, in Hartree and Angstrom; the energy is that of TorchANI's own documentation."""
    pytest.importorskip("torchani")
    atoms = Atoms((6, 1, 1, 1, 1))
    angstrom = np.array(
        [
            [0.03192167, 0.00638559, 0.01301679],
            [-0.83140486, 0.39370209, -0.26395324],
            [-0.66518241, -0.84461308, 0.20759389],
            [0.45554739, 0.54289633, 0.81170881],
            [0.66091919, -0.16799635, -0.91037834],
        ]
    )
    energy, forces = find_potential("ani1x").calculator(atoms)(0.1 * angstrom)
    assert energy == pytest.approx(-40.4590 * 2625.4996, abs=0.4)
    assert np.abs(forces.sum(0)).max() < 1e-6


def test_units_are_those_of_the_library() -> None:
    """Against tblite's own call, in Hartree and Bohr, of water."""
    interface = pytest.importorskip("tblite.interface")
    numbers = np.array([8, 1, 1])
    bohr = np.array(
        [[0, 0, -0.73578586], [1.44183152, 0, 0.36789293], [-1.44183152, 0, 0.36789293]]
    )
    calculator = interface.Calculator("GFN2-xTB", numbers, bohr)
    calculator.set("verbosity", 0)
    hartree = calculator.singlepoint()["energy"]
    assert -5.1 < hartree < -5.0
    topology = app.Topology()
    residue = topology.addResidue("HOH", topology.addChain())
    for name, number in zip(("O", "H1", "H2"), numbers, strict=True):
        topology.addAtom(name, app.Element.getByAtomicNumber(int(number)), residue)
    oxygen, *hydrogens = topology.atoms()
    for hydrogen in hydrogens:
        topology.addBond(oxygen, hydrogen)
    system = create_system(find_potential("gfn2-xtb"), molecule_from_topology(topology), charge=0)
    energy, _ = evaluate(system, bohr * 0.052917721)
    assert energy == pytest.approx(hartree * 2625.49964, abs=1e-3)
