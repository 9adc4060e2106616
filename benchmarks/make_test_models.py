"""Make the small models of tests/data, by fixed numbers of training steps.

    python benchmarks/make_test_models.py alanine-dipeptide-small --out FILE.pt [--work FOLDER]

alanine-dipeptide-small
    For Systems with constraints. The lengths of its X-H bonds are given scales that depend on the
    conformation, by several kT for all bonds together: as bad as a flow can be without constraints,
    and no matter where these lengths are kept. Populations in a constrained System are right all
    the same, unless the density of a kept length is left in.
valine-sidechain-small
    Moves the side chain of capped valine, given the rest; made in implicit solvent for water.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

import torch
from short_fits import ShortFit
from umbrella_rotamers import MOLECULES
from umbrella_rotamers import TEMPERATURE as ROOM_TEMPERATURE

from timewarp_openmm.flows.internal.config import InternalFlowConfig
from timewarp_openmm.molecule.selection import SIDE_CHAINS, select_atoms
from timewarp_openmm.simulation.explore import ExploreSettings
from timewarp_openmm.simulation.systems import load_molecule, named_molecule
from timewarp_openmm.training.checkpoints import TrainedFlow
from timewarp_openmm.training.export import export_trained

SMALL = InternalFlowConfig(rotatable_hidden=32, stiff_hidden=48)
#: Of the weights of the scales, and the seed of all that is random in them.
STRENGTH, SEED = 0.06, 1


def alanine(work: Path) -> TrainedFlow:
    """Return the flow of alanine dipeptide."""
    # Shorter walks do not find phi > 0.
    fit = ShortFit(named_molecule("alanine-dipeptide"), work, SMALL, ExploreSettings())
    return with_wild_stretches(fit.train(likelihood=700, regression=500))


def with_wild_stretches(trained: TrainedFlow) -> TrainedFlow:
    """Return the flow with a scale for all stretches that is a random function of the torsions."""
    weights = dict(trained.weights)
    generator = torch.Generator().manual_seed(SEED)
    name = "stretch_couplings.0.conditioner."
    first, last = (torch.zeros_like(weights[name + f"{end}.weight"]) for end in ("first", "last"))
    # The conditioner is given the other stiff coordinates, then cosines and sines of torsions.
    stiff = len(weights["stretch_couplings.0.kept"])
    first[:, stiff:] = torch.randn(first[:, stiff:].shape, generator=generator)
    # Of each stretch's two parameters the first is the scale's logarithm, the second its shift.
    last[0::2] = STRENGTH * torch.randn(last.shape[1], generator=generator)
    weights[name + "first.weight"], weights[name + "last.weight"] = first, last
    weights[name + "last.bias"] = torch.zeros_like(weights[name + "last.bias"])
    return dataclasses.replace(trained, weights=weights)


def valine(work: Path) -> TrainedFlow:
    """Return the flow of valine's side chain."""
    molecule = load_molecule(MOLECULES / "valine-dipeptide.pdb")
    moved = select_atoms(molecule.topology, SIDE_CHAINS)
    flow = SMALL.model_copy(update={"moved": moved})
    fit = ShortFit(molecule, work, flow, temperature=ROOM_TEMPERATURE)
    return fit.train(likelihood=500, regression=0)


MODELS = {"alanine-dipeptide-small": alanine, "valine-sidechain-small": valine}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=list(MODELS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="folder of what is made; a temporary one if none")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        trained = MODELS[options.model](options.work or Path(temporary))
        export_trained(trained, options.out, overwrite=True)


if __name__ == "__main__":
    main()
