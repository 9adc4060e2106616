"""Join wheels of one Python that were built with other releases of torch into one wheel."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

from wheel.wheelfile import WheelFile

_COMPILED = re.compile(r"timewarp_openmm/_torch_(\d+)_(\d+)/")


def merge_wheels(wheels: Sequence[Path], folder: Path) -> Path:
    """Write a wheel with the compiled libraries of all of them, and return its path.

    Parameters
    ----------
    wheels : sequence of path
        Of one name, version and Python; each with the libraries for one release of torch. All else
        is taken from the first.
    folder : path
        Where the merged wheel is written, under the name of the first.

    Raises
    ------
    ValueError
        If they are of different names, two are for the same release, or what is not compiled
        differs between them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / wheels[0].name
    served: list[tuple[int, int]] = []
    written: dict[str, bytes] = {}
    for wheel in wheels:
        if wheel.name != wheels[0].name:
            raise ValueError(f"{wheel.name} and {wheels[0].name} are wheels of different kinds")
        files = _files(wheel)
        releases = {(int(m[1]), int(m[2])) for name in files if (m := _COMPILED.match(name))}
        if len(releases) != 1 or releases & set(served):
            raise ValueError(
                f"{wheel} is for the releases of torch {releases}, not for another one"
            )
        served += releases
        for name, content in files.items():
            if written.setdefault(name, content) != content:
                raise ValueError(f"{name} of {wheel} differs from that of {wheels[0]}")
    (metadata,) = (name for name in written if name.endswith(".dist-info/METADATA"))
    written[metadata] = _requiring(written[metadata].decode(), sorted(served)).encode()
    with WheelFile(out, "w") as merged:
        for name, content in written.items():
            merged.writestr(name, content)
    return out


def _files(wheel: Path) -> dict[str, bytes]:
    """Return the content of a wheel's files but for the list of them, which is written anew."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        return {n: archive.read(n) for n in names if not n.endswith(".dist-info/RECORD")}


def _requiring(metadata: str, served: Sequence[tuple[int, int]]) -> str:
    """Return metadata that asks for the releases of torch that there are libraries for."""
    (first, last) = served[0], served[-1]
    if [(first[0], minor) for minor in range(first[1], last[1] + 1)] != list(served):
        raise ValueError(f"there are releases of torch between {served}; wheels take neighbours")
    asked = f"Requires-Dist: torch<{last[0]}.{last[1] + 1},>={first[0]}.{first[1]}"
    changed, count = re.subn(r"^Requires-Dist: torch==.*$", asked, metadata, flags=re.MULTILINE)
    if count != 1:
        raise ValueError("the metadata name torch other than once")
    return changed
