"""The card of a model that `fit` has made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import __version__
from ..simulation.explore import describe_found
from ..training.checkpoints import TrainedFlow


def write_card(path: Path, trained: TrainedFlow, provenance: dict[str, Any]) -> str:
    """Return the model's card in Markdown: what it is and what was measured."""
    made = provenance["fit"]
    measured, basins, data = made["measured"], made["basins"], trained.provenance.data
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in made["seconds"].items())
    rounds = " -> ".join(f"{m['acceptance']:.1%}" for m in made["refine_rounds"])
    return "\n".join(
        [
            f"# {path.stem}",
            "",
            f"Independent draws for {trained.provenance.molecule.num_atoms} atoms"
            f"{_order(made['settings'])} at "
            f"{trained.provenance.temperature:g} K, {', '.join(trained.provenance.force_field)}.",
            "",
            f"- acceptance in the integrator's chain{_where(made['settings'])}: "
            f"{measured['acceptance']:.1%} +- {measured['error']:.1%} (mean and standard error of "
            f"{measured['chains']} chains of {measured['iterations']} iterations from different "
            f"basins; the lowest {measured['lowest']:.1%})",
            f"- before refining and after each round, on the flow's own draws: {rounds}",
            f"- made in {made['total_minutes']:.1f} min of wall time with {made['threads']} "
            f"threads: {seconds}",
            f"- basins: {basins['kept']} kept of "
            f"{describe_found(basins['found'], basins['mirror_images'])} found; "
            f"{basins['dropped_frames']} frames of the exploration dropped for flipped "
            f"centres or amide bonds, {data['dropped_starts']} starts dropped",
            f"- data: {data['frames']} training frames, SHA-256 {data['sha256']}",
            f"- seed {made['settings']['seed']}, timewarp-openmm {__version__}",
            "",
        ]
    )


def _order(settings: dict[str, Any]) -> str:
    """Return how many atoms are made last, where they are not made all together."""
    parts = settings.get("later_parts")
    if not parts:
        return ""
    each = " and ".join(str(len(part)) for part in parts)
    return f", the last {each} of them given the others,"


def _where(settings: dict[str, Any]) -> str:
    """Return in which System acceptance was measured, where it is another than the data's."""
    words = []
    if settings.get("constraints") is not None:
        words.append("bonds to hydrogen constrained")
    if settings.get("moved") is not None:
        words.append(f"{len(settings['moved'])} atoms moved, the others where each chain starts")
    return f" ({'; '.join(words)})" if words else ""
