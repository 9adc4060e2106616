"""A molecule whose configurational free energy is known: atoms in a row, held by springs.

Bonds and angles are harmonic and torsions have two minima; nothing else holds the atoms. In these
coordinates the volume element without rigid motion is prod_k r_k^2 prod_k sin(theta_k), so that the
integral of exp(-U/kT) is a product of integrals of one variable each:

    Z = prod_k int r^2 exp(-K_r (r - r_0)^2 / 2 kT) dr
      * prod_k int sin(theta) exp(-K_a (theta - theta_0)^2 / 2 kT) dtheta
      * prod_k int exp(-V (1 + cos 2 phi) / kT) dphi
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from openmm import app

from timewarp_openmm.contract import ModelMetadata
from timewarp_openmm.flows.internal.config import InternalFlowConfig
from timewarp_openmm.flows.internal.coordinates import place
from timewarp_openmm.flows.internal.flow import InternalFlow
from timewarp_openmm.molecule import Molecule
from timewarp_openmm.units import thermal_energy

TEMPERATURE = 300.0
#: nm and kJ/mol/nm^2, rad and kJ/mol/rad^2, kJ/mol.
BOND, BOND_STIFFNESS = {"H": 0.134, "S": 0.205}, 150_000.0
ANGLE, ANGLE_STIFFNESS = 1.75, 300.0
#: Where the quadratures go to, in standard deviations, and their points.
_REACH, _POINTS = 9.0, 4001


@dataclass(frozen=True)
class HarmonicChain:
    """A chain of atoms, such as H-S-S-S-H.

    Attributes
    ----------
    elements : str
        "HSSSH".
    barrier : float
        V of the torsions, kJ/mol.
    """

    elements: str
    barrier: float = 1.0

    def bond_lengths(self) -> list[float]:
        """Return where each bond has its least energy, nm."""
        return [BOND["H" if "H" in pair else "S"] for pair in pairwise(self.elements)]

    def free_energy(self, temperature: float = TEMPERATURE) -> float:
        """Return f = -ln Z, exactly."""
        kT = thermal_energy(temperature)
        return -sum(math.log(np.trapezoid(np.exp(y), x)) for x, y in self._densities(kT))

    def conformations(
        self, count: int, temperature: float = TEMPERATURE, seed: int = 1
    ) -> NDArray[np.float64]:
        """Return independent conformations [F, N, 3] / nm of the Boltzmann distribution."""
        rng = np.random.default_rng(seed)
        densities = self._densities(thermal_energy(temperature))
        values = [_draw(x, y, rng.random(count)) for x, y in densities]
        bonds = torch.tensor(np.array(values[: len(self.elements) - 1]))
        angles = torch.tensor(np.array(values[len(bonds) : 2 * len(bonds) - 1]))
        torsions = torch.tensor(np.array(values[2 * len(bonds) - 1 :]))
        first = torch.zeros(count, 3, dtype=torch.float64)
        second = first + bonds[0][:, None] * torch.tensor([1.0, 0.0, 0.0])
        before = first + torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
        atoms = [first, second, place(second, first, before, bonds[1], angles[0], angles[0] * 0)]
        for k in range(3, len(self.elements)):
            p, q, r = atoms[-1], atoms[-2], atoms[-3]
            atoms.append(place(p, q, r, bonds[k - 1], angles[k - 2], torsions[k - 3]))
        return torch.stack(atoms, dim=1).numpy()

    def _densities(self, kT: float) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Return a grid and the log of the integrand on it for bonds, angles and torsions."""
        atoms = len(self.elements)

        def well(
            middle: float, stiffness: float, log_volume: Callable
        ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            reach = _REACH * math.sqrt(kT / stiffness)
            x = np.linspace(middle - reach, middle + reach, _POINTS)
            return x, log_volume(x) - 0.5 * stiffness * (x - middle) ** 2 / kT

        phi = np.linspace(-np.pi, np.pi, _POINTS)
        return (
            [well(r, BOND_STIFFNESS, lambda x: 2 * np.log(x)) for r in self.bond_lengths()]
            + [well(ANGLE, ANGLE_STIFFNESS, lambda x: np.log(np.sin(x)))] * (atoms - 2)
            + [(phi, -self.barrier * (1 + np.cos(2 * phi)) / kT)] * (atoms - 3)
        )

    def system(self) -> openmm.System:
        """Return the System."""
        system = openmm.System()
        bonds, angles = openmm.HarmonicBondForce(), openmm.HarmonicAngleForce()
        torsions = openmm.PeriodicTorsionForce()
        for element in self.elements:
            system.addParticle(app.Element.getBySymbol(element).mass)
        for i, length in enumerate(self.bond_lengths()):
            bonds.addBond(i, i + 1, length, BOND_STIFFNESS)
        for i in range(len(self.elements) - 2):
            angles.addAngle(i, i + 1, i + 2, ANGLE, ANGLE_STIFFNESS)
        for i in range(len(self.elements) - 3):
            torsions.addTorsion(i, i + 1, i + 2, i + 3, 2, 0.0, self.barrier)
        for force in (bonds, angles, torsions):
            system.addForce(force)
        return system

    def molecule(self) -> Molecule:
        """Return its atoms and bonds."""
        atoms = len(self.elements)
        return Molecule(
            atom_names=self.names(),
            residue_names=("MOL",) * atoms,
            residue_indices=(0,) * atoms,
            elements=tuple(self.elements),
            masses=tuple(app.Element.getBySymbol(e).mass._value for e in self.elements),
            bonds=tuple((i, i + 1) for i in range(atoms - 1)),
        )

    def names(self) -> tuple[str, ...]:
        """Return the atoms' names."""
        return tuple(f"{element}{i}" for i, element in enumerate(self.elements))

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write its PDB file and System, and return their paths."""
        topology = app.Topology()
        residue = topology.addResidue("MOL", topology.addChain())
        atoms = [
            topology.addAtom(name, app.Element.getBySymbol(element), residue)
            for name, element in zip(self.names(), self.elements, strict=True)
        ]
        for first, second in pairwise(atoms):
            topology.addBond(first, second)
        pdb, xml = folder / f"{self.elements}.pdb", folder / f"{self.elements}.xml"
        with pdb.open("w") as handle:
            app.PDBFile.writeFile(topology, self.conformations(1)[0] * 10, handle)
        xml.write_text(openmm.XmlSerializer.serialize(self.system()))
        return pdb, xml

    def flow(self, temperature: float = TEMPERATURE, **config: Any) -> InternalFlow:
        """Return a flow that knows the coordinates' widths at a temperature, and no more."""
        torch.manual_seed(1)
        flow = InternalFlow(InternalFlowConfig(**config), self.molecule())
        flow.fit_normalisation(torch.tensor(self.conformations(2000, temperature)))
        return flow.requires_grad_(False).eval()

    def metadata(
        self, flow: InternalFlow, lag_times: Sequence[float] = (math.inf,)
    ) -> ModelMetadata:
        """Return what a model file of the flow says."""
        lags = list(lag_times)
        return ModelMetadata(
            molecule=self.molecule(),
            noise_size=flow.noise_size,
            temperature=TEMPERATURE,
            coordinates="internal",
            lag_times=lags,
            lag_weights=[1 / len(lags)] * len(lags),
            stretches=[list(pair) for pair in flow.stretches or ()],
            auxiliary_velocities=flow.auxiliary_velocities,
            precision=flow.precision,
            reference_positions=self.conformations(1)[0].tolist(),
        )


def _draw(
    x: NDArray[np.float64], log_density: NDArray[np.float64], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the values [F] at shares [F] of a distribution that is given on a grid."""
    density = np.exp(log_density - log_density.max())
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    return np.interp(shares * cumulative[-1], cumulative, x)
