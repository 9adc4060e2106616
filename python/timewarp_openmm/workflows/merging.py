"""Putting libraries together that were built apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import write_bytes_atomically
from ..library import LIBRARY_FILE, SIDE_CHAIN, LibraryContent, open_library, read_content
from ..stages import compare


def merge_libraries(folders: Sequence[str | Path], out: str | Path, name: str) -> LibraryContent:
    """Write a library with the models of several.

    Of two models of one residue the one with the higher acceptance is taken.

    Parameters
    ----------
    folders : sequence of path
        Libraries of one kind, force field and temperature.
    out : path
        A folder that is not there yet, or is empty.
    name : str
        Of the new library.

    Raises
    ------
    FileExistsError
        If there is something in `out`.
    ValueError
        If two of them do not go together, or one is damaged.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is there; name another folder")
    contents = []
    for folder in map(Path, folders):
        # All files are those that were made.
        open_library(folder)
        contents.append((folder, read_content(folder / LIBRARY_FILE)))
    _check_alike(contents)
    chosen: dict[str, tuple[Path, Any]] = {}
    for folder, content in contents:
        for entry in content["entries"]:
            best = chosen.get(entry["residue"])
            if best is None or best[1]["acceptance"] < entry["acceptance"]:
                chosen[entry["residue"]] = folder, entry
    out.mkdir(parents=True, exist_ok=True)
    for folder, entry in chosen.values():
        _copy(folder, out, entry["file"])
    merged = _content([content for _, content in contents], chosen, name)
    text = json.dumps(merged, indent=1) + "\n"
    write_bytes_atomically(out / LIBRARY_FILE, text.encode())
    return merged


def _check_alike(contents: Sequence[tuple[Path, LibraryContent]]) -> None:
    first_folder, first = contents[0]
    for folder, content in contents[1:]:
        if different := compare(_identity(first), _identity(content)):
            raise ValueError(
                f"{first_folder} and {folder} do not go together (different: "
                f"{'; '.join(different)})"
            )


def _identity(content: LibraryContent) -> dict[str, object]:
    kind = content["made_with"].get("kind", SIDE_CHAIN)
    return {
        "kind": kind,
        "force_field": content["force_field"],
        "temperature": content["temperature"],
    }


def _copy(folder: Path, out: Path, model: str) -> None:
    write_bytes_atomically(out / model, (folder / model).read_bytes())
    card = Path(model).with_suffix(".md")
    if (folder / card).is_file():
        write_bytes_atomically(out / card, (folder / card).read_bytes())


def _content(
    contents: Sequence[LibraryContent], chosen: dict[str, tuple[Path, Any]], name: str
) -> LibraryContent:
    reasons: dict[str, str] = {}
    minutes: dict[str, float] = {}
    for content in contents:
        reasons |= content["not_moved"]
        minutes |= content["made_with"].get("minutes", {})
    entries = [chosen[residue][1] for residue in sorted(chosen)]
    return {
        **contents[0],
        "name": name,
        "made_with": {**contents[0]["made_with"], "minutes": minutes},
        "entries": entries,
        "not_moved": {r: why for r, why in sorted(reasons.items()) if r not in chosen},
    }
