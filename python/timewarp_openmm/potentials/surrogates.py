"""The surrogate that comes with a model of a potential: a file beside the model's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..contract import ModelMetadata


def surrogate_file(model: Path) -> Path:
    """Return where the surrogate of a model lies, if it has one.

    Examples
    --------
    >>> surrogate_file(Path("models/ala2.pt")).name
    'ala2.surrogate.pt'
    """
    return model.with_suffix(".surrogate.pt")


def measured_subchain(metadata: ModelMetadata) -> int:
    """Return the length of subchains that a model's acceptance was measured with; 0 for none."""
    fit = metadata.provenance.get("fit", {})
    target = fit.get("target", {}) if isinstance(fit, dict) else {}
    subchain = target.get("subchain", 0) if isinstance(target, dict) else 0
    return subchain if isinstance(subchain, int) else 0
