"""What a flow accepts for molecules with rings that flip, after the same steps on as many frames.

    python benchmarks/ring_acceptance.py [--work FOLDER] [--regression 400] [NAME ...]

Nothing here depends on how fast the machine is. Hot walkers find the basins of each molecule; 4
trajectories from each basin make the data; the flow is trained by likelihood and then by density
regression, as `timewarp-openmm fit` does it; acceptance is that of 8 chains of the integrator that
start in different basins. Alanine dipeptide, which has no ring, is there to compare with. Force
field: tests/python/generic_force_field.py. What FOLDER holds already is not made again.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from openmm import app

from timewarp_openmm.flows.internal.config import InternalFlowConfig
from timewarp_openmm.losses.registry import LossConfig, losses
from timewarp_openmm.molecule.graph import Molecule, molecule_from_topology
from timewarp_openmm.simulation.chains import Acceptance, run_chains
from timewarp_openmm.simulation.explore import (
    Basins,
    ExploreSettings,
    basin_populations,
    load_or_find_basins,
)
from timewarp_openmm.simulation.langevin import Langevin
from timewarp_openmm.simulation.protocol import Protocol
from timewarp_openmm.simulation.run import run_standing, simulate
from timewarp_openmm.simulation.systems import MolecularSystem
from timewarp_openmm.stages import Done
from timewarp_openmm.training.checkpoints import load_trained
from timewarp_openmm.training.config import AugmentationConfig, DataConfig, TrainingConfig
from timewarp_openmm.training.export import export_trained
from timewarp_openmm.training.loop import train, training_standing
from timewarp_openmm.trajectories.pairs import load_trajectories
from timewarp_openmm.trajectories.weights import BasinMap, frame_weights, save_weights

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "python"))

from generic_force_field import make_system
from rdkit import Chem
from rdkit.Chem import AllChem

SMILES = {
    "alanine-dipeptide": "CC(=O)N[C@@H](C)C(=O)NC",
    "methylcyclohexane": "CC1CCCCC1",
    "N-methylpiperidine": "CN1CCCCC1",
    "cis-decalin": "C1CC[C@H]2CCCC[C@H]2C1",
}
SEED = 1
TEMPERATURE = 310.0
EXPLORE = ExploreSettings(length=20.0, max_basins=8)
RUNS_PER_BASIN = 4
FRAMES = 12_000
CHAINS = 8
ITERATIONS = 1000
#: Of the states in the regression that are spread evenly over the basins, as `refine` does it.
EVEN_SHARE = 0.3


def load(name: str) -> MolecularSystem:
    """Return a molecule as RDKit builds it, with the generic force field."""
    mol = Chem.AddHs(Chem.MolFromSmiles(SMILES[name]))
    AllChem.EmbedMolecule(mol, randomSeed=7)
    topology = app.Topology()
    residue = topology.addResidue("LIG", topology.addChain())
    atoms = [
        topology.addAtom(
            f"{a.GetSymbol()}{a.GetIdx()}", app.Element.getBySymbol(a.GetSymbol()), residue
        )
        for a in mol.GetAtoms()
    ]
    for bond in mol.GetBonds():
        topology.addBond(atoms[bond.GetBeginAtomIdx()], atoms[bond.GetEndAtomIdx()])
    positions = mol.GetConformer().GetPositions() / 10
    return MolecularSystem(name, topology, make_system(mol), positions, ("generic",))


@dataclass
class Comparison:
    """One molecule, and the folder that its data and trainings are in."""

    molecule: MolecularSystem
    work: Path

    def __post_init__(self) -> None:
        self.atoms: Molecule = molecule_from_topology(self.molecule.topology, self.molecule.system)
        self.data = self.work / "data"

    def measure(self, likelihood: int, regression: int) -> Acceptance:
        """Make what is missing, and return the acceptance after so many steps."""
        basins = load_or_find_basins(self.data, self.molecule, EXPLORE, SEED)
        self._simulate(basins)
        shares = basin_populations(basins, TEMPERATURE, EXPLORE.temperatures)
        even = (1 - EVEN_SHARE) * shares + EVEN_SHARE / len(shares)
        first = self._train("likelihood", basins, shares, losses(likelihood=1.0), likelihood, None)
        last = self._train("regression", basins, even, losses(regression=1.0), regression, first)
        model = self.work / "model.pt"
        export_trained(load_trained(last), model, overwrite=True)
        starts = [self._relaxed(basins, chain) for chain in range(CHAINS)]
        return run_chains(model, self.molecule.system, starts, ITERATIONS, SEED).acceptance

    def _simulate(self, basins: Basins) -> None:
        trajectories = RUNS_PER_BASIN * len(basins)
        protocol = Protocol(
            molecule=self.molecule.name,
            force_field=self.molecule.force_field,
            platform="Reference",
            temperature=TEMPERATURE,
            friction=1.0,
            timestep=0.001,
            interval=0.1,
            length=0.1 * (FRAMES // trajectories),
            equilibration=5.0,
            trajectories=trajectories,
            starts="explored",
            seed=SEED,
        )
        if run_standing(self.data, self.molecule, protocol, basins.positions) != Done():
            simulate(self.molecule, protocol, self.data, workers=1, starts=basins.positions)

    def _train(
        self,
        name: str,
        basins: Basins,
        shares: NDArray[np.float64],
        loss: LossConfig,
        steps: int,
        before: Path | None,
    ) -> Path:
        """Train so many steps of a loss, and return the folder of the run."""
        found = load_trajectories(self.data).trajectories
        weights = self.work / f"{name}.npz"
        save_weights(weights, frame_weights(found, BasinMap(self.atoms, basins.torsions), shares))
        config = TrainingConfig(
            flow=InternalFlowConfig(),
            data=DataConfig(
                folder=self.data,
                # Trajectory i starts in basin i mod K, so the last K start once in each.
                test_trajectories=tuple(t.name for t in found[-len(basins) :]),
                frame_weights=weights,
            ),
            augmentation=AugmentationConfig(permute_hydrogens=False),
            loss=loss,
            lag_times=(math.inf,),
            batch_size=256,
            max_steps=steps,
            learning_rate=1e-3 if before is None else 5e-4,
            warmup_steps=50,
            gradient_clip=10.0,
            evaluation_interval=100,
            acceptance_draws=2000,
            patience=0,
            seed=SEED,
        )
        run = self.work / f"{name}-{steps}"
        if training_standing(config, run) != Done():
            train(config, run, initial=None if before is None else load_trained(before).weights)
        return run

    def _relaxed(self, basins: Basins, chain: int) -> NDArray[np.float64]:
        minimum = basins.positions[chain % len(basins)]
        dynamics = Langevin(TEMPERATURE, timestep=0.001)
        return dynamics.relaxed(self.molecule.system, minimum, 5.0, "Reference", SEED + chain)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder of what is made; a temporary one if none")
    parser.add_argument("--likelihood", type=int, default=400, help="steps")
    parser.add_argument("--regression", type=int, default=400, help="steps")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SMILES)}")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(SMILES)):
        parser.error(f"no molecule is called {', '.join(unknown)}; there are {', '.join(SMILES)}")
    torch.set_num_threads(1)
    print("| molecule | atoms | acceptance | lowest chain |\n" + "| --- " * 4 + "|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.names or SMILES:
            work = (options.work or Path(temporary)) / name
            molecule = load(name)
            found = Comparison(molecule, work).measure(options.likelihood, options.regression)
            print(
                f"| {name} | {len(molecule.positions)} | {found.mean:.1%} +- {found.error:.1%} "
                f"| {found.lowest:.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
