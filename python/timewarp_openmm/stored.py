"""What the package writes for itself and reads again: with a schema, a checksum, and one reader.

Documents are JSON with the SHA-256 of the rest under ``sha256``; arrays (``.npz``) and checkpoints
are zip archives that end in one, as a comment. All are checked before anything is made of them, so
that whatever has happened to a file ends in one message that names it and says what to do.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from .files import write_bytes_atomically

#: The entry of a document that holds the checksum of all others.
CHECKSUM = "sha256"
#: Bytes; no document of ours comes near it, and a larger one would fill the memory.
LARGEST_DOCUMENT = 256 * 2**20
#: An array that its archive says is larger than this many times the archive itself is refused.
LARGEST_EXPANSION = 1100

#: Of documents' schemas: nothing is left out, added, or of another type.
RECORD = ConfigDict(extra="forbid", strict=True)

#: Counts and seeds in documents.
Count = Annotated[int, Field(ge=0, le=2**53)]
#: Of an archive, before the SHA-256; and that one's length.
_SEAL, _HEX = b"sha256:", 64

T = TypeVar("T")


class DamagedFileError(ValueError):
    """A file is not what was written: damaged, changed, or of another kind."""

    def __init__(self, path: Path, what: str, remedy: str) -> None:
        super().__init__(f"{path} is damaged or was changed: {what}; {remedy}")
        self._arguments = (path, what, remedy)

    def __reduce__(self) -> tuple[type[DamagedFileError], tuple[Path, str, str]]:
        # It comes from worker processes, too.
        return DamagedFileError, self._arguments


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return `content` with its checksum.

    Examples
    --------
    >>> sorted(seal({"step": 1}))
    ['sha256', 'step']
    """
    return {**content, CHECKSUM: _checksum(content)}


def _checksum(content: Any) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def unseal(text: str | bytes, schema: type[T]) -> T:
    """Return what `seal` was given, as JSON `text` has it, if it is whole and fits `schema`.

    Parameters
    ----------
    schema : type
        A TypedDict, dataclass or the like; numbers must have its types.

    Raises
    ------
    ValueError
        Saying what is wrong.
    """
    try:
        content = json.loads(text)
        found = content.pop(CHECKSUM, None) if isinstance(content, dict) else None
        expected = _checksum(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error})") from error
    if found is None:
        raise ValueError("it has no checksum")
    if found != expected:
        raise ValueError("its checksum does not fit its content")
    return conform(content, schema)


def conform(content: Any, schema: type[T]) -> T:
    """Return `content` if it fits `schema`.

    Raises
    ------
    ValueError
        Naming the entries that do not.
    """
    try:
        return TypeAdapter(schema).validate_python(content)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in item['loc']) or 'the whole'}: {item['msg']}"
            for item in error.errors()[:3]
        ]
        raise ValueError("; ".join(problems)) from error


def write_document(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with its checksum in one step."""
    write_bytes_atomically(path, (json.dumps(seal(content), indent=1) + "\n").encode())


def read_document(path: Path, schema: type[T], remedy: str) -> T:
    """Read what `write_document` wrote.

    Parameters
    ----------
    remedy : str
        What to do where the file is damaged.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DamagedFileError
        If it is not whole or does not fit `schema`.
    """
    try:
        return unseal(_read(path, LARGEST_DOCUMENT, remedy), schema)
    except DamagedFileError:
        raise
    except ValueError as error:
        raise DamagedFileError(path, str(error), remedy) from error


def read_document_if_any(path: Path, schema: type[T], remedy: str) -> T | None:
    """Read what `write_document` wrote, or return None where there is no such file.

    Raises
    ------
    DamagedFileError
    """
    return read_document(path, schema, remedy) if path.exists() else None


def _read(path: Path, limit: float, remedy: str) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    if path.stat().st_size > limit:
        raise DamagedFileError(path, f"it has {path.stat().st_size} bytes", remedy)
    return path.read_bytes()


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays as ``.npz`` in one step."""
    # Through memory, so that a full disk is noticed by Python's own writer.
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_archive(path, buffer.getvalue())


def read_arrays(
    path: Path, schema: Mapping[str, str], remedy: str, sealed: bool = True
) -> dict[str, NDArray[Any]]:
    """Read named arrays of an ``.npz`` file; others in it are left alone.

    Parameters
    ----------
    schema : mapping of str to str
        For each array its kind (float, int, bool or str) and its dimensions, such as
        ``"float F N 3"``: the same letter stands for the same number everywhere.
    remedy : str
        What to do where the file is damaged.
    sealed : bool
        Whether it must be of `write_arrays`; NumPy's own have checksums of their members only.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DamagedFileError
        If a checksum does not fit, an array is missing or of another kind or shape, or a number is
        not finite.
    """
    check_archive(path, remedy, sealed)
    arrays: dict[str, NDArray[Any]] = {}
    sizes: dict[str, int] = {}
    try:
        with np.load(path, allow_pickle=False) as content:
            for name, wanted in schema.items():
                if name not in content.files:
                    raise ValueError(f"it has no {name}")
                arrays[name] = np.asarray(content[name])
                _check_array(name, arrays[name], wanted, sizes)
    except Exception as error:  # NumPy raises its own and zipfile's kinds, by what is broken
        raise DamagedFileError(path, str(error), remedy) from error
    return arrays


def _check_array(name: str, array: NDArray[Any], wanted: str, sizes: dict[str, int]) -> None:
    kind, *dimensions = wanted.split()
    letters = {"float": "f", "int": "iu", "bool": "b", "str": "U"}[kind]
    shape = " ".join(str(length) for length in array.shape)
    fits = array.dtype.kind in letters and len(array.shape) == len(dimensions)
    for letter, length in zip(dimensions, array.shape, strict=False):
        expected = int(letter) if letter.isdigit() else sizes.setdefault(letter, length)
        fits = fits and length == expected
    if not fits:
        raise ValueError(f"{name} is {array.dtype} [{shape}] instead of {wanted}")
    if kind == "float" and not np.isfinite(array).all():
        raise ValueError(f"{name} has numbers that are not finite")


def write_archive(path: Path, content: bytes) -> None:
    """Write a zip archive, with the SHA-256 of all that stands before it as its comment."""
    # The last two bytes are the comment's length, which was 0.
    content = content[:-2] + len(_SEAL + _HEX * b"0").to_bytes(2, "little")
    write_bytes_atomically(path, content + _SEAL + sha256(content).hexdigest().encode())


def repacked(archive: bytes, compression: int) -> bytes:
    """Return a zip archive whose members are compressed so, such as ``zipfile.ZIP_STORED``.

    torch reads and writes members that are stored as they are.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(packed, "w") as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member), compression)
    return packed.getvalue()


def check_archive(path: Path, remedy: str, sealed: bool = True) -> None:
    """Check the checksums of a zip archive and its members, before a library makes sense of it.

    Parameters
    ----------
    sealed : bool
        Whether it must be of `write_archive`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DamagedFileError
        If it is no archive, or a member is not what was written.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    limit = LARGEST_EXPANSION * path.stat().st_size
    try:
        _check_seal(path, sealed)
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > limit:
                raise ValueError("its members are larger than it can hold")
            broken = archive.testzip()
    except Exception as error:  # zipfile raises its own kinds and zlib's, by what is broken
        raise DamagedFileError(path, str(error), remedy) from error
    if broken is not None:
        raise DamagedFileError(path, f"the checksum of {broken} does not fit", remedy)


def _check_seal(path: Path, needed: bool) -> None:
    digest = sha256()
    with open(path, "rb") as handle:
        left = max(0, path.stat().st_size - len(_SEAL) - _HEX)
        while left > 0 and (portion := handle.read(min(left, 2**20))):
            digest.update(portion)
            left -= len(portion)
        seal = handle.read()
    if seal.startswith(_SEAL):
        if seal != _SEAL + digest.hexdigest().encode():
            raise ValueError("its checksum does not fit its content")
    elif needed:
        raise ValueError("it has no checksum, or is cut off")
