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
            f"Independent draws for {_atoms(trained)}{_order(made['settings'])} at "
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


def write_target_card(path: Path, trained: TrainedFlow, provenance: dict[str, Any]) -> str:
    """Return the card of a model for a potential."""
    made = provenance["fit"]
    target, measured = made["target"], made["measured"]
    proposals, energies = measured["proposals"], measured["energies"]
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in made["seconds"].items())
    lines = [
        f"# {path.stem}",
        "",
        f"Independent draws for {trained.provenance.molecule.num_atoms} atoms at "
        f"{trained.provenance.temperature:g} K, {target['potential']} ({target['version']}).",
        "",
        f"- acceptance in the integrator's chain on {target['potential']}: "
        f"{proposals['acceptance']:.1%} +- {proposals['error']:.1%} of single proposals (mean and "
        f"standard error of {proposals['chains']} chains of {proposals['iterations']} iterations "
        f"from different basins; the lowest {proposals['lowest']:.1%})",
        f"- with the surrogate and subchains of {measured['subchain']} proposals: "
        f"{energies['acceptance']:.1%} +- {energies['error']:.1%} of the potential's energies",
    ]
    for number, learned in enumerate(target["learned"]):
        drawn = target["acceptance_of_draws"][number]
        lines.append(
            f"- cycle {number + 1}: {drawn:.1%} of the flow's draws accepted before it; learned "
            f"from {learned['states']} energies, which differ from the force field's by "
            f"{learned['before']:.2f} kT and from the surrogate's by {learned['after']:.2f} kT"
        )
    return "\n".join(
        [
            *lines,
            f"- made in {made['total_minutes']:.1f} min of wall time with {made['threads']} "
            f"threads: {seconds}",
            f"- begun with a flow for {', '.join(made['force_field'])}",
            f"- seed {made['settings']['seed']}, timewarp-openmm {__version__}",
            "",
        ]
    )


def _atoms(trained: TrainedFlow) -> str:
    """Return how many atoms the training data have, or the model of a fragment moves of them."""
    fragment, atoms = trained.config.flow.fragment, trained.provenance.molecule.num_atoms
    if fragment is None:
        return f"{atoms} atoms"
    return f"{len(fragment.moved)} atoms in place, made among {atoms - len(fragment.moved)} others,"


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
    if settings.get("fragment") is not None:
        words.append("among the others as dynamics have left them, where each chain starts")
    return f" ({'; '.join(words)})" if words else ""
