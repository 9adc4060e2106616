"""A whole fit as one piece of work: by a function of what it is sent, on whatever machine."""

from __future__ import annotations

import io
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ..files import write_bytes_atomically
from ..simulation.systems import MolecularSystem
from ..workers.here import Here
from .budget import FitBudget
from .fit import Validation, fit
from .settings import FitSettings

_MODEL, _WORK = "model.pt", "work"


@dataclass(frozen=True)
class FitTask:
    """All that a worker needs for a fit.

    Attributes
    ----------
    molecule : MolecularSystem
    settings : FitSettings
    budget : FitBudget
    work : bytes
        What `pack` has made of the work folder of an earlier call; empty if there is none.
    """

    molecule: MolecularSystem
    settings: FitSettings
    budget: FitBudget
    work: bytes


@dataclass(frozen=True)
class FitOutcome:
    """What a worker sends back.

    Attributes
    ----------
    found : Validation or str
        Of the model, or why there is none.
    model, card : bytes
        The files; empty if the fit failed.
    work : bytes
        The work folder, packed.
    told : tuple of str
        What the user should know beyond progress.
    """

    found: Validation | str
    model: bytes
    card: bytes
    work: bytes
    told: tuple[str, ...]

    def write(self, model: Path, work: Path) -> None:
        """Bring the files to disk, as a fit here would have left them."""
        unpack(self.work, work)
        if self.model:
            write_bytes_atomically(model, self.model)
            write_bytes_atomically(model.with_suffix(".md"), self.card)


class _Told:
    """A display of which only the messages are kept."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def stage(self, name: str) -> None:
        pass

    def update(self, done: float, note: str) -> None:
        pass

    def tell(self, message: str) -> None:
        self.messages.append(message)


def fit_anywhere(task: FitTask) -> FitOutcome:
    """Fit on one thread of this process."""
    display = _Told()
    with TemporaryDirectory() as name:
        model, work = Path(name) / _MODEL, Path(name) / _WORK
        if task.work:
            unpack(task.work, work)
        found: Validation | str
        try:
            found = fit(
                task.molecule,
                model,
                task.settings,
                work,
                display,
                force=True,
                budget=task.budget,
                workers=Here(),
            )
        except ValueError as error:
            found = str(error)
        made = isinstance(found, Validation)
        return FitOutcome(
            found,
            model.read_bytes() if made else b"",
            model.with_suffix(".md").read_bytes() if made else b"",
            pack(work),
            tuple(display.messages),
        )


def pack(folder: Path) -> bytes:
    """Return the files of a folder in one piece; nothing if there is no such folder."""
    if not folder.is_dir():
        return b""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        archive.add(folder, ".")
    return buffer.getvalue()


def unpack(content: bytes, folder: Path) -> None:
    """Make a folder of what `pack` has returned, instead of one that is there."""
    if not content:
        return
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        # Files of this folder alone, whatever their names say.
        archive.extractall(unfinished, filter="data")
    old = folder.with_name(f"{folder.name}.old")
    if folder.exists():
        folder.rename(old)
    unfinished.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
