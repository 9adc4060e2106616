"""The pages that people read, and the code in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def code(page: Path, *languages: str) -> list[tuple[str, str]]:
    """Return the blocks of code in these languages, each with its language, as they stand."""
    pattern = rf"```({'|'.join(languages)})\n(.*?)```"
    return re.findall(pattern, page.read_text(), flags=re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [text for _, text in code(page, language)]


def commands(block: str) -> list[str]:
    """Return the lines of a block of commands, each as one line without its comment."""
    lines = block.replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"\s+#.*", "", line).strip() for line in lines) if line]
