"""Model files with planted faults: members changed, added or left out, headers and bits damaged."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from timewarp_openmm.contract import METADATA_FILE

METADATA = f"extra/{METADATA_FILE}"
Edit = Callable[[bytes], bytes]


def members_of(content: bytes) -> list[tuple[str, bytes]]:
    """Return the members of a TorchScript file, by their names without the top folder."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(n.split("/", 1)[1], archive.read(n)) for n in archive.namelist()]


def archive_of(members: Iterable[tuple[str, bytes]], folder: str = "archive") -> bytes:
    """Return a TorchScript file of some members, with right checksums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members:
            archive.writestr(f"{folder}/{name}", content)
    return buffer.getvalue()


def edited(content: bytes, edits: dict[str, Edit]) -> bytes:
    """Return a TorchScript file with some members changed; each must be there and change."""
    members = members_of(content)
    missing = set(edits) - {name for name, _ in members}
    assert not missing
    changed = [(name, edits.get(name, bytes)(member)) for name, member in members]
    assert changed != members
    return archive_of(changed)


def replaced(old: bytes, new: bytes) -> Edit:
    """Return an edit that puts some bytes in the place of others, which must be there."""

    def edit(member: bytes) -> bytes:
        assert old in member
        return member.replace(old, new, 1)

    return edit


def with_metadata(content: bytes, **entries: object) -> bytes:
    """Return a model file with some entries of its metadata changed."""

    def edit(member: bytes) -> bytes:
        return json.dumps({**json.loads(member), **entries}).encode()

    return edited(content, {METADATA: edit})


def with_metadata_text(content: bytes, edit: Callable[[str], str]) -> bytes:
    """Return a model file whose metadata are changed as text."""
    return edited(content, {METADATA: lambda member: edit(member.decode()).encode()})


def written(content: bytes, folder: Path, name: str = "model.pt") -> str:
    """Write a file and return its path."""
    path = folder / name
    path.write_bytes(content)
    return str(path)
