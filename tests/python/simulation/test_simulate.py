"""Simulating training data: protocol, resuming after a kill, refusing to overwrite."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import mdtraj
import numpy as np
import openmm
import pytest
from altered_systems import charges_scaled
from openmm import app

from timewarp_openmm.molecule import molecule_from_topology
from timewarp_openmm.molecule.stereochemistry import Stereochemistry
from timewarp_openmm.molecule.structure_files import load_structure
from timewarp_openmm.molecule.torsions import backbone_torsions, torsion
from timewarp_openmm.simulation.protocol import Protocol, multiple, preset, with_settings
from timewarp_openmm.simulation.record import read_run
from timewarp_openmm.simulation.run import _make_tasks, run_standing, simulate
from timewarp_openmm.simulation.standing import Standing
from timewarp_openmm.simulation.starts import drive
from timewarp_openmm.simulation.systems import (
    MolecularSystem,
    build_system,
    load_molecule,
    named_molecule,
    structure_file,
)
from timewarp_openmm.simulation.trajectory_pieces import run_on
from timewarp_openmm.stages import Conflict, Done, Missing, Partial


@pytest.fixture(scope="module")
def alanine() -> MolecularSystem:
    return named_molecule("alanine-dipeptide")


def tiny(molecule: MolecularSystem, **settings: object) -> Protocol:
    protocol = Protocol(
        force_field=molecule.force_field, platform="Reference", **preset("ala2-report")
    )
    short = {"length": 0.02, "interval": 0.002, "equilibration": 0.005, "trajectories": 2}
    return with_settings(protocol, **{**short, **settings})


def test_alanine_dipeptide_is_l_trans_and_in_amber_order(alanine: MolecularSystem) -> None:
    molecule = molecule_from_topology(alanine.topology, alanine.system)
    assert "".join(molecule.elements) == "HCHHCONHCHCHHHCONHCHHH"
    assert molecule.residue_names[0::10] == ("ACE", "ALA", "NME")
    x = alanine.positions
    assert abs(torsion(x, (1, 4, 6, 8))) > np.radians(160)
    assert abs(torsion(x, (8, 14, 16, 18))) > np.radians(160)
    # Seen from HA, CO - R - N go clockwise in an L amino acid: a positive triple product.
    n, c, r = x[6] - x[8], x[14] - x[8], x[10] - x[8]
    assert np.dot(n, np.cross(c, r)) > 0
    assert alanine.system.getNumConstraints() == 0
    names = {type(force).__name__ for force in alanine.system.getForces()}
    assert "GBSAOBCForce" in names
    assert "CMMotionRemover" not in names


def test_torsions_agree_with_mdtraj(alanine: MolecularSystem) -> None:
    molecule = molecule_from_topology(alanine.topology, alanine.system)
    trajectory = mdtraj.Trajectory(alanine.positions, mdtraj.Topology.from_openmm(alanine.topology))
    ours = [torsion(alanine.positions, atoms) for atoms in backbone_torsions(molecule).values()]
    theirs = [mdtraj.compute_phi(trajectory)[1][0, 0], mdtraj.compute_psi(trajectory)[1][0, 0]]
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_mirror_image_and_cis_amide_are_found(alanine: MolecularSystem) -> None:
    molecule = molecule_from_topology(alanine.topology, alanine.system)
    check = Stereochemistry(molecule, alanine.positions)
    assert check.find_flips(alanine.positions) == []
    mirrored = alanine.positions * np.array([1.0, 1.0, -1.0])
    assert any("ALA2:CA" in flip for flip in check.find_flips(mirrored))
    cis = alanine.positions.copy()
    # Turn the C-terminal methyl by 180 degrees about the amide bond C-N.
    axis = cis[16] - cis[14]
    axis /= np.linalg.norm(axis)
    moved = [17, 18, 19, 20, 21]
    arm = cis[moved] - cis[16]
    cis[moved] = cis[16] - arm + 2 * np.outer(arm @ axis, axis)
    bond = "A:ALA2:C (atom 14) - A:NME3:N (atom 16)"
    assert check.find_flips(cis) == [f"cis/trans of the bond {bond}"]


def test_drive_reaches_the_left_handed_basin(alanine: MolecularSystem) -> None:
    molecule = molecule_from_topology(alanine.topology, alanine.system)
    protocol = tiny(alanine, starts="basins")
    positions = drive(alanine.system, molecule, alanine.positions, protocol, (55.0, 45.0), 3)
    angles = [np.degrees(torsion(positions, a)) for a in backbone_torsions(molecule).values()]
    assert np.abs(np.array(angles) - [55, 45]).max() < 35
    assert Stereochemistry(molecule, alanine.positions).find_flips(positions) == []


def test_published_preset_gives_about_1500_pairs(alanine: MolecularSystem) -> None:
    protocol = Protocol(
        force_field=alanine.force_field, platform="Reference", **preset("ala2-report")
    )
    assert (protocol.temperature, protocol.friction, protocol.timestep) == (310.0, 0.3, 0.001)
    assert protocol.trajectories * (protocol.frames - 1) == 1504


def test_run_is_complete_reproducible_and_never_overwritten(
    alanine: MolecularSystem, tmp_path: Path
) -> None:
    protocol = tiny(alanine)
    run = simulate(alanine, protocol, tmp_path / "a", workers=1)
    assert run["complete"]
    trajectory = mdtraj.load(str(tmp_path / "a" / "trajectory-001.h5"))
    assert trajectory.n_frames == protocol.frames == 11
    np.testing.assert_allclose(np.diff(trajectory.time), protocol.interval, rtol=1e-3)
    assert read_run(tmp_path / "a") == run
    with pytest.raises(FileExistsError, match="complete run"):
        simulate(alanine, protocol, tmp_path / "a", workers=1)
    with pytest.raises(FileExistsError, match=r"another protocol.*temperature: 310.0 there, 300"):
        simulate(alanine, tiny(alanine, temperature=300.0), tmp_path / "a", workers=1)
    # Two processes give what one gives; the seed matters.
    simulate(alanine, protocol, tmp_path / "b", workers=2)
    again = mdtraj.load(str(tmp_path / "b" / "trajectory-001.h5"))
    assert (again.xyz == trajectory.xyz).all()
    simulate(alanine, tiny(alanine, seed=2), tmp_path / "b", workers=1, force=True)
    other = mdtraj.load(str(tmp_path / "b" / "trajectory-001.h5"))
    assert not (other.xyz == trajectory.xyz).all()


def test_a_slow_machine_ends_the_trajectories_early(
    alanine: MolecularSystem, tmp_path: Path
) -> None:
    protocol = tiny(alanine, length=1000.0, interval=0.1)
    run = simulate(alanine, protocol, tmp_path, workers=1, max_minutes=2 / 60)
    assert run["complete"]
    for entry in run["trajectories"]:
        trajectory = mdtraj.load(str(tmp_path / entry["file"]))
        assert 2 <= trajectory.n_frames == entry["frames"] < protocol.frames


KILLED = """
import sys
from timewarp_openmm.simulation.systems import named_molecule
from timewarp_openmm.simulation.protocol import Protocol, preset, with_settings
from timewarp_openmm.simulation.run import simulate
m = named_molecule("alanine-dipeptide")
p = Protocol(force_field=m.force_field, platform="Reference", **preset("ala2-report"))
p = with_settings(p, length=2.0, interval=0.002, equilibration=0.005, trajectories=2)
simulate(m, p, sys.argv[1], workers=int(sys.argv[2]), checkpoint_seconds=0.05)
"""


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    """Return whether there is such a process that is no zombie."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_run_resumes_as_if_nothing_had_been(
    alanine: MolecularSystem, tmp_path: Path, workers: int
) -> None:
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(folder), str(workers)]
    process = subprocess.Popen(command, env=dict(os.environ))
    checkpoint = folder / "trajectory-000.chk"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (
            checkpoint.exists()
            and json.loads(checkpoint.read_bytes().split(b"\n")[0])["frames"] > 1
        ):
            break
        time.sleep(0.01)
    started = children(process.pid)
    assert (len(started) >= workers) == (workers > 1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while any(map(is_running, started)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(is_running, started))
    assert not json.loads((folder / "run.json").read_text())["complete"]
    protocol = tiny(alanine, length=2.0)
    resumed_at: list[int] = []
    simulate(alanine, protocol, folder, workers, report=resumed_at.append)
    assert resumed_at[-1] == 2 * protocol.frames
    assert workers == 2 or resumed_at[0] > 2
    simulate(alanine, protocol, tmp_path / "whole", workers=1)
    for name in ("trajectory-000.h5", "trajectory-001.h5"):
        killed = mdtraj.load(str(folder / name))
        whole = mdtraj.load(str(tmp_path / "whole" / name))
        assert killed.n_frames == protocol.frames
        assert (killed.xyz == whole.xyz).all()
        assert (killed.time == whole.time).all()


def test_pieces_of_several_trajectories_in_one_process_do_not_matter(
    alanine: MolecularSystem,
) -> None:
    """They draw from one random number generator, on the Reference platform."""
    tasks = _make_tasks(alanine, tiny(alanine, length=0.04), alanine.positions[None])

    def run(order: list[int]) -> list[np.ndarray]:
        found: list[list[np.ndarray]] = [[] for _ in tasks]
        standings = [Standing() for _ in tasks]
        for number in order:
            piece = run_on(replace(tasks[number], key=f"{order}-{number}"), standings[number], 0.0)
            found[number].append(piece.positions)
            standings[number] = piece.standing
        return [np.concatenate(frames) for frames in found]

    alone, together = run([0] * 12 + [1] * 12), run([0, 1] * 12)
    np.testing.assert_array_equal(alone, together)
    assert not np.array_equal(*alone)


def test_a_longer_run_goes_on_with_a_shorter_one(alanine: MolecularSystem, tmp_path: Path) -> None:
    short, long = tiny(alanine), tiny(alanine, length=0.04)
    assert run_standing(tmp_path / "a", alanine, short) == Missing()
    simulate(alanine, short, tmp_path / "a", workers=1)
    assert run_standing(tmp_path / "a", alanine, short) == Done()
    assert isinstance(run_standing(tmp_path / "a", alanine, long), Partial)
    simulate(alanine, long, tmp_path / "a", workers=1)
    simulate(alanine, long, tmp_path / "b", workers=1)
    for name in ("trajectory-000.h5", "trajectory-001.h5"):
        extended, whole = (mdtraj.load(str(tmp_path / x / name)) for x in ("a", "b"))
        assert extended.n_frames == long.frames
        assert (extended.xyz == whole.xyz).all()
        assert (extended.time == whole.time).all()
    # Frames are never taken away.
    with pytest.raises(FileExistsError, match=r"length: 0.04 ps there, 0.02 ps now"):
        simulate(alanine, short, tmp_path / "a", workers=1)
    before = (tmp_path / "b" / "trajectory-000.h5").read_bytes()
    (tmp_path / "b" / "trajectory-000.chk").unlink()
    with pytest.raises(FileExistsError, match=r"the checkpoint of trajectory-000\.h5 is missing"):
        simulate(alanine, tiny(alanine, length=0.06), tmp_path / "b", workers=1)
    assert (tmp_path / "b" / "trajectory-000.h5").read_bytes() == before


def test_a_run_is_told_by_what_it_is_of_and_not_by_names(
    alanine: MolecularSystem, tmp_path: Path
) -> None:
    protocol = tiny(alanine)
    simulate(alanine, protocol, tmp_path, workers=1)
    renamed = with_settings(protocol, molecule="other", force_field=("other.xml",))
    assert run_standing(tmp_path, replace(alanine, name="other"), renamed) == Done()
    shifted = alanine.positions + 0.001
    others = {
        "system": replace(alanine, system=charges_scaled(alanine.system, 0.9)),
        "structure": replace(alanine, positions=shifted),
    }
    for name, other in others.items():
        standing = run_standing(tmp_path, other, protocol)
        assert isinstance(standing, Conflict)
        assert any(difference.startswith(name) for difference in standing.differences)
        with pytest.raises(FileExistsError, match=f"different: .*{name}: "):
            simulate(other, protocol, tmp_path, workers=1)
    standing = run_standing(tmp_path, alanine, protocol, starts=shifted[None])
    assert isinstance(standing, Conflict)
    assert len(standing.differences) == 1


def test_blow_up_is_named(alanine: MolecularSystem, tmp_path: Path) -> None:
    protocol = tiny(alanine, timestep=0.02, interval=0.5, length=50.0, equilibration=0.0)
    with pytest.raises((ValueError, openmm.OpenMMException), match=r"blew up|NaN"):
        simulate(alanine, protocol, tmp_path, workers=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0 and at most 10000 K, got 0"),
        ({"interval": 0.0025}, r"interval \(0.0025 ps\) must be a multiple of the time step"),
        ({"trajectories": 0}, "trajectories must be from 1 to 10000, got 0"),
        ({"starts": "somewhere"}, "'given', 'basins' or 'explored'"),
    ],
)
def test_bad_protocols_are_refused(
    alanine: MolecularSystem, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(alanine, **settings)


def test_bad_molecules_are_refused(alanine: MolecularSystem, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot load the force field nowhere\.xml"):
        build_system(alanine.topology, ["nowhere.xml"])
    with pytest.raises(ValueError, match="does not fit the molecule"):
        build_system(alanine.topology, ["tip3p.xml"])
    with pytest.raises(FileNotFoundError, match="no structure file"):
        load_structure(tmp_path / "none.pdb")
    constrained = openmm.System()
    for _ in range(22):
        constrained.addParticle(1.0)
    constrained.addConstraint(0, 1, 0.1)
    (tmp_path / "s.xml").write_text(openmm.XmlSerializer.serialize(constrained))
    pdb = str(structure_file("alanine-dipeptide"))
    with pytest.raises(ValueError, match=r"1 constraints .* constraints=None"):
        load_molecule(pdb, system_xml=tmp_path / "s.xml")


TWO_TEMPLATES = """
<ForceField>
 <AtomTypes>
  <Type name="a" class="a" element="O" mass="16"/><Type name="b" class="b" element="O" mass="16"/>
 </AtomTypes>
 <Residues>
  <Residue name="ONE"><Atom name="O" type="a"/></Residue>
  <Residue name="TWO"><Atom name="O" type="b"/></Residue>
 </Residues>
</ForceField>
"""


def test_two_templates_for_a_residue_are_one_message_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "two.xml").write_text(TWO_TEMPLATES)
    topology = app.Topology()
    residue = topology.addResidue("LIG", topology.addChain())
    topology.addAtom("O", app.Element.getBySymbol("O"), residue)
    message = r"templates found for residue .*: ONE, TWO\. .*residueTemplates=.*--system"
    with pytest.raises(ValueError, match=message):
        build_system(topology, [str(tmp_path / "two.xml")])


def test_multiples_allow_for_rounding() -> None:
    assert multiple(0.3, 0.1, "a", "b") == 3
    with pytest.raises(ValueError, match="multiple"):
        multiple(0.05, 0.1, "a", "b")
