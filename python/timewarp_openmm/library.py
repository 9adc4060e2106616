"""Libraries of models of parts: a folder of model files and ``library.json``, which says what each
is of, what it accepts, and what the library does not move."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from .bounds import SHARE, Temperature
from .files import sha256_of
from .stored import DamagedFileError, conform

LIBRARY_FILE = "library.json"
#: Of the folder that `open_library` reads.
FORMAT: Literal[1] = 1
#: Kinds of entries: models of side chains, and flows of whole residues, of which peptides' models
#: are made (`flows.residues`).
SIDE_CHAIN, RESIDUE = "side chain", "residue"
#: The library that comes with the package, and the force field that it was made with.
BUNDLED = "amber14"
BUNDLED_FORCE_FIELD = ("amber14/protein.ff14SB.xml", "implicit/obc2.xml")
_FOLDER = Path(__file__).parent / "pretrained"
_REMEDY = "restore the folder from a copy, or build the library again"

_Share = Annotated[float, SHARE]
#: Later releases may say more of an entry; what is here keeps its meaning as long as FORMAT.
_SCHEMA = ConfigDict(extra="ignore")


@with_config(_SCHEMA)
class EntryContent(TypedDict):
    """What it holds of one model."""

    residue: Annotated[str, Field(min_length=1)]
    kind: Annotated[str, Field(min_length=1)]
    # A name, so that nothing outside of the folder is read.
    file: Annotated[str, Field(pattern=r"^[^/\\]+\.pt$")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    acceptance: _Share
    error: Annotated[float, Field(ge=0)]
    lowest: _Share
    sites: Annotated[int, Field(ge=1)]


@with_config(_SCHEMA)
class LibraryContent(TypedDict):
    """What ``library.json`` holds."""

    format: Literal[1]
    name: Annotated[str, Field(min_length=1)]
    force_field: list[str]
    temperature: Temperature
    made_with: dict[str, Any]
    entries: list[EntryContent]
    not_moved: dict[str, str]


@dataclass(frozen=True)
class LibraryEntry:
    """A model of a library.

    Attributes
    ----------
    residue : str
        Amber's name of the amino acid in its protonation state, such as "HIE".
    kind : str
        What of it moves, such as "side chain".
    model : str
        Path of the model file.
    acceptance, error, lowest : float
        The mean acceptance of single proposals at the sites where it was measured, its standard
        error, and that of the site with the lowest.
    sites : int
        How many these were.
    """

    residue: str
    kind: str
    model: str
    acceptance: float
    error: float
    lowest: float
    sites: int


@dataclass(frozen=True)
class Library:
    """Models of parts that were made together.

    Attributes
    ----------
    name : str
    folder : Path
    digest : str
        SHA-256 of ``library.json``, which holds those of all model files.
    force_field : tuple of str
        OpenMM's files that the models were made with.
    temperature : float
        K.
    entries : tuple of LibraryEntry
    not_moved : mapping of str to str
        Residues that the library has no model of on purpose, and why.
    made_with : mapping
        Versions and settings, for the record.
    """

    name: str
    folder: Path
    digest: str
    force_field: tuple[str, ...]
    temperature: float
    entries: tuple[LibraryEntry, ...]
    not_moved: Mapping[str, str]
    made_with: Mapping[str, Any]

    @property
    def is_bundled(self) -> bool:
        """Whether it comes with the package, and is opened by its folder's name."""
        return self.folder.parent == _FOLDER

    def of_kind(self, kind: str) -> list[LibraryEntry]:
        """Return the entries of a kind, such as "side chain"."""
        return [entry for entry in self.entries if entry.kind == kind]


def open_library(library: str | PathLike[str] | None = None) -> Library:
    """Read a library and check that its files are those that were made.

    Parameters
    ----------
    library : path or str, optional
        Its folder, or the name of a bundled one; by default the bundled ``amber14``.

    Raises
    ------
    FileNotFoundError
        If there is no such library, or a file of it is missing.
    DamagedFileError
        If a file has changed, or ``library.json`` is not what one holds.
    ValueError
        If the library is of another format than this package reads.
    """
    folder = _find_folder(library)
    path = folder / LIBRARY_FILE
    content = read_content(path)
    entries = tuple(_entry(folder, entry) for entry in content["entries"])
    _refuse_repeated(path, entries)
    return Library(
        content["name"],
        folder,
        sha256_of(path),
        tuple(content["force_field"]),
        content["temperature"],
        entries,
        content["not_moved"],
        content["made_with"],
    )


def bundled_libraries() -> list[str]:
    """Return the names of the libraries that come with the package."""
    return sorted(path.parent.name for path in _FOLDER.glob(f"*/{LIBRARY_FILE}"))


def _find_folder(library: str | PathLike[str] | None) -> Path:
    folder = Path(BUNDLED if library is None else library)
    # A name alone is a bundled one, unless such a folder is there.
    if (folder / LIBRARY_FILE).is_file():
        return folder
    bundled = bundled_libraries()
    if folder.name == str(folder) and folder.name in bundled:
        return _FOLDER / folder.name
    known = f"bundled are: {', '.join(bundled)}" if bundled else "none is bundled"
    if library is None:
        raise FileNotFoundError(
            f"this installation has no bundled library {BUNDLED!r} ({known}); name the folder of "
            "one that you have"
        )
    if folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is no library: it holds no {LIBRARY_FILE}; name the folder that the library "
            "was built in"
        )
    raise FileNotFoundError(
        f"there is no library {str(library)!r}: no such folder, and {known}; name the folder that "
        "the library was built in"
    )


def read_content(path: Path) -> LibraryContent:
    """Read ``library.json`` without a look at the models that it names.

    Raises
    ------
    DamagedFileError
        If it is not what such a file holds.
    ValueError
        If it is of another format than this package reads.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(path, f"it is not JSON ({error})", _REMEDY) from error
    found = content.get("format") if isinstance(content, dict) else None
    if isinstance(found, int) and found != FORMAT:
        raise ValueError(
            f"{path} is of format {found}, this package reads {FORMAT}; use the release that the "
            "library was built with, or build it again"
        )
    try:
        return conform(content, LibraryContent)
    except ValueError as error:
        raise DamagedFileError(path, str(error), _REMEDY) from error


def _entry(folder: Path, content: EntryContent) -> LibraryEntry:
    path = folder / content["file"]
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder / LIBRARY_FILE} names {content['file']} for {content['residue']}, which is "
            f"missing; {_REMEDY}"
        )
    if sha256_of(path) != content["sha256"]:
        raise DamagedFileError(path, f"its checksum is not that in {LIBRARY_FILE}", _REMEDY)
    return LibraryEntry(
        content["residue"],
        content["kind"],
        str(path),
        content["acceptance"],
        content["error"],
        content["lowest"],
        content["sites"],
    )


def _refuse_repeated(path: Path, entries: tuple[LibraryEntry, ...]) -> None:
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        if (entry.residue, entry.kind) in seen:
            raise DamagedFileError(
                path, f"it has two models of the {entry.kind} of {entry.residue}", _REMEDY
            )
        seen.add((entry.residue, entry.kind))
