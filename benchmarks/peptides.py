"""Peptides that no fit has seen, made of a library of residues: what joint proposals accept, and
effective samples per second of the slowest torsion beside molecular dynamics.

Sequences follow a rule that was fixed before any was tried. Of the 19 residues in their usual
states of protonation but proline, in alphabetical order, with each other eight places on, and two
alanines, these are 20 dipeptides; every second one with those 5, 10 and 15 places on, 10
tetrapeptides; and six alanines. All stand between an acetyl and an N-methyl group, but for two
alanines with one or both ends charged, in implicit solvent, without constraints. All are reported,
also those that a residue is missing for.

Chains of the integrator are measured with joint proposals of the whole peptide alone and, of four
residues on, with steps that draw one or two torsions anew and keep the rest of the noise, which
turns the rest of the chain as one, or change all of the noise a little, as alternatives in
subchains that a surrogate of the force field chooses from. Molecular dynamics (4 fs, bonds to
hydrogen constrained, hydrogens of 3 dalton) begins where they begin: at draws of the joint flow
that were taken by their weights, so that it is spared the search for basins.

Where chains disagree or hold too few effective samples, the number of these is marked as too high
(<): a chain that never leaves a well knows of no other. So the slowest change of a well is compared
besides: phi to the positive side, psi to that of helices, chi1 between its three. A process that
relaxes at the rate k makes k/2 effective samples; for molecular dynamics k is the upper bound, at
95 %, of what its crossings allow. Wells that it never saw are counted.

    python benchmarks/peptides.py LIBRARY --out peptides.json [--seconds 6] [--only dipeptides]

A line is written for each sequence as it is done; the same command goes on with the rest.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import torch
from numpy.typing import NDArray

from timewarp_openmm import LatentChoice, TimewarpMCMCIntegrator
from timewarp_openmm.analysis.torsions import Torsion, proper_torsions, true_torsions
from timewarp_openmm.benchmark.measure import chain_torsions, measure
from timewarp_openmm.benchmark.rates import Crossings, SlowSplit, count_sides
from timewarp_openmm.benchmark.run import run_in_turns
from timewarp_openmm.benchmark.samplers import (
    TIMEWARP_INTERVAL,
    WARM_UP,
    Dynamics,
    Maker,
    MolecularDynamics,
    Recording,
    Sampler,
    Thermostat,
    constrained_system,
)
from timewarp_openmm.blocks.peptide_models import write_peptide_model
from timewarp_openmm.blocks.peptides import NotServedError, Peptide, PeptideFinder
from timewarp_openmm.energies import surrogate_energy
from timewarp_openmm.energies.openmm_energy import OpenMMEnergy
from timewarp_openmm.files import write_bytes_atomically
from timewarp_openmm.molecule.graph import molecule_from_topology
from timewarp_openmm.simulation.capped_peptides import capped_peptide
from timewarp_openmm.simulation.langevin import Langevin
from timewarp_openmm.simulation.systems import MolecularSystem, make_platform
from timewarp_openmm.training.independence import Draws, draw

RESIDUES = (
    "ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIE", "ILE",
    "LEU", "LYS", "MET", "PHE", "SER", "THR", "TRP", "TYR", "VAL",
)  # fmt: skip
#: Chains of each method.
CHAINS = 4
#: Draws of the joint flow, by whose weights starts are chosen.
DRAWS = 4000
#: ps from a draw to the start of a chain.
RELAXATION = 2.0
#: The chain with steps in some torsions alone.
LATENT = (
    LatentChoice(rho=0.0, weight=0.15),
    LatentChoice(rho=0.0, weight=0.4, torsions=1),
    LatentChoice(rho=0.0, weight=0.25, torsions=2),
    # Amides and all that is stiff.
    LatentChoice(rho=0.8, weight=0.2),
)
#: Of its subchains, within which a surrogate of the System's energy chooses.
SUBCHAIN = 32
JOINT, TORSIONS = "joint", "joint and torsions"
MD = "MD 4 fs"
METHODS = (JOINT, TORSIONS, MD)
#: ps, with bonds to hydrogen constrained and hydrogens of 3 dalton: as fast as it is usually done.
TIMESTEP = 0.004
#: rad: which torsions have wells, by the beginnings of their names, and a well's name and borders.
WELLS = (
    ("phi", "positive", 0.0, 2.4),
    ("psi", "helical", -2.1, 1.05),
    ("chi1", "gauche+", 0.0, 2.1),
    ("chi1", "gauche-", -2.1, 0.0),
    ("chi1", "not trans", -2.1, 2.1),
)
#: Times that a chain must have gone in and out of a well to count.
LEAST_CROSSINGS = 5
#: Residues of peptides from which on steps in torsions are measured, too.
LONG = 4


def sequences(kind: str) -> list[tuple[str, ...]]:
    """Return the sequences of a kind, by the rule."""

    def along(start: int, places: tuple[int, ...]) -> tuple[str, ...]:
        return tuple(RESIDUES[(start + place) % len(RESIDUES)] for place in places)

    if kind == "dipeptides":
        return [along(i, (0, 8)) for i in range(len(RESIDUES))] + [("ALA", "ALA")]
    if kind == "tetrapeptides":
        return [along(i, (0, 5, 10, 15)) for i in range(0, len(RESIDUES), 2)]
    if kind == "charged":
        return [("NALA", "CALA"), ("NALA", "ALA"), ("ALA", "CALA")]
    return [("ALA",) * 6]


KINDS = ("dipeptides", "tetrapeptides", "charged", "hexaalanine")


class Joined(Sampler):
    """A chain of the integrator, with some choices of latent steps."""

    def __init__(
        self,
        choices: tuple[LatentChoice, ...],
        model: str,
        molecule: MolecularSystem,
        start: NDArray[np.float64],
        seed: int,
    ) -> None:
        super().__init__()
        self._integrator = TimewarpMCMCIntegrator(
            model, topology=molecule.topology, positions=molecule.positions
        )
        self._integrator.setRandomNumberSeed(seed)
        if choices:
            self._integrator.setLatentCorrelation(list(choices))
            self._integrator.setSurrogate(surrogate_energy(molecule.system), SUBCHAIN)
        platform = make_platform("Reference")
        self._context = openmm.Context(molecule.system, self._integrator, *platform)
        self._context.setPositions(start)
        self._integrator.step(WARM_UP)

    def step(self) -> None:
        self._integrator.step(TIMEWARP_INTERVAL)

    def record(self) -> None:
        self.recording.steps += TIMEWARP_INTERVAL
        self.recording.evaluations += TIMEWARP_INTERVAL
        positions = self._context.getState(positions=True).getPositions(asNumpy=True)
        self.recording.frames.append(positions._value.astype(np.float32))

    def acceptance(self) -> float:
        """Return that of all iterations."""
        return float(self._integrator.getAcceptanceRate())


def measure_peptide(residues: tuple[str, ...], library: Path, seconds: float) -> dict[str, Any]:
    """Return what was measured of one sequence, or why it could not be."""
    began = time.monotonic()
    molecule = capped_peptide(residues, FORCE_FIELD)
    finder = PeptideFinder(molecule.topology, molecule.positions, library)
    (chain,) = finder.chains
    try:
        peptide = finder.make(chain)
    except NotServedError as reason:
        return {"refused": str(reason)}
    temperature = finder.library.temperature
    draws = _draws(peptide, molecule, temperature)
    found: dict[str, Any] = {
        "atoms": len(peptide.particles),
        "acceptance_of_draws": round(acceptance_of(draws), 4),
        "effective_share_of_draws": round(draws.kish_share(), 5),
    }
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "peptide.pt"
        write_peptide_model(peptide, finder.library, model)
        found["seconds_to_make"] = round(time.monotonic() - began, 1)
        samplers: dict[str, list[Joined]] = {JOINT: [], TORSIONS: []}
        methods = _methods(str(model), molecule, temperature, samplers, len(residues) >= LONG)
        starts = _starts(draws, molecule, temperature)
        recordings = run_in_turns(methods, starts, seconds * CHAINS * len(methods), seed=1)
    for name in methods.keys() & samplers.keys():
        group = samplers[name]
        found[f"acceptance, {name}"] = round(float(np.mean([s.acceptance() for s in group])), 4)
    atoms = molecule_from_topology(molecule.topology, molecule.system)
    torsions = true_torsions(proper_torsions(atoms))
    angles = {name: chain_torsions(group, torsions) for name, group in recordings.items()}
    found["rates"] = _rates(torsions, recordings, angles)
    found["slowest_well"] = {
        name: _slowest_well(name, torsions, recordings, angles)
        for name in (JOINT, TORSIONS)
        if name in methods
    }
    return found


def _draws(peptide: Peptide, molecule: MolecularSystem, temperature: float) -> Draws:
    energy = OpenMMEnergy(molecule.system, temperature, "Reference")
    x = torch.tensor(peptide.positions)
    generator = torch.Generator().manual_seed(1)
    return draw(peptide.flow, energy, x, DRAWS, generator)


def acceptance_of(draws: Draws) -> float:
    """Return the acceptance of independent proposals in equilibrium, which the weights tell."""
    weights = draws.weights()
    ranks = np.sort(weights)
    # The mean of min(w_i, w_j) over pairs, times the number of draws.
    below = np.cumsum(ranks)
    above = np.arange(len(ranks))[::-1] * ranks
    return float((below + above).sum() / len(ranks))


def _starts(draws: Draws, molecule: MolecularSystem, temperature: float) -> NDArray[np.float64]:
    """Return draws taken by their weights, in equilibrium with their bonds."""
    chosen = np.random.default_rng(1).choice(len(draws.positions), CHAINS, p=draws.weights())
    dynamics = Langevin(temperature, timestep=0.001)
    return np.stack(
        [
            dynamics.relaxed(
                molecule.system, draws.positions[i].astype(float), RELAXATION, "Reference", seed
            )
            for seed, i in enumerate(chosen)
        ]
    )


def _methods(
    model: str,
    molecule: MolecularSystem,
    temperature: float,
    samplers: dict[str, list[Joined]],
    is_long: bool,
) -> dict[str, Maker]:
    platform, _ = make_platform("Reference")
    thermostat = Thermostat(temperature)

    def joined(name: str, choices: tuple[LatentChoice, ...]) -> Maker:
        def make(start: NDArray[np.float64], seed: int) -> Joined:
            sampler = Joined(choices, model, molecule, start, seed)
            samplers[name].append(sampler)
            return sampler

        return make

    def plain(start: NDArray[np.float64], seed: int) -> MolecularDynamics:
        system = constrained_system(molecule, heavy_hydrogens=True)
        return MolecularDynamics(Dynamics(system, platform, thermostat, TIMESTEP), start, seed)

    methods: dict[str, Maker] = {JOINT: joined(JOINT, ())}
    if is_long:
        methods[TORSIONS] = joined(TORSIONS, LATENT)
    return {**methods, MD: plain}


def _slowest_well(
    chain: str,
    torsions: Sequence[Torsion],
    recordings: Mapping[str, list[Recording]],
    angles: Mapping[str, list[NDArray[np.float64]]],
) -> dict[str, Any]:
    """Return the relaxation rates / (1/s) of the well that molecular dynamics changes most seldom,
    and how many it has not seen, among those that this chain goes in and out of."""
    unseen: list[str] = []
    slowest: dict[str, Any] | None = None
    for column, torsion in enumerate(torsions):
        for start, name, low, high in WELLS:
            if not torsion.name.startswith(f"{start} "):
                continue
            split = SlowSplit(torsion.atoms, low, high)
            crossings = {
                method: sum(
                    (
                        count_sides([split.sides(seen[:, column])], record.seconds / len(seen))
                        for record, seen in zip(recordings[method], chains, strict=True)
                    ),
                    Crossings(0, 0, 0.0, 0.0),
                )
                for method, chains in angles.items()
            }
            own, dynamics = crossings[chain], crossings[MD]
            if min(own.inward, own.outward) < LEAST_CROSSINGS:
                continue
            bound = dynamics.highest_rate()
            if not math.isfinite(bound):
                unseen.append(f"{torsion.name} {name}")
            elif slowest is None or bound < slowest["MD, at most"]:
                rate = own.relaxation_rate()
                slowest = {
                    "well": f"{torsion.name} {name}",
                    "rate": round(rate, 4),
                    "crossings": own.inward + own.outward,
                    "MD, at most": round(bound, 5),
                    "MD crossings": dynamics.inward + dynamics.outward,
                    "ratio, at least": round(rate / bound, 2),
                }
    return {**(slowest or {}), "unseen by MD": unseen}


def _rates(
    torsions: Sequence[Torsion],
    recordings: Mapping[str, list[Recording]],
    angles: Mapping[str, list[NDArray[np.float64]]],
) -> dict[str, dict[str, Any]]:
    """Return effective samples per second of each method's slowest torsion."""
    found = {}
    for name, group in recordings.items():
        result = measure(name, group, angles[name], torsions, None, None)
        slowest = result.slowest_torsion
        found[name] = {
            "per_second": None if slowest is None else round(slowest.per_second, 4),
            "torsion": None if slowest is None else slowest.quantity,
            "rhat": None if slowest is None else round(slowest.rhat, 3),
            "measured": slowest is not None and slowest.measured,
            "steps_per_second": round(result.steps / result.seconds, 1),
            "nanoseconds": round(result.picoseconds / 1000, 3),
        }
    return found


def _line(name: str, found: Mapping[str, Any]) -> str:
    if "refused" in found:
        return f"{name:32} {found['refused']}"
    rates = []
    for method in METHODS:
        entry = found["rates"].get(method, {"per_second": None, "measured": False})
        value, mark = entry["per_second"], "" if entry["measured"] else "<"
        rates.append("-" if value is None else f"{mark}{value:.3g}")
    return (
        f"{name:32} {found['acceptance, joint']:7.1%} {found['effective_share_of_draws']:7.2%}  "
        f"{'  '.join(f'{rate:>18}' for rate in rates)}  "
        + " | ".join(_well_line(well) for well in found["slowest_well"].values())
    )


def _well_line(well: Mapping[str, Any]) -> str:
    unseen = f"; {len(well['unseen by MD'])} wells unseen" if well["unseen by MD"] else ""
    if "well" not in well:
        return f"no well left and entered often enough{unseen}"
    return f"> {well['ratio, at least']:.3g} of MD: {well['well']}{unseen}"


def _summary(done: Mapping[str, Any], names: list[str]) -> str:
    shares = [done[name].get("acceptance, joint", 0.0) for name in names if name in done]
    if not shares:
        return "none"
    return (
        f"{len(shares)} sequences: median of one joint proposal {np.median(shares):.1%}, lowest "
        f"{min(shares):.1%}; none accepted in {sum(share == 0 for share in shares)}"
    )


FORCE_FIELD = ("amber14/protein.ff14SB.xml", "implicit/obc2.xml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("library", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="JSON; gone on with if it is there")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each chain")
    parser.add_argument("--only", choices=KINDS, action="append")
    options = parser.parse_args()
    torch.set_num_threads(1)
    done = json.loads(options.out.read_text()) if options.out.exists() else {}
    heads = "  ".join(f"{method:>18}" for method in METHODS)
    print(f"{'':32} {'accept':>7} {'share':>7}  {heads}")
    for kind in options.only or KINDS:
        names = ["-".join(residues) for residues in sequences(kind)]
        for name in names:
            # A residue may have been built meanwhile.
            if "rates" not in done.get(name, {}):
                found = measure_peptide(tuple(name.split("-")), options.library, options.seconds)
                done[name] = found
                text = json.dumps(done, indent=1) + "\n"
                write_bytes_atomically(options.out, text.encode())
            print(_line(name, done[name]), flush=True)
        print(f"{kind}: {_summary(done, names)}", file=sys.stderr)
    print(f"OpenMM {openmm.version.version}, torch {torch.__version__}", file=sys.stderr)


if __name__ == "__main__":
    main()
