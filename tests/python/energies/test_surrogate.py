"""Surrogate energies: a System's energy in torch against OpenMM's, and the integrator's use."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path

import mdtraj
import numpy as np
import openmm
import pytest
import torch
from numpy.typing import NDArray
from openmm import app
from report_helpers import PDB

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
from timewarp_openmm.commands.sample import SampleOptions, sample
from timewarp_openmm.energies import surrogate_energy
from timewarp_openmm.energies.expressions import Expression
from timewarp_openmm.simulation.systems import (
    MolecularSystem,
    load_molecule,
    make_platform,
    named_molecule,
)

MOLECULES = Path(__file__).parents[3] / "examples" / "molecules"
#: Largest difference to OpenMM's energies in double precision that float32 may cause / kJ/mol.
TOLERANCE = 5e-3


@pytest.fixture(scope="module")
def alanine() -> MolecularSystem:
    return named_molecule("alanine-dipeptide")


def shaken(positions: NDArray[np.float64], count: int = 6) -> NDArray[np.float64]:
    """Return conformations [count, N, 3] with every atom moved by some 0.01 nm."""
    random = np.random.default_rng(5)
    return positions + 0.01 * random.normal(size=(count, *positions.shape))


def openmm_energies(system: openmm.System, frames: NDArray[np.float64]) -> NDArray[np.float64]:
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    energies = []
    for frame in frames:
        context.setPositions(frame)
        energies.append(context.getState(energy=True).getPotentialEnergy()._value)
    return np.array(energies)


def assert_same_energies(system: openmm.System, positions: NDArray[np.float64]) -> None:
    frames = shaken(positions)
    found = surrogate_energy(system)(torch.tensor(frames, dtype=torch.float32))
    assert found.dtype == torch.float64
    assert_runs_elsewhere(system)
    np.testing.assert_allclose(found.numpy(), openmm_energies(system, frames), atol=TOLERANCE)


def assert_runs_elsewhere(system: openmm.System) -> None:
    """Assert that it names no device, with torch's "meta" device in the place of a GPU."""
    moved = surrogate_energy(system).to("meta")
    assert 'torch.device("' not in moved.code
    found = moved(torch.empty(4, system.getNumParticles(), 3, device="meta"))
    assert (found.device.type, tuple(found.shape)) == ("meta", (4,))


@pytest.mark.parametrize(
    "files",
    [
        ("amber99sbildn.xml", "amber99_obc.xml"),
        ("amber14-all.xml", "implicit/obc1.xml"),
        ("amber14-all.xml", "implicit/obc2.xml"),
        ("amber14-all.xml", "implicit/hct.xml"),
        ("amber14-all.xml", "implicit/gbn.xml"),
        ("amber14-all.xml", "implicit/gbn2.xml"),
        ("amber14-all.xml",),
    ],
    ids=lambda files: files[-1],
)
def test_force_fields(alanine: MolecularSystem, files: tuple[str, ...]) -> None:
    system = app.ForceField(*files).createSystem(alanine.topology)
    assert_same_energies(system, alanine.positions)


def test_salt(alanine: MolecularSystem) -> None:
    field = app.ForceField("amber14-all.xml", "implicit/obc2.xml")
    system = field.createSystem(alanine.topology, implicitSolventKappa=1.2, soluteDielectric=2.0)
    assert_same_energies(system, alanine.positions)


@pytest.mark.parametrize("name", ["glycine-proline", "leucine-dipeptide", "valproic-acid"])
def test_other_molecules(name: str) -> None:
    xml = MOLECULES / f"{name}.system.xml"
    molecule = load_molecule(MOLECULES / f"{name}.pdb", None, xml if xml.exists() else None)
    assert_same_energies(molecule.system, molecule.positions)


def custom_system() -> tuple[openmm.System, NDArray[np.float64]]:
    """Return five particles under every other kind of force that is translated."""
    system = openmm.System()
    for _ in range(5):
        system.addParticle(12.0)
    bonds = openmm.CustomBondForce("k*(r-r0)^2+c*(r-r0)^4")
    bonds.addPerBondParameter("k")
    bonds.addPerBondParameter("r0")
    bonds.addGlobalParameter("c", 700.0)
    angles = openmm.CustomAngleForce("k*(cos(theta)-cos(theta0))^2")
    angles.addPerAngleParameter("k")
    angles.addPerAngleParameter("theta0")
    torsions = openmm.CustomTorsionForce("k*min(d, 2*pi-d)^2; d=abs(theta-theta0); pi=3.14159265")
    torsions.addPerTorsionParameter("k")
    torsions.addPerTorsionParameter("theta0")
    rb = openmm.RBTorsionForce()
    external = openmm.CustomExternalForce("k*((x-x0)^2+y^2+abs(z))")
    external.addPerParticleParameter("x0")
    external.addGlobalParameter("k", 35.0)
    born = openmm.CustomGBForce()
    born.addPerParticleParameter("q")
    born.addGlobalParameter("alpha", 1.5)
    born.addComputedValue("near", "exp(-alpha*r)*q2", openmm.CustomGBForce.ParticlePair)
    born.addComputedValue("b", "1+near^2*alpha", openmm.CustomGBForce.SingleParticle)
    born.addEnergyTerm("q*b", openmm.CustomGBForce.SingleParticle)
    born.addEnergyTerm("q1*q2/(r+b1*b2)", openmm.CustomGBForce.ParticlePair)
    born.addExclusion(0, 3)
    for i in range(5):
        external.addParticle(i, [0.01 * i])
        born.addParticle([0.3 * i - 0.5])
    for i in range(4):
        bonds.addBond(i, i + 1, [4000.0 + i, 0.15])
    for i in range(3):
        angles.addAngle(i, i + 1, i + 2, [40.0, 1.9])
    for i in range(2):
        torsions.addTorsion(i, i + 1, i + 2, i + 3, [3.0, 0.4 * i])
        rb.addTorsion(i, i + 1, i + 2, i + 3, 1.0, 2.0, -3.0, 0.5, 0.25, -1.5)
    for force in (bonds, angles, torsions, rb, external, born, openmm.CMMotionRemover()):
        system.addForce(force)
    positions = np.array([[0, 0, 0], [0.15, 0, 0], [0.2, 0.14, 0], [0.3, 0.2, 0.1], [0.4, 0.1, 0]])
    return system, positions


def test_custom_forces() -> None:
    assert_same_energies(*custom_system())


def test_order_of_particles(alanine: MolecularSystem) -> None:
    order = list(np.random.default_rng(2).permutation(22))
    system, frames = alanine.system, shaken(alanine.positions)
    energy = surrogate_energy(system, particles=order)
    found = energy(torch.tensor(frames[:, order], dtype=torch.float32))
    np.testing.assert_allclose(found.numpy(), openmm_energies(system, frames), atol=TOLERANCE)
    with pytest.raises(ValueError, match="moves all particles: there are 22, and 21 are named"):
        surrogate_energy(system, particles=order[1:])


def test_each_energy_is_its_own(alanine: MolecularSystem) -> None:
    """The batch is not seen: its size has not been frozen, nor do conformations mix."""
    energy = surrogate_energy(alanine.system)
    frames = torch.tensor(shaken(alanine.positions, 70), dtype=torch.float32)
    whole = energy(frames)
    for count in (1, 3, 64):
        torch.testing.assert_close(energy(frames[:count]), whole[:count], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "text",
    [
        "3*x^2+2*y-z",
        "-x^2+y^-2+2^z",
        "select(step(x-y), sin(x)*cos(y), tan(z))+delta(x-x)",
        "sqrt(abs(x))+exp(-y)+log(1+z^2)+1.5e-1*x",
        "asin(x/9)+acos(y/9)+atan(z)+atan2(x, y)",
        "sinh(x)+cosh(y)+tanh(z)+erf(x)+erfc(y)",
        "min(x, y)+max(y, 0.3)+floor(4*x)+ceil(4*z)+square(x)+cube(y)+recip(3+z)",
        "a*b; b=a^2+y; a=x+1.",
        "x^7+(y+2)^0.5+select(0, x, 2)+max(1, 2)",
    ],
)
def test_expressions_mean_what_they_mean_to_openmm(text: str) -> None:
    system = openmm.System()
    system.addParticle(1.0)
    force = openmm.CustomExternalForce(text)
    force.addParticle(0)
    system.addForce(force)
    frames = np.random.default_rng(3).uniform(-0.9, 0.9, size=(20, 1, 3))
    x, y, z = torch.tensor(frames[:, 0]).unbind(1)
    found = Expression(text).evaluate({"x": x, "y": y, "z": z})
    expected = openmm_energies(system, frames)
    np.testing.assert_allclose(torch.as_tensor(found).numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2*", "cannot be read"),
        ("x; y", "has no '=' in 'y'"),
        ("x+missing", "does not define missing"),
        ("bessel(x)", r"calls bessel\(\), unknown here"),
        ("x if y else z", "cannot be read"),
    ],
)
def test_bad_expressions(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Expression(text).evaluate({"x": 1.0, "y": 2.0, "z": 3.0})


def with_cutoff(system: openmm.System) -> str:
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.CutoffNonPeriodic)
    system.addForce(force)
    return "NonbondedForce has a cut-off"


def with_offsets(system: openmm.System) -> str:
    force = openmm.NonbondedForce()
    force.addParticle(0, 1, 0)
    force.addGlobalParameter("scale", 1.0)
    force.addParticleParameterOffset("scale", 0, 1.0, 0.0, 0.0)
    system.addForce(force)
    return "NonbondedForce has parameter offsets"


def with_map(system: openmm.System) -> str:
    system.addForce(openmm.CMAPTorsionForce())
    return r"CMAPTorsionForce cannot be translated.*leave_out=\['CMAPTorsionForce'\]"


def with_table(system: openmm.System) -> str:
    force = openmm.CustomGBForce()
    force.addTabulatedFunction("f", openmm.Continuous1DFunction([1, 2, 3], 0, 1))
    force.addParticle([])
    system.addForce(force)
    return "tabulated function f of kind Continuous1DFunction"


def periodic(system: openmm.System) -> str:
    force = openmm.HarmonicBondForce()
    force.setUsesPeriodicBoundaryConditions(True)
    system.addForce(force)
    return "HarmonicBondForce is periodic"


def with_nothing(system: openmm.System) -> str:
    return "no forces"


@pytest.mark.parametrize(
    "add", [with_cutoff, with_offsets, with_map, with_table, periodic, with_nothing]
)
def test_what_cannot_be_translated_is_named(add: Callable[[openmm.System], str]) -> None:
    system = openmm.System()
    system.addParticle(1.0)
    message = add(system)
    with pytest.raises(ValueError, match=message):
        surrogate_energy(system)


def simulation(
    alanine: MolecularSystem, integrator: TimewarpMCMCIntegrator, platform: str = "Reference"
) -> app.Simulation:
    integrator.setRandomNumberSeed(4)
    made = app.Simulation(alanine.topology, alanine.system, integrator, *make_platform(platform))
    made.context.setPositions(alanine.positions)
    return made


def test_a_good_surrogate_is_hardly_corrected(alanine: MolecularSystem, platform: str) -> None:
    integrator = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
    assert (integrator.getSurrogate(), integrator.getSubchainLength()) == (b"", 1)
    integrator.setSurrogate(surrogate_energy(alanine.system), subchainLength=12)
    simulation(alanine, integrator, platform).step(150)
    assert integrator.getSubchainLength() == 12
    assert integrator.getNumProposed() == 150
    # 79 % of single proposals are accepted, so that nearly every subchain moves.
    assert integrator.getSurrogateAcceptanceRate() > 0.7
    assert integrator.getAcceptanceRate() > 0.97


def test_a_poor_surrogate_is_corrected(alanine: MolecularSystem) -> None:
    """Without the solvent the first test lets other conformations pass; the second does not.

    Mean energies of chains with and without the surrogate agree to 4.4 standard errors (1e-5).
    """
    means, errors = [], []
    for leave_out in (None, ["GBSAOBCForce"]):
        integrator = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
        if leave_out is not None:
            integrator.setSurrogate(surrogate_energy(alanine.system, leave_out=leave_out), 2)
        run = simulation(alanine, integrator)
        energies = []
        for _ in range(1500):
            run.step(4)
            energies.append(run.context.getState(energy=True).getPotentialEnergy()._value)
        blocks = np.array(energies[100:]).reshape(20, -1).mean(1)
        means.append(blocks.mean())
        errors.append(blocks.std(ddof=1) / np.sqrt(20))
    assert 0.2 < integrator.getAcceptanceRate() < 0.8
    assert abs(means[0] - means[1]) < 4.4 * np.hypot(*errors)
    assert np.hypot(*errors) < 1.0  # kJ/mol


def test_the_ways_to_name_a_surrogate(alanine: MolecularSystem, tmp_path: Path) -> None:
    module = surrogate_energy(alanine.system)
    path = tmp_path / "energy.pt"
    torch.jit.save(module, path)
    ends = []
    for surrogate in (module, path, str(path), path.read_bytes()):
        integrator = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
        integrator.setSurrogate(surrogate, 3)
        for each in (integrator, TimewarpMCMCIntegrator.cast(copy.copy(integrator))):
            run = simulation(alanine, each)
            run.step(5)
            ends.append(run.context.getState(positions=True).getPositions(asNumpy=True)._value)
    for a, b in itertools.pairwise(ends):
        np.testing.assert_array_equal(a, b)
    integrator = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
    integrator.setSurrogate(path)
    integrator.setSurrogate(None)
    assert integrator.getSurrogate() == b""


def test_bad_surrogates_are_refused(alanine: MolecularSystem, tmp_path: Path) -> None:
    integrator = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
    with pytest.raises(TypeError, match="not a Linear; make one with"):
        integrator.setSurrogate(torch.nn.Linear(1, 1))  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        integrator.setSurrogate(tmp_path / "nothing.pt")
    with pytest.raises(openmm.OpenMMException, match="not a TorchScript module, or is damaged"):
        integrator.setSurrogate(b"nothing")
    with pytest.raises(openmm.OpenMMException, match="Subchain length must be positive"):
        integrator.setSubchainLength(0)
    glycine = load_molecule(MOLECULES / "glycine-proline.pdb", None, None)
    integrator.setSurrogate(surrogate_energy(glycine.system))
    run = simulation(alanine, integrator)
    with pytest.raises(openmm.OpenMMException, match=r"is it that of the model's molecule\?"):
        run.step(1)
    with pytest.raises(openmm.OpenMMException, match="cannot be called after"):
        integrator.setSurrogate(None)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "t.dcd"
    model = pretrained("alanine-dipeptide")
    sample(
        SampleOptions(model=Path(model), pdb=PDB, steps=20, out=out, interval=5, subchain=4, seed=1)
    )
    assert "4 frames, acceptance" in capsys.readouterr().out
    assert out.exists()


@pytest.mark.long
def test_populations_with_a_poor_surrogate(alanine: MolecularSystem) -> None:
    """The share of 0 < phi < 2.4 rad is that of the chain without, to 4.4 standard errors (1e-5).

    In vacuum, which is what this surrogate knows, it is another one.
    """
    shares, errors = [], []
    for leave_out in (None, ["GBSAOBCForce"]):
        integrator = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
        if leave_out is not None:
            integrator.setSurrogate(surrogate_energy(alanine.system, leave_out=leave_out), 3)
        run = simulation(alanine, integrator)
        run.step(200)
        frames = []
        for _ in range(60_000):
            run.step(3 if leave_out is None else 1)
            frames.append(run.context.getState(positions=True).getPositions(asNumpy=True)._value)
        trajectory = mdtraj.Trajectory(frames, mdtraj.Topology.from_openmm(alanine.topology))
        phi = mdtraj.compute_dihedrals(trajectory, [[4, 6, 8, 14]], periodic=False)[:, 0]
        blocks = np.reshape((phi > 0) & (phi < 2.4), (40, -1)).mean(1)
        shares.append(blocks.mean())
        errors.append(blocks.std(ddof=1) / np.sqrt(40))
    assert abs(shares[0] - shares[1]) < 4.4 * np.hypot(*errors)
    assert np.hypot(*errors) < 0.003
