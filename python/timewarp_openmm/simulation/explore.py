"""Finding the conformational basins of a molecule, without knowing what molecule it is.

Hot walkers cross the barriers; their frames are minimised, checked for what must not have flipped,
and clustered by the torsions about the bonds that turn. Short runs at the target temperature then
start from one conformation of each cluster.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import openmm
from numpy.typing import NDArray

from ..bounds import (
    BASINS,
    CONFORMERS,
    FRAME_INTERVAL,
    FRAMES,
    LENGTH,
    MINUTES,
    TEMPERATURE,
    TIMESTEP,
    WORKERS,
)
from ..molecule.graph import Molecule, molecule_from_topology
from ..molecule.in_place import Fragment
from ..molecule.mirror_images import mirror_images
from ..molecule.rotatable_torsions import rotatable_torsions
from ..molecule.stereochemistry import Stereochemistry
from ..molecule.torsions import measure_torsions
from ..potentials.serialization import serialize_system
from ..seeds import spawned_seed
from ..stages import Conflict, Done, Missing, Standing, compare, refuse
from ..stored import DamagedFileError, conform, read_arrays, write_arrays
from ..units import thermal_energy
from ..workers.base import Workers
from .embedding import embedded_conformers
from .hot_systems import hot_alone, hot_system
from .identity import content_of
from .langevin import Langevin, default_platform
from .standing import new_key
from .start_checks import check_start
from .systems import MolecularSystem, make_platform
from .walks import WalkTask, minimised, run_walks

BASINS_FILE = "basins.npz"
_SCHEMA = {
    "identity": "str",
    "positions": "float K N 3",
    "energies": "float K",
    "torsions": "float K R",
    "visits": "int K",
    "dropped": "int",
    "found": "int",
    "images": "int",
}
_REMEDY = "remove it, so that the molecule is explored again"
#: 1/ps; hot walkers only have to get about.
HOT_FRICTION = 2.0


@dataclass(frozen=True)
class ExploreSettings:
    """How basins are looked for.

    Attributes
    ----------
    temperatures : tuple of float
        K; the walkers' ladder, used in turn. At the lower ones barriers are crossed less often but
        more of the conformations are those that matter; far above them, amide bonds turn to cis.
    walkers : int
    length, interval : float
        ps of each walker, and between the frames that are minimised.
    timestep : float
        ps.
    separation : float
        rad; conformations are of one basin if no torsion differs by more.
    energy_window : float
        kJ/mol above the lowest minimum, up to which basins are kept.
    max_basins : int
        The lowest ones are kept.
    max_minutes : float, optional
        Walkers stop after this time, wherever they are.
    conformers : int
        By distance geometry (see `embedded_conformers`), which are minimised as well: basins that
        the walkers have not found in their time, such as other foldings of a ring.
    fragment : Fragment, optional
        Only what moving it changes makes basins. Nothing else is hot: half of the walkers move it
        among atoms that stand still, which may leave it no room to turn. The others do not feel
        other molecules, which then give way when frames are minimised.
    """

    temperatures: tuple[float, ...] = (500.0, 650.0, 800.0)
    walkers: int = 6
    length: float = 150.0
    interval: float = 1.0
    timestep: float = 0.001
    separation: float = 0.9
    energy_window: float = 30.0
    max_basins: int = 16
    max_minutes: float | None = None
    conformers: int = 0
    fragment: Fragment | None = None

    def __post_init__(self) -> None:
        if not self.temperatures:
            raise ValueError("exploring needs at least one temperature")
        for temperature in self.temperatures:
            TEMPERATURE.check("temperatures", temperature)
        WORKERS.check("walkers", self.walkers)
        BASINS.check("max_basins", self.max_basins)
        LENGTH.check("length", self.length)
        FRAME_INTERVAL.check("interval", self.interval)
        TIMESTEP.check("timestep", self.timestep)
        if self.max_minutes is not None:
            MINUTES.check("max_minutes", self.max_minutes)
        for name in ("separation", "energy_window"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.interval > self.length:
            raise ValueError(
                f"the interval ({self.interval:g} ps) must not exceed the length of a walker "
                f"({self.length:g} ps)"
            )
        CONFORMERS.check("conformers", self.conformers)
        FRAMES.check("frames of a walker", round(self.length / self.interval))


@dataclass(frozen=True)
class Basins:
    """Conformational basins, the lowest minimum first.

    Attributes
    ----------
    positions : float64 array [K, N, 3], nm
        One minimum of each.
    energies : float64 array [K], kJ/mol
        Above the lowest.
    torsions : float64 array [K, R], rad
        Of the bonds that turn.
    visits : int64 array [K]
        Frames of the walkers that led there; 1 for those that only distance geometry found.
    dropped : int
        Frames left out because a centre or a double or amide bond had flipped.
    found : int
        Basins before `max_basins` and the energy window cut them down.
    images : int
        Of these, the mirror images of others: they have the same energy and count twice where the
        molecule is its own mirror image.
    """

    positions: NDArray[np.float64]
    energies: NDArray[np.float64]
    torsions: NDArray[np.float64]
    visits: NDArray[np.int64]
    dropped: int
    found: int
    images: int

    def __len__(self) -> int:
        return len(self.positions)


def describe_found(found: int, images: int) -> str:
    """Return how many basins were found, in words.

    Examples
    --------
    >>> describe_found(16, 0), describe_found(126, 60)
    ('16', '126 (60 of them are mirror images of others)')
    """
    return f"{found} ({images} of them are mirror images of others)" if images else str(found)


def nearest_basin(torsions: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the nearest of `centres` [K, R] for each row of `torsions` [F, R].

    The distance is the sum of 1 - cos of the differences.

    Examples
    --------
    >>> nearest_basin(np.array([[3.1], [0.2]]), np.array([[0.0], [-3.1]])).tolist()
    [1, 0]
    """
    similarity = np.cos(torsions) @ np.cos(centres).T + np.sin(torsions) @ np.sin(centres).T
    nearest: NDArray[np.int64] = similarity.argmax(1)
    return nearest


def find_basins(
    molecule: MolecularSystem,
    settings: ExploreSettings,
    seed: int,
    workers: int | Workers = 1,
    report: Callable[[float, str], None] | None = None,
) -> Basins:
    """Look for the basins of a molecule.

    Parameters
    ----------
    molecule : MolecularSystem
        Its positions set the chirality and the cis/trans bonds to be kept.
    settings : ExploreSettings
    seed : int
    workers : int or Workers
        Who runs the walkers, or so many processes of this machine.
    report : callable, optional
        Called with the part that is done, in [0, 1], and a note.

    Raises
    ------
    ValueError
        If the molecule has no Z-matrix, nothing can start from its positions, or every frame had
        flipped.
    """
    check_start(molecule.topology, molecule.system, molecule.positions)
    atoms = molecule_from_topology(molecule.topology, molecule.system)
    torsions = rotatable_torsions(atoms, settings.fragment)
    frames: list[NDArray[np.float64]] = []
    energies: list[float] = []
    show = report or (lambda *_: None)
    minutes = math.inf if settings.max_minutes is None else settings.max_minutes
    tasks = [_walk_task(molecule, settings, walker, seed) for walker in range(settings.walkers)]
    for walk in run_walks(tasks, workers, 60 * minutes, lambda part: show(part, "hot walkers")):
        energies.extend(walk.energies)
        frames.extend(walk.positions)
    walked = len(frames)
    for energy, positions in _embed(molecule, atoms, settings, seed):
        energies.append(energy)
        frames.append(positions)
    check = Stereochemistry(atoms, molecule.positions, settings.fragment)
    kept = [i for i, positions in enumerate(frames) if not check.find_flips(positions)]
    dropped = len(frames) - len(kept)
    if not kept:
        raise ValueError(
            f"all {len(frames)} conformations of the exploration had flipped a centre or a double "
            "or amide bond; explore at lower temperatures"
        )
    found = np.stack([frames[i] for i in kept])
    # Surroundings have no mirror images.
    images = None if settings.fragment else mirror_images(atoms, molecule.positions, found)
    return _cluster(
        found,
        np.array([energies[i] for i in kept]),
        measure_torsions(found, torsions),
        None if images is None else measure_torsions(images, torsions),
        np.array(kept) < walked,
        settings,
        dropped,
    )


def _walk_task(
    molecule: MolecularSystem, settings: ExploreSettings, walker: int, seed: int
) -> WalkTask:
    temperature = settings.temperatures[walker % len(settings.temperatures)]
    hot, fragment = molecule.system, settings.fragment
    alone = fragment is not None and walker // len(settings.temperatures) % 2 == 1
    if fragment is not None:
        make_hot = hot_alone if alone else hot_system
        hot = make_hot(hot, molecule.positions, fragment)
    return WalkTask(
        serialize_system(hot),
        serialize_system(molecule.system),
        molecule.positions,
        Langevin(temperature, HOT_FRICTION, settings.timestep),
        settings.interval,
        round(settings.length / settings.interval) + 1,
        spawned_seed(seed, walker),
        new_key(),
        fragment if alone else None,
    )


def _embed(
    molecule: MolecularSystem, atoms: Molecule, settings: ExploreSettings, seed: int
) -> Iterator[tuple[float, NDArray[np.float64]]]:
    """Yield energy / (kJ/mol) and positions of each minimised conformer of distance geometry."""
    if settings.conformers == 0:
        return
    own_seed = spawned_seed(seed, settings.walkers)
    platform = default_platform(len(molecule.positions))
    integrator = openmm.VerletIntegrator(0.001)
    context = openmm.Context(molecule.system, integrator, *make_platform(platform))
    for start in embedded_conformers(atoms, molecule.positions, settings.conformers, own_seed):
        context.setPositions(start)
        yield minimised(context)


def _cluster(
    positions: NDArray[np.float64],
    energies: NDArray[np.float64],
    angles: NDArray[np.float64],
    image_angles: NDArray[np.float64] | None,
    walked: NDArray[np.bool_],
    settings: ExploreSettings,
    dropped: int,
) -> Basins:
    """Take the lowest minimum as a basin, all that are near it with it, and so on upwards.

    Parameters
    ----------
    angles, image_angles : array [F, R], rad
        Torsions, and those of the mirror images if there are any.
    walked : array [F]
        Whether a walker came there.
    """
    finite = np.isfinite(energies) & np.isfinite(angles).all(1)
    order = [int(i) for i in np.argsort(energies) if finite[i]]
    centres: list[int] = []
    visits: list[int] = []
    for i in order:
        near = _near(angles[np.array(centres, dtype=int)], angles[i], settings.separation)
        if len(near):
            visits[int(near[0])] += int(walked[i])
        else:
            centres.append(i)
            visits.append(int(walked[i]))
    low = energies[centres] <= energies[centres[0]] + settings.energy_window
    chosen = [i for i in range(len(centres)) if low[i]][: settings.max_basins]
    index = np.array(centres)[chosen]
    images = 0
    if image_angles is not None:
        images = _count_images(angles[centres], image_angles[centres], settings.separation)
    return Basins(
        positions[index],
        energies[index] - energies[index[0]],
        angles[index],
        np.maximum(np.array(visits, dtype=np.int64)[chosen], 1),
        dropped,
        len(centres),
        images,
    )


def _near(
    centres: NDArray[np.float64], angles: NDArray[np.float64], separation: float
) -> NDArray[np.intp]:
    """Return the rows of `centres` [K, R] that differ from `angles` [R] by no more in any."""
    turns = np.abs(np.angle(np.exp(1j * (centres - angles))))
    return np.flatnonzero((turns <= separation).all(1))


def _count_images(
    centres: NDArray[np.float64], images: NDArray[np.float64], separation: float
) -> int:
    """Return how many pairs there are of a basin and another one that its mirror image lies in."""
    alone = set(range(len(centres)))
    pairs = 0
    for k in range(len(centres)):
        partners = [int(j) for j in _near(centres, images[k], separation) if j in alone and j > k]
        if k in alone and partners:
            alone -= {k, partners[0]}
            pairs += 1
    return pairs


def basins_standing(
    folder: Path, molecule: MolecularSystem, settings: ExploreSettings, seed: int
) -> Standing:
    """Tell whether `folder` holds the basins of this molecule, for these settings."""
    if not (folder / BASINS_FILE).exists():
        return Missing()
    there = read_basins(folder / BASINS_FILE).identity
    if different := compare(there, _identity(molecule, settings, seed)):
        return Conflict(different)
    return Done()


def load_or_find_basins(
    folder: Path,
    molecule: MolecularSystem,
    settings: ExploreSettings,
    seed: int,
    workers: int | Workers = 1,
    report: Callable[[float, str], None] | None = None,
    force: bool = False,
) -> Basins:
    """Return the basins that `folder` holds for this molecule and these settings, or find them.

    Raises
    ------
    FileExistsError
        If it holds those of another molecule or of other settings, and `force` is false.
    """
    path = folder / BASINS_FILE
    standing = basins_standing(folder, molecule, settings, seed)
    if isinstance(standing, Conflict) and not force:
        raise refuse(folder, "basins of another exploration", standing.differences)
    if isinstance(standing, Done):
        return read_basins(path).basins
    basins = find_basins(molecule, settings, seed, workers, report)
    folder.mkdir(parents=True, exist_ok=True)
    identity = json.dumps(_identity(molecule, settings, seed))
    write_arrays(path, {"identity": np.array(identity), **vars(basins)})
    return basins


class StoredBasins(NamedTuple):
    """Basins in a file, and what they were found with."""

    identity: dict[str, object]
    basins: Basins


def read_basins(path: Path) -> StoredBasins:
    """Read the basins that `load_or_find_basins` wrote.

    Raises
    ------
    FileNotFoundError, DamagedFileError
        If there is no such file or it is not what was written.
    """
    stored = read_arrays(path, _SCHEMA, _REMEDY)
    try:
        identity = conform(json.loads(str(stored.pop("identity"))), dict[str, object])
    except ValueError as error:
        raise DamagedFileError(path, f"identity: {error}", _REMEDY) from error
    counts = [int(stored.pop(name)) for name in ("dropped", "found", "images")]
    if len(stored["energies"]) == 0 or (stored["visits"] < 1).any() or min(counts) < 0:
        raise DamagedFileError(path, "its counts are out of range", _REMEDY)
    dropped, found, images = counts
    return StoredBasins(identity, Basins(**stored, dropped=dropped, found=found, images=images))


def _identity(molecule: MolecularSystem, settings: ExploreSettings, seed: int) -> dict[str, object]:
    # What the time allowed was found; more time does not make it another exploration.
    chosen = {k: v for k, v in asdict(settings).items() if k != "max_minutes"}
    chosen["temperatures"] = list(settings.temperatures)
    if settings.conformers == 0:
        # As it was before there were any.
        del chosen["conformers"]
    if settings.fragment is None:
        del chosen["fragment"]
    else:
        chosen["fragment"] = {k: list(v) for k, v in asdict(settings.fragment).items()}
    return {**content_of(molecule), **chosen, "seed": seed}


def basin_populations(
    basins: Basins, temperature: float, hot_temperatures: Sequence[float]
) -> NDArray[np.float64]:
    """Guess the populations [K] of the basins at `temperature` / K from the hot walkers' visits.

    Superposition of basins whose shape does not depend on the temperature: the population is that
    of the walkers, at 1/kT averaged over their ladder, times
    exp(-E (1/kT - 1/kT_hot)) with E the energy of the minimum. A guess for the first training only;
    importance weights replace it (`refine`).
    """
    beta = 1 / thermal_energy(temperature)
    hot = float(np.mean([1 / thermal_energy(t) for t in hot_temperatures]))
    populations = basins.visits * np.exp(-(beta - hot) * basins.energies)
    shares: NDArray[np.float64] = populations / populations.sum()
    return shares
