"""Pairs (x(t), x(t + lag)) from trajectories, split by trajectory."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import openmm
import torch
from numpy.typing import NDArray

from ..molecule.graph import Molecule, molecule_from_topology
from ..simulation.protocol import multiple
from ..simulation.record import SYSTEM_FILE, check_files, read_run
from ..simulation.systems import load_system_xml
from ..stored import DamagedFileError, read_arrays, write_arrays
from .frames import refuse_zeros
from .reading import Content, UnreadableError, read_whole
from .residue_labels import label_residues

#: nm; longer than any bond, and shorter than half of any periodic box.
LONGEST_BOND = 0.4


@dataclass(frozen=True)
class Trajectory:
    """One trajectory in memory.

    Attributes
    ----------
    name : str
        The file's name without its suffix.
    positions : float32 array [F, N, 3], nm
    interval : float
        ps between frames.
    """

    name: str
    positions: NDArray[np.float32]
    interval: float


@dataclass(frozen=True)
class TrajectorySet:
    """The trajectories of one folder and the molecule that all of them hold.

    Attributes
    ----------
    run : dict
        Content of the folder's ``run.json``; empty if there is none.
    """

    folder: Path
    molecule: Molecule
    trajectories: tuple[Trajectory, ...]
    run: dict[str, Any]

    def sha256(self) -> str:
        """Return a hash of the names and the positions."""
        digest = hashlib.sha256()
        for trajectory in self.trajectories:
            digest.update(trajectory.name.encode())
            digest.update(np.ascontiguousarray(trajectory.positions).tobytes())
        return digest.hexdigest()


def load_trajectories(folder: str | Path) -> TrajectorySet:
    """Read the MDTraj HDF5 trajectories of `folder`, complete or not, and check them.

    Masses come from ``system.xml`` if the folder has one, otherwise from the elements.

    Raises
    ------
    FileNotFoundError
        If the folder or trajectories in it are missing.
    ValueError
        If a file's atoms differ from the first file's, or positions are not finite or jump across
        a periodic box; the message names file and frame.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no data folder at {folder}; make one with timewarp-openmm simulate"
        )
    paths = sorted(folder.glob("[!.]*.h5"))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no .h5 trajectories")
    run = read_run(folder)
    if run is not None:
        check_files(folder, run)
    system = None
    if (folder / SYSTEM_FILE).exists():
        system = load_system_xml(folder / SYSTEM_FILE)
    first = None
    trajectories = []
    for path in paths:
        content = _read(path)
        molecule = _molecule_of(path, content, system)
        first = first or molecule
        _check_same_atoms(path, molecule, paths[0], first)
        trajectories.append(_make_trajectory(path, content, molecule))
    assert first is not None
    return TrajectorySet(folder, first, tuple(trajectories), {} if run is None else dict(run))


def _read(path: Path) -> Content:
    try:
        return read_whole(path)
    except UnreadableError as error:
        raise ValueError(f"{path} is not an MDTraj HDF5 trajectory: {error}") from error


def _molecule_of(path: Path, content: Content, system: openmm.System | None) -> Molecule:
    topology: mdtraj.Topology | None = content.topology
    if topology is None:
        raise ValueError(f"{path} holds no topology; save it with MDTraj from a full trajectory")
    labelled = topology.to_openmm()
    try:
        if content.labels is not None:
            label_residues(labelled, content.labels)
        return molecule_from_topology(labelled, system)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _check_same_atoms(path: Path, molecule: Molecule, first: Path, expected: Molecule) -> None:
    if molecule.num_atoms != expected.num_atoms:
        raise ValueError(
            f"{path} has {molecule.num_atoms} atoms but {first} has {expected.num_atoms}; "
            "keep trajectories of different molecules in different folders"
        )
    for i in range(molecule.num_atoms):
        if molecule.describe_atom(i) != expected.describe_atom(i) or (
            molecule.elements[i] != expected.elements[i]
        ):
            raise ValueError(
                f"{path} has {molecule.describe_atom(i)} where {first} has "
                f"{expected.describe_atom(i)}; keep one molecule in one atom order in a folder"
            )
    orders = (molecule.bond_orders, molecule.formal_charges)
    if molecule.bonds != expected.bonds or orders != (
        expected.bond_orders,
        expected.formal_charges,
    ):
        raise ValueError(f"the bonds in {path} differ from those in {first}")


def _make_trajectory(path: Path, content: Content, molecule: Molecule) -> Trajectory:
    if content.positions.shape[1:] != (molecule.num_atoms, 3):
        raise ValueError(
            f"{path} has positions of shape {content.positions.shape} but a topology of "
            f"{molecule.num_atoms} atoms"
        )
    if content.times is None:
        raise ValueError(f"{path} holds no times; the time between frames must be known")
    interval = _frame_interval(path, np.asarray(content.times, dtype=float))
    _check_frames(path, content.positions, content.cell_lengths, molecule)
    return Trajectory(path.stem, content.positions, interval)


def _frame_interval(path: Path, times: NDArray[np.float64]) -> float:
    """Return the ps between frames; infinite for a single frame, which has no successor."""
    if len(times) < 2:
        return math.inf
    steps = np.diff(times)
    interval = float(np.median(steps))
    # Times are stored in single precision.
    uneven = np.abs(steps - interval) > 1e-3 * interval + 1e-6 * np.abs(times[1:])
    if interval <= 0 or uneven.any():
        frame = int(np.argmax(uneven)) + 1
        raise ValueError(
            f"{path}: frame {frame} comes {steps[frame - 1]:g} ps after the one before, others "
            f"{interval:g} ps; frames must be evenly spaced"
        )
    # The whole span knows the interval best; what single precision adds to it is rounded away.
    return float(f"{(times[-1] - times[0]) / (len(times) - 1):.6g}")


def _check_frames(
    path: Path,
    positions: NDArray[np.float32],
    cell_lengths: NDArray[np.float32] | None,
    molecule: Molecule,
) -> None:
    finite = np.isfinite(positions).all(axis=(1, 2))
    if not finite.all():
        raise ValueError(f"{path}: positions of frame {int(np.argmin(finite))} are not finite")
    refuse_zeros(path, positions)
    for a, b in molecule.bonds:
        lengths = np.linalg.norm(positions[:, a] - positions[:, b], axis=1)
        if (lengths > LONGEST_BOND).any():
            frame = int(np.argmax(lengths > LONGEST_BOND))
            raise ValueError(
                f"{path}: in frame {frame} the bond {molecule.describe_atom(a)} - "
                f"{molecule.describe_atom(b)} is {lengths[frame]:.2f} nm long: the molecule is "
                "split across a periodic box; make it whole first (mdtraj's "
                "Trajectory.make_molecules_whole)"
            )
    if cell_lengths is not None:
        moves = np.linalg.norm(np.diff(positions.mean(axis=1), axis=0), axis=1)
        jumps = moves > 0.5 * cell_lengths[1:].min(axis=1)
        if jumps.any():
            frame = int(np.argmax(jumps)) + 1
            raise ValueError(
                f"{path}: the molecule jumps by {moves[frame - 1]:.2f} nm into frame {frame}, "
                "across a periodic box; unwrap the trajectory first"
            )


def split_by_trajectory(
    trajectories: Sequence[Trajectory],
    test_fraction: float,
    seed: int,
    test_names: Sequence[str] | None = None,
) -> tuple[tuple[Trajectory, ...], tuple[Trajectory, ...]]:
    """Split whole trajectories into train and test: neighbouring frames are no independent test.

    Parameters
    ----------
    test_fraction : float
        Of the trajectories, at least one.
    test_names : sequence of str, optional
        Names the test trajectories instead.

    Raises
    ------
    ValueError
        If one side would be empty, or a name is unknown.
    """
    names = [trajectory.name for trajectory in trajectories]
    if test_names is not None:
        if unknown := sorted(set(test_names) - set(names)):
            raise ValueError(
                f"no test trajectory named {', '.join(unknown)}; there are: {', '.join(names)}"
            )
        test = set(test_names)
    else:
        order = np.random.default_rng(seed).permutation(len(names))
        test = {names[i] for i in order[: max(1, round(test_fraction * len(names)))]}
    if not test or len(test) == len(names):
        raise ValueError(
            f"{len(names)} trajectories cannot be split into train and test; simulate more "
            "trajectories (2 at least)"
        )
    return (
        tuple(t for t in trajectories if t.name not in test),
        tuple(t for t in trajectories if t.name in test),
    )


def load_weights(path: str | Path, trajectories: Sequence[Trajectory]) -> list[NDArray[np.float32]]:
    """Read frame weights: an ``.npz`` file with one array [F] per trajectory, by its name.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file or an array is missing, of another length, or negative somewhere.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of frame weights at {path}")
    schema = {t.name: f"float {len(t.positions)}" for t in trajectories}
    remedy = "it must hold a weight for each frame of each trajectory"
    arrays = read_arrays(path, schema, remedy, sealed=False)
    for name, array in arrays.items():
        if (array < 0).any():
            raise DamagedFileError(path, f"a weight of {name} is below 0", remedy)
    return [np.asarray(arrays[t.name], dtype=np.float32) for t in trajectories]


@dataclass(frozen=True)
class WeightedTrajectory:
    """Frames without an order in time, and their weights.

    Attributes
    ----------
    frames : Trajectory
        Of infinite interval.
    weights : float32 array [F]
    share : float
        Of these frames in each batch; the others are simulated ones.
    """

    frames: Trajectory
    weights: NDArray[np.float32]
    share: float


def save_independent(
    path: Path,
    positions: NDArray[np.float32],
    weights: NDArray[np.float64],
    test: NDArray[np.bool_],
    share: float,
) -> None:
    """Write independent draws for `load_independent`.

    Parameters
    ----------
    positions : array [F, N, 3], nm
    weights : array [F]
        Importance weights.
    test : array [F]
        Which draws are held out.
    share : float
        Of these frames in each batch, in (0, 1).
    """
    write_arrays(
        path,
        {
            "positions": np.asarray(positions, dtype=np.float32),
            "weights": np.asarray(weights, dtype=np.float32),
            "test": test,
            "share": np.array(share),
        },
    )


def load_independent(
    path: str | Path, num_atoms: int
) -> tuple[WeightedTrajectory, WeightedTrajectory]:
    """Read what `save_independent` wrote: the draws for training and those held out.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing, or of another molecule.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of independent draws at {path}")
    remedy = "remove it, so that it is drawn again"
    schema = {
        "positions": f"float F {num_atoms} 3",
        "weights": "float F",
        "test": "bool F",
        "share": "float",
    }
    arrays = read_arrays(path, schema, remedy)
    refuse_zeros(path, arrays["positions"])
    if (arrays["weights"] < 0).any() or not 0 < arrays["share"] < 1:
        raise DamagedFileError(path, "weights or share are out of range", remedy)
    positions = arrays["positions"]
    parts = []
    for name, chosen in (("drawn", ~arrays["test"]), ("drawn-test", arrays["test"])):
        trajectory = Trajectory(name, positions[chosen], math.inf)
        parts.append(
            WeightedTrajectory(trajectory, arrays["weights"][chosen], float(arrays["share"]))
        )
    return parts[0], parts[1]


def mix_frames(
    simulated: Sequence[Trajectory],
    weights: Sequence[NDArray[np.float32]],
    drawn: WeightedTrajectory,
) -> tuple[tuple[Trajectory, ...], list[NDArray[np.float32]]]:
    """Return trajectories and weights with draws mixed in at their share."""
    total = sum(float(array.sum()) for array in weights)
    scaled = [(array * ((1 - drawn.share) / total)).astype(np.float32) for array in weights]
    own = (drawn.weights * (drawn.share / drawn.weights.sum())).astype(np.float32)
    return (*simulated, drawn.frames), [*scaled, own]


class PairSampler:
    """Draws pairs (x, y, lag) from trajectories with replacement.

    Parameters
    ----------
    trajectories : sequence of Trajectory
    lag_times : sequence of float
        In ps, multiples of the frame interval; ``inf`` pairs any two frames.
    lag_weights : sequence of float, optional
        Relative frequencies of the lag times; equal by default.
    frame_weights : sequence of arrays [F], optional
        Relative frequencies of the frames, one array per trajectory. They weigh y of an infinite
        lag and x otherwise (the dynamics from a given x are right whatever x's frequency).
    own_context : bool
        Whether x of an infinite lag is y itself: a flow that moves a part of a molecule draws it
        for the context that it is in.

    Raises
    ------
    ValueError
        If a lag time is no multiple of the frame interval or longer than every trajectory.
    """

    def __init__(
        self,
        trajectories: Sequence[Trajectory],
        lag_times: Sequence[float],
        lag_weights: Sequence[float] | None = None,
        frame_weights: Sequence[NDArray[np.float32]] | None = None,
        own_context: bool = False,
    ) -> None:
        if not trajectories:
            raise ValueError("there are no trajectories to draw pairs from")
        self.frames = torch.from_numpy(np.concatenate([t.positions for t in trajectories]))
        self.lag_times = tuple(float(lag) for lag in lag_times)
        weights = torch.ones(len(self.lag_times)) if lag_weights is None else lag_weights
        self._lag_weights = torch.as_tensor(weights, dtype=torch.float64)
        joined = None
        self.frame_weights = torch.ones(len(self.frames), dtype=torch.float64)
        if frame_weights is not None:
            joined = torch.from_numpy(np.concatenate(list(frame_weights))).double()
            self.frame_weights = joined
        self._starts: list[torch.Tensor] = []
        self._shifts: list[int] = []
        for lag in self.lag_times:
            starts, shift = _starts(trajectories, lag)
            self._starts.append(starts)
            self._shifts.append(shift)
        self._joined = joined
        self._own_context = own_context
        self._cumulative = self._cumulate()

    def _cumulate(self) -> list[torch.Tensor | None]:
        joined = self._joined
        return [None if joined is None else joined[starts].cumsum(0) for starts in self._starts]

    def leave_out(self, frames: torch.Tensor) -> None:
        """Draw no pair of which one state is among these frames.

        Parameters
        ----------
        frames : bool tensor [F]

        Raises
        ------
        ValueError
            If a lag time has no pair left.
        """
        if not bool(frames.any()):
            return
        for kind, (starts, shift) in enumerate(zip(self._starts, self._shifts, strict=True)):
            self._starts[kind] = starts[~(frames[starts] | frames[starts + shift])]
            if len(self._starts[kind]) == 0:
                raise ValueError(f"no pair of the lag time {self.lag_times[kind]:g} ps is left")
        self.frame_weights = torch.where(frames, 0.0, self.frame_weights)
        self._cumulative = self._cumulate()

    @property
    def num_pairs(self) -> dict[float, int]:
        """How many pairs each lag time has; for an infinite lag the number of frames."""
        return {lag: len(starts) for lag, starts in zip(self.lag_times, self._starts, strict=True)}

    def draw(
        self, count: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw `count` pairs.

        Returns
        -------
        x, y : float32 tensors [count, N, 3], nm
        lag : float32 tensor [count], ps
        """
        kinds = torch.multinomial(self._lag_weights, count, replacement=True, generator=generator)
        first = torch.empty(count, dtype=torch.long)
        second = torch.empty(count, dtype=torch.long)
        for kind, (starts, shift) in enumerate(zip(self._starts, self._shifts, strict=True)):
            where = torch.nonzero(kinds == kind).flatten()
            chosen = self._choose(kind, len(where), generator)
            if math.isinf(self.lag_times[kind]) and self._own_context:
                first[where] = second[where] = chosen
            elif math.isinf(self.lag_times[kind]):
                # x plays no part in an independent draw; any frame will do.
                chance = torch.randint(len(starts), (len(where),), generator=generator)
                first[where] = starts[chance]
                second[where] = chosen
            else:
                first[where] = chosen
                second[where] = chosen + shift
        lag = torch.tensor(self.lag_times, dtype=torch.float32)[kinds]
        return self.frames[first], self.frames[second], lag

    def _choose(self, kind: int, count: int, generator: torch.Generator) -> torch.Tensor:
        starts, cumulative = self._starts[kind], self._cumulative[kind]
        if cumulative is None:
            return starts[torch.randint(len(starts), (count,), generator=generator)]
        points = torch.rand(count, dtype=torch.float64, generator=generator) * cumulative[-1]
        found = torch.searchsorted(cumulative, points, right=True)
        return starts[found.clamp(max=len(starts) - 1)]


def _starts(trajectories: Sequence[Trajectory], lag: float) -> tuple[torch.Tensor, int]:
    """Return the frames that have a successor after `lag`, and how many frames that is."""
    lengths = [len(t.positions) for t in trajectories]
    if math.isinf(lag):
        return torch.arange(sum(lengths)), 0
    intervals = {t.interval for t in trajectories if math.isfinite(t.interval)}
    if len(intervals) > 1:
        raise ValueError(
            f"trajectories have different frame intervals ({sorted(intervals)} ps); keep them in "
            "different folders"
        )
    if not intervals:
        raise ValueError("every trajectory has a single frame; there are no pairs")
    interval = intervals.pop()
    shift = multiple(lag, interval, "lag time", "frame interval")
    if shift >= max(len(t.positions) for t in trajectories if math.isfinite(t.interval)):
        raise ValueError(
            f"the lag time {lag:g} ps is longer than every trajectory "
            f"(the longest: {(max(lengths) - 1) * interval:g} ps)"
        )
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    pieces = [
        np.arange(offset, offset + length - shift)
        for offset, length, trajectory in zip(offsets, lengths, trajectories, strict=True)
        if length > shift and math.isfinite(trajectory.interval)
    ]
    return torch.from_numpy(np.concatenate(pieces)), shift
