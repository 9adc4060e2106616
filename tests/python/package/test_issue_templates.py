"""Issue templates are what the forge reads, and ask for what an answer needs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[3] / ".github" / "ISSUE_TEMPLATE"
TEMPLATES = sorted(FOLDER.glob("*.md"))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_header(template: Path) -> None:
    _, header, body = template.read_text().split("---\n", 2)
    assert {"name", "about"} <= set(yaml.safe_load(header))
    assert body.count("**") >= 4


def test_what_a_report_asks_for() -> None:
    assert {path.stem for path in TEMPLATES} >= {"wrong", "refused", "feature", "question"}
    report = (FOLDER / "wrong.md").read_text()
    for asked in ("timewarp-openmm doctor", "System", "getAcceptanceRate()"):
        assert asked in report
