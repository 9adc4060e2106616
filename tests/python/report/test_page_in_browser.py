"""The report's page in a real, headless Chromium: it opens, shows every figure, says nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_helpers import PDB, TOPOLOGY, md_frames

from timewarp_openmm.molecule import molecule_from_topology
from timewarp_openmm.molecule.structure_files import load_structure

BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(
    BROWSER is None,
    reason="there is no Chromium here; install Debian's package chromium, or name one in CHROMIUM",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from timewarp_openmm.report.build import assess
    from timewarp_openmm.report.page import write_report
    from timewarp_openmm.report.study import Study
    from timewarp_openmm.report.survey import Subject, survey_pieces
    from timewarp_openmm.report.viewer import view_frames

    topology, positions = load_structure(PDB)
    subject = Subject.of(molecule_from_topology(topology), TOPOLOGY, positions)
    frames = md_frames()
    md = survey_pieces("md", subject, {"md": [frames]})
    chain = survey_pieces("chain", subject, {"chain": [frames[::2]]}, md.histograms)
    flow = survey_pieces("flow", subject, {"flow": [frames[:100]]}, md.histograms)
    velocities = {"long chain": np.random.default_rng(1).standard_normal((200, 22, 3))}
    study = Study(subject, chain, md, flow, tica_lag=2, state_lag=2, velocities=velocities)
    findings, conformations, names = assess(study, "Report <b>&</b> names")
    folder = tmp_path_factory.mktemp("browser")
    return write_report(findings, view_frames(study, conformations, names), folder, "a test")


@pytest.fixture(scope="module")
def seen(report: Path) -> Any:
    """Open the page and return it with everything that the browser had to say."""
    from playwright.sync_api import sync_playwright

    # WebGL in software, as there is no graphics card to count on.
    flags = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader",
             "--enable-unsafe-swiftshader"]  # fmt: skip
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=flags)
        page = browser.new_page()
        messages: list[str] = []
        requests: list[str] = []
        page.on("console", lambda message: messages.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: messages.append(f"error: {error}"))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(report.as_uri())
        page.wait_for_load_state("load")
        page.wait_for_function("document.getElementById('view-number').value !== ''")
        yield page, messages, requests
        browser.close()


def test_every_figure_is_shown(seen: Any, report: Path) -> None:
    page, _, _ = seen
    widths = page.evaluate("[...document.images].map(i => i.complete ? i.naturalWidth : 0)")
    assert len(widths) == len(list((report.parent / "figures").glob("*.png")))
    assert min(widths) > 100
    visible = page.evaluate("[...document.images].every(i => i.checkVisibility())")
    assert visible


def test_nothing_is_said_and_nothing_is_fetched(seen: Any) -> None:
    _, messages, requests = seen
    complaints = [m for m in messages if m.startswith(("error", "warning"))]
    assert complaints == []
    assert [r for r in requests if not r.startswith(("file:", "data:", "blob:"))] == []


def test_names_are_text_and_not_markup(seen: Any) -> None:
    page, _, _ = seen
    assert page.locator("h1").inner_text() == "Report <b>&</b> names"


def test_molecule_is_drawn_and_frames_change(seen: Any) -> None:
    page, messages, _ = seen
    assert page.locator("#view-canvas").get_attribute("data-ready") == "yes"
    canvas = page.locator("#view-canvas")
    canvas.scroll_into_view_if_needed()
    page.select_option("#view-sample", "long chain")
    page.wait_for_timeout(300)
    first = canvas.screenshot()
    link = page.locator("#view-pdb").get_attribute("href")
    assert "ATOM" in link
    page.locator("#view-frame").evaluate(
        "e => { e.value = 20; e.dispatchEvent(new Event('input')); }"
    )
    page.wait_for_timeout(300)
    assert page.locator("#view-number").evaluate("e => e.value").startswith("21 /")
    assert page.locator("#view-pdb").get_attribute("href") != link
    assert canvas.screenshot() != first
    # Carbon, oxygen, hydrogen and bonds: more than a blank rectangle's colours.
    from io import BytesIO

    from matplotlib.image import imread

    picture = imread(BytesIO(first), format="png")[..., :3]
    assert (np.abs(picture - 1.0).max(axis=-1) > 0.2).mean() > 0.005
    assert not [m for m in messages if m.startswith("error")]
