"""What the subcommands of ``timewarp-openmm`` do; cli.py gives them their options."""

from __future__ import annotations

from importlib.util import find_spec

#: Libraries of the extra ``analysis``, by the name they are imported by.
ANALYSIS_LIBRARIES = ("arviz_stats", "deeptime", "jinja2", "ot", "pymbar", "scipy")


def require_analysis(command: str) -> None:
    """Refuse a command whose libraries are not installed.

    Raises
    ------
    ValueError
        Naming what is missing and how to install it.
    """
    missing = [name for name in ANALYSIS_LIBRARIES if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"{command} needs {', '.join(missing)}; install them with "
            'pip install "timewarp-openmm[analysis]"'
        )


def require_farm(command: str) -> None:
    """Refuse a command that needs dask where it is not installed.

    Raises
    ------
    ValueError
        Naming how to install it.
    """
    if find_spec("distributed") is None:
        raise ValueError(
            f'{command} needs dask; install it with pip install "timewarp-openmm[farm]"'
        )
