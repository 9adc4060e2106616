"""Models that ship with the package, each with a card beside it."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent / "pretrained"


def pretrained(name: str) -> str:
    """Return the path of a bundled model.

    Parameters
    ----------
    name : str
        For instance "alanine-dipeptide".

    Raises
    ------
    ValueError
        If there is no model of that name; the message lists those that exist.
    """
    path = _FOLDER / f"{name}.pt"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in _FOLDER.glob("*.pt"))) or "none"
        raise ValueError(f"no bundled model {name!r}; there are: {known}")
    return str(path)
