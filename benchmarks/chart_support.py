"""Which share of MD frames has no density, whatever a flow of internal coordinates learns.

Usage: python chart_support.py [--frames 2000] [--interval 0.1] [--temperature 310] [KIND ...]

For each molecule of the tests' table (tests/python/chemistry.py) it runs two
simulations, makes the chart from every other frame, and counts the other frames that lie outside of
it. Force field: tests/python/generic_force_field.py.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "python"))
sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "molecules"))

from chemistry import KINDS
from generic_force_field import simulate
from molecules import from_rdkit
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from timewarp_openmm.flows.internal.shape import ShapeChart


def frames_of(smiles, count, interval, temperature):
    """Return a molecule and frames [F, N, 3] / nm of two runs from one conformation.

    In another conformation equivalent atoms may be numbered the other way round.
    """
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(mol, randomSeed=7)
    runs = [simulate(mol, count // 2, interval, temperature, seed) for seed in (1, 2)]
    return from_rdkit(mol), torch.tensor(np.concatenate(runs))


def share_outside(molecule, positions):
    """Return the share of the frames that the chart leaves out, or why there is no chart."""
    try:
        chart = ShapeChart(molecule)
        known, held_out = positions[::2], positions[1::2]
        weights = torch.full((len(known),), 1 / len(known), dtype=torch.float64)
        chart.fit(known, weights, True)
    except ValueError as error:
        return str(error)
    return float(torch.isinf(chart.to_shape(held_out)[3]).double().mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kinds", nargs="*", default=list(KINDS), metavar="KIND")
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--interval", type=float, default=0.1, help="ps")
    parser.add_argument("--temperature", type=float, default=310.0, help="K")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for kind in arguments.kinds:
        molecule, positions = frames_of(
            KINDS[kind].smiles, arguments.frames, arguments.interval, arguments.temperature
        )
        share = share_outside(molecule, positions)
        text = share if isinstance(share, str) else f"{share:8.2%}"
        print(f"{kind:24} {molecule.num_atoms:3} atoms  {text}", flush=True)


if __name__ == "__main__":
    main()
