"""Effective samples of the slowest torsion with latent moves, beside independent draws alone.

    python benchmarks/latent_moves.py [--molecule fenofibrate] [--target POTENTIAL] [--work FOLDER]
        [--likelihood 300] [--regression 0] [--seconds 10] [--repeats 4]
        [--mixtures "0:1" "0:0.5,0.9:0.25,0.99:0.25"] [--out F.json]

The molecule is fenofibrate, 25 heavy atoms and 46 in all, built from its SMILES string with the
force field of tests/python/generic_force_field.py (MMFF94's bonded terms, Lennard-Jones, no
charges), or one that comes with the package. A short training leaves a flow whose independent draws
are accepted rarely. With --target the chains, not the flow, are on that potential, whose energies
are dear: there an energy costs more than what proposals cost. A mixture is
given as rho:weight, rho:weight:share or rho:weight:share:torsions for each choice (`LatentChoice`),
and "@L" behind it stands for subchains of L proposals that a surrogate of the same force field
tests, so that latent steps are alternatives of which one is chosen.

All mixtures take turns. Each repeat has a seed of its own and 4 chains of the integrator, which
start in different basins and take so many seconds of processor time each, the recording of frames
included. Effective samples are those of the torsion that has the fewest (of a torsion the worse of
its sine and cosine), over the 4 chains together (`analysis.autocorrelation`). Errors are standard
errors over the repeats; ratios are to the first mixture, repeat by repeat. The ratio per iteration
is what remains where the energy costs much more than the flow.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from short_fits import ShortFit, from_smiles

from timewarp_openmm import LatentChoice, TimewarpMCMCIntegrator
from timewarp_openmm.analysis.autocorrelation import circular_quality, stack_chains
from timewarp_openmm.analysis.torsions import Torsion, proper_torsions, true_torsions
from timewarp_openmm.energies import surrogate_energy
from timewarp_openmm.latent import latent_choice
from timewarp_openmm.molecule.torsions import measure_torsions
from timewarp_openmm.simulation.systems import MolecularSystem, named_molecule, with_potential

NAME, SMILES = "fenofibrate", "CC(C)OC(=O)C(C)(C)Oc1ccc(cc1)C(=O)c1ccc(Cl)cc1"
CHAINS = 4
INTERVAL = 5  # iterations between frames
BURN_IN = 200  # iterations
MIXTURES = (
    "0:1",
    "0:0.5,0.9:0.25,0.99:0.25",
    "0:0.2,0.9:0.4,0.99:0.4",
    "0:0.5,0:0.5:0.1",
    "0:0.3,0.98:0.3,0:0.4:0.05",
    "0:0.1,0.8:0.9",
    "0:0.1,0.95:0.9",
    "0.95:1",
    "0:1@32",
    "0:0.1,0:0.6:1:1,0:0.3:1:2@32",
    "0:0.1,0:0.5:1:1,0:0.2:1:2,0.9:0.2@64",
)

Mixture = list[LatentChoice]
INDEPENDENT: Mixture = [LatentChoice(0.0, 1.0)]


def molecule_of(name: str) -> MolecularSystem:
    """Return fenofibrate, or a molecule that comes with the package."""
    return from_smiles(NAME, SMILES) if name == NAME else named_molecule(name)


def mixture(text: str) -> tuple[Mixture, int]:
    """Return choices and length of subchains of a text such as ``0:0.5,0.9:0.3,0:0.2:0.1@32``."""
    choices, _, length = text.partition("@")
    numbers = [[float(number) for number in part.split(":")] for part in choices.split(",")]
    return [latent_choice(choice) for choice in numbers], int(length or 1)


@dataclass
class Measured:
    """What the repeats of one mixture have found, an entry each.

    Attributes
    ----------
    acceptance, iterations_per_second : list of float
    rates : list of array [T]
        Effective samples of each torsion per second of processor time.
    """

    acceptance: list[float] = field(default_factory=list)
    iterations_per_second: list[float] = field(default_factory=list)
    rates: list[NDArray[np.float64]] = field(default_factory=list)

    def slowest(self) -> NDArray[np.float64]:
        """Return the lowest rate of each repeat."""
        return np.array([rates.min() for rates in self.rates])


def run_chain(
    model: Path,
    system: openmm.System,
    start: NDArray[np.float64],
    choices: tuple[Mixture, int],
    seed: int,
    torsions: Sequence[Torsion],
    seconds: float,
) -> tuple[NDArray[np.float64], TimewarpMCMCIntegrator]:
    """Return the torsions [F, T] / rad of a chain of so many seconds of processor time."""
    integrator = TimewarpMCMCIntegrator(str(model))
    integrator.setRandomNumberSeed(seed)
    mixture, subchain = choices
    if mixture != INDEPENDENT:
        integrator.setLatentCorrelation(mixture)
    if subchain > 1:
        integrator.setSurrogate(surrogate_energy(system))
        integrator.setSubchainLength(subchain)
    interval = max(1, INTERVAL // subchain)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(start)
    integrator.step(max(1, BURN_IN // subchain))
    atoms = [torsion.atoms for torsion in torsions]
    frames, began = [], time.process_time()
    while time.process_time() - began < seconds:
        integrator.step(interval)
        positions = context.getState(positions=True).getPositions(asNumpy=True)._value
        frames.append(np.array(positions, dtype=np.float32))
    return measure_torsions(np.array(frames), atoms), integrator


def repeat(
    measured: Measured,
    fit: ShortFit,
    system: openmm.System,
    model: Path,
    starts: Sequence[NDArray[np.float64]],
    choices: tuple[Mixture, int],
    seed: int,
    seconds: float,
) -> None:
    """Run the chains of one repeat of one mixture."""
    torsions = true_torsions(proper_torsions(fit.atoms))
    runs = [
        run_chain(model, system, start, choices, seed + i, torsions, seconds)
        for i, start in enumerate(starts)
    ]
    angles = stack_chains([found for found, _ in runs])
    ess = [circular_quality(angles[:, :, t]).ess for t in range(len(torsions))]
    spent = seconds * len(runs)
    measured.acceptance.append(float(np.mean([i.getAcceptanceRate() for _, i in runs])))
    frames = sum(len(found) for found, _ in runs)
    subchain = choices[1]
    proposals = max(INTERVAL, subchain)
    measured.iterations_per_second.append(proposals * frames / spent)
    # Chains are cut to the shortest one, and their time with them.
    measured.rates.append(np.array(ess) / (spent * angles.shape[1] * len(runs) / frames))


def with_error(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean and its standard error."""
    array = np.asarray(values, dtype=float)
    return float(array.mean()), float(array.std(ddof=1) / math.sqrt(len(array)))


def summarize(
    text: str, measured: Measured, first: Measured, torsions: Sequence[Torsion]
) -> dict[str, object]:
    """Return the figures of one mixture."""
    rate, error = with_error(measured.slowest())
    ratios = measured.slowest() / first.slowest()
    speeds = np.array(measured.iterations_per_second) / np.array(first.iterations_per_second)
    slowest = int(np.mean(measured.rates, axis=0).argmin())
    return {
        "mixture": text,
        "acceptance": with_error(measured.acceptance),
        "iterations_per_second": with_error(measured.iterations_per_second),
        "slowest_torsion": torsions[slowest].name,
        "effective_samples_per_second": (rate, error),
        "ratio": with_error(ratios),
        "ratio_per_iteration": with_error(ratios / speeds),
        "all_torsions": np.mean(measured.rates, axis=0).round(3).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--molecule", default=NAME, help=f"{NAME}, or one of the package's")
    parser.add_argument("--target", metavar="POTENTIAL", help="such as gfn2-xtb")
    parser.add_argument("--work", type=Path, help="folder of what is made; a temporary one if none")
    parser.add_argument("--likelihood", type=int, default=300, help="steps of training")
    parser.add_argument("--regression", type=int, default=0, help="steps of training")
    parser.add_argument("--seconds", type=float, default=10.0, help="of processor time, a chain")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--mixtures", nargs="+", default=list(MIXTURES), metavar="CHOICES")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        fit = ShortFit(molecule_of(options.molecule), options.work or Path(temporary))
        asked = with_potential(fit.molecule, options.target) if options.target else fit.molecule
        model = fit.make(options.likelihood, options.regression)
        starts = fit.starts(CHAINS)
        found = {text: Measured() for text in options.mixtures}
        for number in range(options.repeats):
            for text, measured in found.items():
                seed = 1 + 100 * number
                repeat(
                    measured, fit, asked.system, model, starts, mixture(text), seed, options.seconds
                )
                print(
                    f"{number} {text}: {measured.acceptance[-1]:.1%}, "
                    f"{measured.iterations_per_second[-1]:.0f}/s, "
                    f"{measured.slowest()[-1]:.3g} effective samples/s",
                    flush=True,
                )
    first = found[options.mixtures[0]]
    torsions = true_torsions(proper_torsions(fit.atoms))
    rows = [summarize(text, measured, first, torsions) for text, measured in found.items()]
    for row in rows:
        print(json.dumps(row), flush=True)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
