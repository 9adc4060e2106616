"""The surrogate that comes with a model of a potential: a file beside the model's."""

from __future__ import annotations

from collections.abc import Sequence
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


def own_surrogate(
    model: Path, metadata: ModelMetadata, force_field: Sequence[str]
) -> tuple[Path, int] | None:
    """Return the surrogate that came with a model and the subchain it was measured with, if so.

    It was learned for the potential that the model was made for, and serves no other.
    """
    file, subchain = surrogate_file(model), measured_subchain(metadata)
    if subchain == 0 or not file.exists() or list(force_field) != metadata.force_field:
        return None
    return file, subchain


def measured_subchain(metadata: ModelMetadata) -> int:
    """Return the length of subchains that a model's acceptance was measured with; 0 for none."""
    fit = metadata.provenance.get("fit", {})
    target = fit.get("target", {}) if isinstance(fit, dict) else {}
    subchain = target.get("subchain", 0) if isinstance(target, dict) else 0
    return subchain if isinstance(subchain, int) else 0
