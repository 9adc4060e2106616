"""An ensemble's conformers as pictures, with populations and free energies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem.Draw import rdMolDraw2D

from ..ensemble.conformers import telling_atoms, with_positions
from ..ensemble.output import Row
from ..molecule.superposition import superpose
from .drawing import make_axes
from .findings import Findings, Picture, Section, Table, show
from .viewer import pdb_text

if TYPE_CHECKING:
    from ..molecule.graph import Molecule

#: Conformers that are drawn, and in the three-dimensional view.
_MOST_DRAWN, _MOST_VIEWED = 12, 60
_IN_A_ROW = 4
#: Pixels of a drawing.
_PANEL = (300, 260)
_COLOUR = "#1f6fb4"


@dataclass(frozen=True)
class ConformerSet:
    """What a page on an ensemble shows.

    Attributes
    ----------
    molecule : Molecule
    mol : rdkit.Chem.Mol
        The same with bond orders.
    rows : sequence of Row
    positions : array [K, N, 3], nm
        The minimum of each conformer.
    torsions : sequence of str
        Names of those in the rows.
    """

    molecule: Molecule
    mol: Chem.Mol
    rows: Sequence[Row]
    positions: NDArray[np.floating]
    torsions: Sequence[str]

    @property
    def superposed(self) -> NDArray[np.float64]:
        """The conformers [K, N, 3] / nm laid onto the first one, whose largest spread is along x
        and its least along z."""
        atoms = telling_atoms(self.mol)
        first = np.asarray(self.positions[0], dtype=float)
        centred = first - first[atoms].mean(0)
        axes = np.linalg.svd(centred[atoms])[2]
        # A rotation, and no reflection: chirality stays.
        axes[2] *= np.sign(np.linalg.det(axes))
        first = centred @ axes.T
        laid: NDArray[np.float64] = superpose(
            np.asarray(self.positions, dtype=float), first[None], atoms
        )
        return laid


def assess_conformers(
    title: str, conformers: ConformerSet, warnings: Sequence[str]
) -> tuple[Findings, dict[str, list[str]]]:
    """Return the findings of a page, and the conformers for its three-dimensional view."""
    positions = conformers.superposed
    names = [f"conformer {row.number}" for row in conformers.rows]
    section = Section(
        "conformers",
        "Conformers",
        "Minima of samples of the Boltzmann distribution. A conformer's population is its share of "
        "the samples; its free energy has all of the basin's entropy in it; strain is the energy "
        "of its minimum above the lowest one that was found.",
        numbers={name: vars(row) for name, row in zip(names, conformers.rows, strict=True)},
    )
    shown = min(_MOST_DRAWN, len(names))
    section.pictures += [
        Picture(
            "conformers",
            f"The {shown} most populated of {len(names)} conformers, laid onto the first one, and "
            "seen from the same side. Hydrogens on carbon are left out.",
            draw_conformers(conformers, positions[:shown]),
        ),
        Picture("populations", "With standard errors.", draw_populations(conformers.rows)),
    ]
    section.tables.append(_table(conformers))
    findings = Findings(title, [section], list(warnings))
    texts = [pdb_text(place, conformers.molecule) for place in positions[:_MOST_VIEWED]]
    return findings, {"conformers, the most populated first": texts}


def draw_conformers(conformers: ConformerSet, positions: NDArray[np.floating]) -> Figure:
    """Draw conformers [K, N, 3] / nm side by side as they lie, seen along z (RDKit)."""
    mols = [without_carbon_hydrogens(with_positions(conformers.mol, p)) for p in positions]
    wide = min(_IN_A_ROW, len(mols))
    high = -(-len(mols) // wide)
    width, height = _PANEL
    canvas = rdMolDraw2D.MolDraw2DCairo(wide * width, high * height, width, height)
    options = canvas.drawOptions()
    # As they lie, and not as a structural formula. RDKit's stubs are wrong about these types.
    options.prepareMolsBeforeDrawing = False  # type: ignore[assignment]
    options.drawMolsSameScale = True  # type: ignore[assignment]
    legends = [
        f"{row.number}: {100 * row.population:.1f} +- {100 * row.population_error:.1f} %"
        for row in conformers.rows
    ]
    canvas.DrawMolecules(mols, legends=legends[: len(mols)])
    canvas.FinishDrawing()
    image = imread(BytesIO(canvas.GetDrawingText()), format="png")
    figure, (axis,) = make_axes(1, 1, (wide * width / 100, high * height / 100))
    axis.imshow(image)
    axis.set_axis_off()
    return figure


def without_carbon_hydrogens(mol: Chem.Mol) -> Chem.Mol:
    """Return a molecule, with double bonds in its rings, without hydrogens on carbon."""
    editable = Chem.RWMol(mol)
    for atom in reversed(list(mol.GetAtoms())):
        neighbours = atom.GetNeighbors()
        if atom.GetAtomicNum() == 1 and any(n.GetAtomicNum() == 6 for n in neighbours):
            editable.RemoveAtom(atom.GetIdx())
    bare: Chem.Mol = editable.GetMol()
    Chem.Kekulize(bare, clearAromaticFlags=True)
    return bare


def draw_populations(rows: Sequence[Row]) -> Figure:
    """Draw populations, and free energies over strains."""
    rows = rows[:_MOST_VIEWED]
    numbers = [row.number for row in rows]
    figure, (bars, energies) = make_axes(1, 2, (4.5, 3.2))
    bars.bar(
        numbers,
        [100 * row.population for row in rows],
        yerr=[100 * row.population_error for row in rows],
        color=_COLOUR,
        capsize=2,
    )
    bars.set(xlabel="conformer", ylabel="population / %")
    bars.set_ylim(bottom=0)
    bars.xaxis.set_major_locator(MaxNLocator(integer=True))
    energies.errorbar(
        [row.strain for row in rows],
        [row.free_energy for row in rows],
        yerr=np.nan_to_num([row.free_energy_error for row in rows]),
        fmt="o",
        color=_COLOUR,
        markersize=4,
        capsize=2,
    )
    energies.set(xlabel="strain / kJ/mol", ylabel="free energy / kJ/mol")
    return figure


def _table(conformers: ConformerSet) -> Table:
    header = ["conformer", "population / %", "free energy / kJ/mol", "strain / kJ/mol", "samples"]
    rows = [
        [
            str(row.number),
            show(100 * row.population, 100 * row.population_error),
            show(row.free_energy, row.free_energy_error),
            show(row.strain),
            str(row.frames),
            *(f"{angle:.0f}" for angle in row.torsions),
        ]
        for row in conformers.rows
    ]
    caption = "Torsions in degrees, of the minimum."
    return Table(caption, [*header, *conformers.torsions], rows)
