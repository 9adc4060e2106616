"""pymbar, without its advertisements."""

from __future__ import annotations

import logging
from importlib import import_module
from types import ModuleType


def pymbar() -> ModuleType:
    """Return the library, which logs advertisements when it is imported.

    Raises
    ------
    ImportError
        If it is not installed (the extra ``analysis``).
    """
    logging.getLogger("pymbar").setLevel(logging.ERROR)
    # A submodule that the library itself leaves out.
    import_module("pymbar.timeseries")
    return import_module("pymbar")
