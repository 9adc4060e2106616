"""Frame weights that give each conformational basin its right share of the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..molecule.graph import Molecule
from ..molecule.in_place import Fragment
from ..molecule.rotatable_torsions import rotatable_torsions
from ..molecule.torsions import measure_torsions
from ..simulation.explore import nearest_basin
from ..stored import write_arrays
from .pairs import Trajectory

#: rad; a frame with a torsion farther from every centre becomes a centre.
_SEPARATION = 1.2
#: Frames that centres are chosen from, and centres at most.
_CANDIDATES = 2000
_MOST_CENTRES = 24
#: Least share that a basin with frames gets: what is never drawn is forgotten.
LEAST_SHARE = 1e-3


class BasinMap:
    """Assigns conformations to the nearest of some centres in the space of the turning torsions.

    Parameters
    ----------
    molecule : Molecule
    centres : array [K, R], rad
    fragment : Fragment, optional
        Of which the torsions are.
    """

    def __init__(
        self,
        molecule: Molecule,
        centres: NDArray[np.float64],
        fragment: Fragment | None = None,
    ) -> None:
        self._torsions = rotatable_torsions(molecule, fragment)
        if centres.ndim != 2 or centres.shape[1] != len(self._torsions):
            raise ValueError(
                f"basin centres of shape {centres.shape} do not fit a molecule with "
                f"{len(self._torsions)} turning bonds; explore it again"
            )
        self.centres = centres

    @classmethod
    def of_frames(cls, molecule: Molecule, positions: NDArray[np.floating], seed: int) -> BasinMap:
        """Choose centres among frames [F, N, 3], for data that were not explored."""
        rng = np.random.default_rng(seed)
        count = min(_CANDIDATES, len(positions))
        chosen = rng.choice(len(positions), count, replace=False)
        angles = measure_torsions(positions[chosen], rotatable_torsions(molecule))
        centres: list[NDArray[np.float64]] = []
        for candidate in angles:
            turns = (
                np.abs(np.angle(np.exp(1j * (np.array(centres) - candidate)))) if centres else []
            )
            if not centres or (np.max(turns, axis=1, initial=0.0) > _SEPARATION).all():
                centres.append(candidate)
            if len(centres) == _MOST_CENTRES:
                break
        return cls(molecule, np.array(centres).reshape(len(centres), -1))

    def assign(self, positions: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return the basin of each conformation [F, N, 3]; 0 where a position is not finite."""
        return nearest_basin(
            np.nan_to_num(measure_torsions(positions, self._torsions)), self.centres
        )

    def populations(
        self, positions: NDArray[np.floating], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the share [K] of the total weight in each basin."""
        sums = np.bincount(self.assign(positions), weights=weights, minlength=len(self.centres))
        shares: NDArray[np.float64] = sums / sums.sum()
        return shares


def frame_weights(
    trajectories: Sequence[Trajectory], basins: BasinMap, populations: NDArray[np.float64]
) -> dict[str, NDArray[np.float32]]:
    """Return weights [F] by trajectory that add up to `populations` [K] in the basins.

    Basins without frames have none to weigh; the others are raised to `LEAST_SHARE` at least.
    """
    assigned = [basins.assign(t.positions) for t in trajectories]
    counts = np.bincount(np.concatenate(assigned), minlength=len(populations))
    shares = np.where(counts > 0, np.maximum(populations, LEAST_SHARE), 0.0)
    shares = shares / shares.sum()
    each = shares / np.maximum(counts, 1)
    return {
        t.name: each[where].astype(np.float32)
        for t, where in zip(trajectories, assigned, strict=True)
    }


def save_weights(path: Path, weights: dict[str, NDArray[np.float32]]) -> None:
    """Write frame weights for `load_weights`."""
    write_arrays(path, weights)
