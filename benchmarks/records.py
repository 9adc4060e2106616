"""What a benchmark writes beside its table: the rows, and with what they were measured."""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path
from typing import Any

import openmm
import torch


def write_record(out: Path | None, settings: dict[str, Any], rows: Any) -> None:
    """Write settings, versions, time and rows as JSON to `out`, if it is given."""
    if out is None:
        return
    about = {
        **settings,
        "machine": platform.processor(),
        "openmm": openmm.version.version,
        "torch": torch.__version__,
        "time": time.strftime("%Y-%m-%d %H:%M"),
        "rows": rows,
    }
    out.write_text(json.dumps(about, indent=1) + "\n")
