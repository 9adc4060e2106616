"""The bundled models' chains are those that were recorded: `golden_chains.py` says how."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import PLATFORMS
from golden_chains import RECORD, cases, run_all

#: Those whose arithmetic has one order.
RECORDED = tuple(name for name in ("Reference", "OpenCL") if name in PLATFORMS)


@pytest.fixture(scope="module")
def found() -> dict:
    return run_all(RECORDED)


@pytest.mark.parametrize("name", [case.name for case in cases(RECORDED)])
def test_chain_is_the_recorded_one(found: dict, name: str) -> None:
    recorded = json.loads(RECORD.read_text())
    before, now = recorded["chains"][name], found["chains"][name]
    assert now["decisions"] == before["decisions"]
    assert np.abs(np.array(now["positions"]) - np.array(before["positions"])).max() < 1e-6
    if found["fingerprint"] == recorded["fingerprint"]:
        assert now["digest"] == before["digest"]


def test_a_resumed_chain_is_the_uninterrupted_one() -> None:
    chains = json.loads(RECORD.read_text())["chains"]
    resumed = [name for name in chains if name.endswith("resumed")]
    assert resumed
    for name in resumed:
        assert chains[name] == chains[name.removesuffix(", resumed")]


def test_recorded_chains_accept_and_reject() -> None:
    for name, chain in json.loads(RECORD.read_text())["chains"].items():
        assert {"0", "1"} == set(chain["decisions"]), name
