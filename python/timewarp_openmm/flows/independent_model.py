"""Independent draws of a model file and their densities, in the order of a topology's atoms.

The density is that of the molecule's shape alone (docs/free-energy.md): a Boltzmann factor over it
is a configurational integral without the molecule's place and orientation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..contract import ContractError, ModelMetadata, read_metadata
from ..molecule.matching import match_atoms
from .check import RIGID_MOTIONS, rigid_motions
from .gaussian import log_normal
from .loading import load_module

#: Draws that are made together.
_CHUNK = 1000
#: Natural log units by which a density may differ from that of the Jacobian. It is exact to 1e-5
#: where the networks work in single precision.
_DENSITY_TOLERANCE = 1e-3
#: Draws that the density is checked at, and how many may be out of the chart before one is found.
_CHECKED_DRAWS, _TRIED_DRAWS = 2, 50


@dataclass(frozen=True)
class IndependentModel:
    """A model of the shape of a whole molecule.

    Attributes
    ----------
    path : Path
    metadata : ModelMetadata
    module : torch.jit.ScriptModule
    order : int array [N]
        The topology's atom for each atom of the model.
    frame : float64 array [N, 3], nm
        In the topology's order: draws lie in its frame, and their labels have its chirality.
    """

    path: Path
    metadata: ModelMetadata
    module: torch.jit.ScriptModule
    order: NDArray[np.int64]
    frame: NDArray[np.float64]

    @torch.no_grad()
    def draw(
        self, count: int, seed: int
    ) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Yield positions [B, N, 3] / nm and log densities [B] of `count` draws, in batches.

        A draw out of the model's chart has positions that are not finite; its density is 0.
        """
        generator = torch.Generator().manual_seed(seed)
        x = self._tensor(self.frame)
        for first in range(0, count, _CHUNK):
            size = min(_CHUNK, count - first)
            noise = self._noise(size, generator)
            y, w, log_q = self.module.sample(x, noise, self._lag(size))
            log_density = (log_q - log_normal(w.double().flatten(1))).numpy()
            positions = np.empty(y.shape)
            positions[:, self.order] = y.double().numpy()
            nowhere = ~np.isfinite(positions).all(axis=(1, 2)) | ~np.isfinite(log_density)
            positions[nowhere], log_density[nowhere] = math.nan, -math.inf
            yield positions, log_density

    @torch.no_grad()
    def log_density(self, positions: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
        """Return the log densities [F] of positions [F, N, 3] / nm, -inf where the density is 0.

        Parameters
        ----------
        seed : int
            Of the auxiliary velocities; the density depends on them only if they take part.
        """
        generator = torch.Generator().manual_seed(seed)
        x = self._tensor(self.frame).unsqueeze(0)
        densities = [np.empty(0)]
        for first in range(0, len(positions), _CHUNK):
            y = self._tensor(positions[first : first + _CHUNK])
            w = torch.randn(y.shape, generator=generator, dtype=y.dtype)
            log_q = self.module.log_prob(y, w, x, self._lag(len(y)))
            densities.append((log_q - log_normal(w.double().flatten(1))).numpy())
        joined = np.concatenate(densities)
        return np.where(np.isfinite(joined), joined, -np.inf)

    def check_normalised(self) -> None:
        """Check that log_q is the log density of the draws, which nothing else would notice.

        A chain feels no factor that is the same for all conformations, and no factor in densities
        there and back alike is found by comparing the two; in a free energy either is an error. The
        Jacobian is taken by differentiating, not by differences: the networks of a model file work
        in single precision.

        Raises
        ------
        ContractError
        """
        generator = torch.Generator().manual_seed(0)
        x, lag = self._tensor(self.frame), self._lag(1)

        def proposal(noise: torch.Tensor) -> torch.Tensor:
            y, w, _ = self.module.sample(x, noise.unsqueeze(0), lag)
            return torch.cat([y.flatten(), w.flatten()])

        checked = 0
        for noise in self._noise(_TRIED_DRAWS, generator):
            y, _, log_q = self.module.sample(x, noise.unsqueeze(0), lag)
            if checked == _CHECKED_DRAWS or not bool(torch.isfinite(y).all()):
                continue
            jacobian = torch.autograd.functional.jacobian(proposal, noise)  # type: ignore[no-untyped-call]
            rows = torch.cat([jacobian.T, rigid_motions(y[0])]).double()
            expected = (
                log_normal(noise.double().unsqueeze(0)) - torch.linalg.slogdet(rows).logabsdet
            )
            off = float((log_q.double() - expected).abs().max())
            if not off <= _DENSITY_TOLERANCE:
                raise ContractError(
                    f"log_q of {self.path} is off by {off:.3g} from the density of its draws, and "
                    "a free energy would be by as many kT; correct the density (docs/contract.md) "
                    "and export the model again"
                )
            checked += 1
        if checked == 0:
            raise ContractError(
                f"none of {_TRIED_DRAWS} draws of {self.path} is a conformation; train it further"
            )

    def _tensor(self, positions: NDArray[np.float64]) -> torch.Tensor:
        """Return positions [..., N, 3] in the order and precision of the model, near the origin."""
        centroid = self.frame.mean(axis=0)
        return torch.tensor((positions - centroid)[..., self.order, :], dtype=self._dtype)

    def _noise(self, count: int, generator: torch.Generator) -> torch.Tensor:
        size = (count, self.metadata.noise_size)
        return torch.randn(size, generator=generator, dtype=self._dtype)

    def _lag(self, count: int) -> torch.Tensor:
        return torch.full((count,), math.inf, dtype=self._dtype)

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float64 if self.metadata.precision == "double" else torch.float32


def open_independent_model(
    path: str | Path, topology: object, positions: NDArray[np.float64]
) -> IndependentModel:
    """Open a model file for a molecule, if it has independent draws of the shape of all of it.

    Parameters
    ----------
    topology : openmm.app.Topology
    positions : array [N, 3], nm
        Its conformation, in whose frame draws lie.

    Raises
    ------
    FileNotFoundError, ContractError, ValueError
        If there is no such model, it is of another kind or another molecule.
    """
    metadata = read_metadata(path)
    _check_kind(str(path), metadata)
    order = np.array(match_atoms(str(path), topology, positions=positions))
    if len(order) != len(positions):
        raise ValueError(
            f"{path} is of a molecule of {len(order)} atoms, and there are {len(positions)} in the "
            "structure; give the molecule alone"
        )
    return IndependentModel(Path(path), metadata, load_module(path), order, positions)


def _check_kind(path: str, metadata: ModelMetadata) -> None:
    if metadata.context_atoms():
        raise ValueError(
            f"{path} moves a part of its molecule, so that its density is one given the rest; a "
            "free energy of the whole molecule takes a model that moves all atoms, such as `fit` "
            "makes"
        )
    if math.inf not in metadata.lag_times:
        lags = metadata.lag_times
        raise ValueError(
            f"{path} has no independent draws: its lag times are {', '.join(map(str, lags))} ps, "
            "and what it proposes depends on the state. Train a flow in internal coordinates with "
            "the lag time inf (`fit` does, or lag_times: [.inf] in a training's configuration)"
        )
    atoms = metadata.num_atoms()
    if atoms < 3 or metadata.noise_size != 6 * atoms - RIGID_MOTIONS:
        raise ValueError(
            f"{path} makes {metadata.noise_size} deviates into {atoms} atoms, so that its density "
            f"is not that of a molecule's shape (6 N - {RIGID_MOTIONS} deviates, "
            "docs/contract.md); a free energy takes a flow in internal coordinates"
        )
