"""One HTML page that needs no network, the figures as PNG files, and a JSON file of all numbers."""

from __future__ import annotations

import base64
import json
from importlib import resources
from io import BytesIO
from pathlib import Path

from ..analysis.numbers import plain
from ..files import write_bytes_atomically
from .findings import Findings

PAGE_FILE = "index.html"
NUMBERS_FILE = "numbers.json"
FIGURES_FOLDER = "figures"


def write_report(findings: Findings, frames: dict[str, list[str]], folder: Path, made: str) -> Path:
    """Write a report and return the path of its page.

    Parameters
    ----------
    frames : dict of list of str
        PDB texts for the three-dimensional view, by sample.
    made : str
        A line on how and from what the report was made.
    """
    from jinja2 import Environment

    (folder / FIGURES_FOLDER).mkdir(parents=True, exist_ok=True)
    images = {}
    for section in findings.sections:
        for picture in section.pictures:
            buffer = BytesIO()
            picture.figure.savefig(buffer, format="png", dpi=100)
            name = file_name(picture.name)
            write_bytes_atomically(folder / FIGURES_FOLDER / f"{name}.png", buffer.getvalue())
            images[picture.name] = base64.b64encode(buffer.getvalue()).decode()
    template = Environment(autoescape=True).from_string(_asset("page.html"))
    page = template.render(
        findings=findings,
        images=images,
        frames=frames,
        # A closing tag within a string would end the script.
        frames_json=json.dumps(frames).replace("<", "\\u003c"),
        viewer=_asset("3Dmol-min.js") if frames else "",
        viewer_licence=_asset("3Dmol-LICENSE.txt"),
        script=_asset("page.js"),
        style=_asset("page.css"),
        made=made,
    )
    write_bytes_atomically(folder / PAGE_FILE, page.encode())
    text = json.dumps(plain(findings.numbers()), indent=1)
    write_bytes_atomically(folder / NUMBERS_FILE, (text + "\n").encode())
    return folder / PAGE_FILE


def file_name(name: str) -> str:
    """Return a name without what file systems dislike.

    Examples
    --------
    >>> file_name("ramachandran-ALA 2:a")
    'ramachandran-ALA-2-a'
    """
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)


def _asset(name: str) -> str:
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")
