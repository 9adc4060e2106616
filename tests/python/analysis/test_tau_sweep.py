"""Lag times of one model compared."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from command_line import run

from timewarp_openmm.analysis.lag_sweep import count_turns, summarize_lag
from timewarp_openmm.contract import ModelMetadata
from timewarp_openmm.flows import build_flow, export_model
from timewarp_openmm.flows.internal.config import InternalFlowConfig
from timewarp_openmm.molecule import molecule_from_topology
from timewarp_openmm.simulation.chains import Acceptance, ChainRuns
from timewarp_openmm.simulation.langevin import get_positions
from timewarp_openmm.simulation.systems import named_molecule, structure_file

LAGS = (1.0, math.inf)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flow that knows the widths of bonds, angles and torsions, and nothing else."""
    alanine = named_molecule("alanine-dipeptide")
    molecule = molecule_from_topology(alanine.topology, alanine.system)
    integrator = openmm.LangevinMiddleIntegrator(310, 10.0, 0.001)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(alanine.system, integrator, platform)
    context.setPositions(alanine.positions)
    frames = []
    for _ in range(300):
        integrator.step(50)
        frames.append(get_positions(context))
    flow = build_flow(InternalFlowConfig(lag_times=LAGS), molecule)
    flow.fit_normalisation(torch.tensor(np.stack(frames)))
    metadata = ModelMetadata(
        molecule=molecule,
        noise_size=flow.noise_size,
        temperature=310.0,
        force_field=list(alanine.force_field),
        coordinates="internal",
        lag_times=list(LAGS),
        lag_weights=[0.5, 0.5],
        precision="double",
        auxiliary_velocities=False,
        reference_positions=frames[-1].tolist(),
    )
    return export_model(flow, metadata, tmp_path_factory.mktemp("model") / "lags.pt")


def test_turns_are_counted_once_an_iteration_and_on_the_circle() -> None:
    torsions = np.array([[3.1, 0.0], [-3.1, 0.0], [-1.0, 2.0], [-1.0, 2.0], [-1.0, 0.5]])
    assert count_turns(torsions) == 1
    runs = ChainRuns(Acceptance((0.5, 0.7)), iterations=4, seconds=2.0)
    result = summarize_lag(1.0, runs, [torsions, torsions])
    assert result.acceptance == pytest.approx(0.6)
    assert result.acceptance_error == pytest.approx(0.1)
    assert (result.turns, result.turns_error) == (0.25, 0.0)
    assert result.iterations_per_second == 4.0


def test_each_lag_has_its_chains_and_nothing_is_overwritten(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pdb, out = str(structure_file("alanine-dipeptide")), tmp_path / "sweep.png"
    arguments = ["tau-sweep", "--model", str(model), "--pdb", pdb, "--out", str(out)]
    arguments += ["--iterations", "50", "--chains", "2"]
    code, text, error = run(arguments, monkeypatch, capsys)
    assert code == 0, error
    assert text.count("acceptance") == 2
    assert out.read_bytes().startswith(b"\x89PNG")
    entries = json.loads(out.with_suffix(".json").read_text())
    assert [float(entry["lag"]) for entry in entries] == list(LAGS)
    code, _, error = run(arguments, monkeypatch, capsys)
    assert code == 2
    assert "sweep.png" in error
    assert "--force" in error
