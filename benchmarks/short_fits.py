"""Models made by fixed numbers of training steps: nothing depends on how fast the machine is.

Hot walkers find a molecule's basins; trajectories from each of them make the data; the flow is
trained by likelihood and then by density regression, as `timewarp-openmm fit` does it.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from timewarp_openmm.flows.internal.config import InternalFlowConfig
from timewarp_openmm.losses.registry import LossConfig, losses
from timewarp_openmm.molecule.graph import Molecule, molecule_from_topology
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
from timewarp_openmm.training.checkpoints import TrainedFlow, load_trained
from timewarp_openmm.training.config import AugmentationConfig, DataConfig, TrainingConfig
from timewarp_openmm.training.export import export_trained
from timewarp_openmm.training.loop import train, training_standing
from timewarp_openmm.trajectories.pairs import load_trajectories
from timewarp_openmm.trajectories.weights import BasinMap, frame_weights, save_weights

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "python"))
sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "molecules"))

from generic_force_field import make_system, make_topology
from rdkit import Chem
from rdkit.Chem import rdDistGeom

TEMPERATURE = 310.0
EXPLORE = ExploreSettings(length=20.0, max_basins=8)
RUNS_PER_BASIN = 4
FRAMES = 12_000
#: Of the states in the regression that are spread evenly over the basins, as `refine` does it.
EVEN_SHARE = 0.3


def from_smiles(name: str, smiles: str) -> MolecularSystem:
    """Return a molecule as RDKit builds it, with the force field of
    tests/python/generic_force_field.py."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(mol, randomSeed=7)
    positions = mol.GetConformer().GetPositions() / 10
    return MolecularSystem(name, make_topology(mol), make_system(mol), positions, ("generic",))


@dataclass
class ShortFit:
    """One molecule, the folder that its data and trainings are in, and the flow.

    What the folder holds already is not made again. Variants of one molecule share its data: `name`
    tells their trainings apart, and `regression` is the section of the loss.
    """

    molecule: MolecularSystem
    work: Path
    flow: InternalFlowConfig = field(default_factory=InternalFlowConfig)
    explore: ExploreSettings = EXPLORE
    temperature: float = TEMPERATURE
    seed: int = 1
    name: str = ""
    regression: dict[str, float] = field(default_factory=dict)
    seed_of_training: int | None = None

    def __post_init__(self) -> None:
        self.atoms: Molecule = molecule_from_topology(self.molecule.topology, self.molecule.system)
        self.data = self.work / "data"

    def basins(self) -> Basins:
        """Return the basins that hot walkers find."""
        return load_or_find_basins(self.data, self.molecule, self.explore, self.seed)

    def train(self, likelihood: int, regression: int) -> TrainedFlow:
        """Return the flow after so many steps of each loss; none of regression leaves it out."""
        basins = self.basins()
        self._simulate(basins)
        shares = basin_populations(basins, self.temperature, self.explore.temperatures)
        even = (1 - EVEN_SHARE) * shares + EVEN_SHARE / len(shares)
        run = self._train("likelihood", basins, shares, losses(likelihood=1.0), likelihood, None)
        if regression:
            loss = losses(regression=self.regression)
            run = self._train("regression", basins, even, loss, regression, run)
        return load_trained(run)

    def make(self, likelihood: int, regression: int) -> Path:
        """Return the model file after so many steps of each loss."""
        model = self.work / "model.pt"
        export_trained(self.train(likelihood, regression), model, overwrite=True)
        return model

    def starts(self, number: int) -> list[NDArray[np.float64]]:
        """Return so many conformations [N, 3] / nm, relaxed from different basins."""
        basins = self.basins()
        return [self._relaxed(basins, chain) for chain in range(number)]

    def _simulate(self, basins: Basins) -> None:
        trajectories = RUNS_PER_BASIN * len(basins)
        protocol = Protocol(
            molecule=self.molecule.name,
            force_field=self.molecule.force_field,
            platform="Reference",
            temperature=self.temperature,
            friction=1.0,
            timestep=0.001,
            interval=0.1,
            length=0.1 * (FRAMES // trajectories),
            equilibration=5.0,
            trajectories=trajectories,
            starts="explored",
            seed=self.seed,
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
            flow=self.flow,
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
            seed=self.seed if self.seed_of_training is None else self.seed_of_training,
        )
        run = self.work / f"{self.name}{name}-{steps}"
        if training_standing(config, run) != Done():
            train(config, run, initial=None if before is None else load_trained(before).weights)
        return run

    def _relaxed(self, basins: Basins, chain: int) -> NDArray[np.float64]:
        minimum = basins.positions[chain % len(basins)]
        dynamics = Langevin(self.temperature, timestep=0.001)
        return dynamics.relaxed(self.molecule.system, minimum, 5.0, "Reference", self.seed + chain)
