"""A learned correction to a force field's energy, and the energy that it makes.

A potential like GFN2-xTB is a hundred times as dear as a force field, and differs from it, over the
conformations of one molecule, by little and smoothly. A small network of the inverse distances of
all pairs of atoms learns the difference from some thousand energies with their forces (Ramakrishnan
et al., J. Chem. Theory Comput. 2015, 11, 2087; inverse distances and forces as in Chmiela et al.,
Nat. Commun. 2018, 9, 3887). Distances know neither where a molecule lies nor which of its mirror
images it is, and no more does the energy.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import numpy as np
import openmm
import torch
from torch import Tensor, nn

from ..files import write_bytes_atomically
from ..importance import UNPHYSICAL
from ..potentials.serialization import serialize_system
from ..simulation.systems import load_system_xml
from ..stored import read_arrays, write_arrays
from ..units import thermal_energy
from .surrogate import surrogate_energy, untranslatable_forces

CORRECTION_FILE = "correction.npz"
FORCE_FIELD_FILE = "force-field.xml"
#: Numbers between the layers.
_WIDTH = 128
_REMEDY = "remove it, so that it is learned again"
_SCHEMA = {
    "range": "float 2",
    "mean": "float P",
    "scale": "float P",
    "weight0": "float W P",
    "bias0": "float W",
    "weight1": "float W W",
    "bias1": "float W",
    "weight2": "float 1 W",
    "bias2": "float 1",
}


class Correction(nn.Module):
    """Positions [B, N, 3] / nm to energies [B] / kJ/mol.

    Parameters
    ----------
    num_atoms : int
    """

    first: Tensor
    second: Tensor
    range: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, num_atoms: int) -> None:
        super().__init__()
        first, second = torch.triu_indices(num_atoms, num_atoms, 1)
        self.register_buffer("first", first)
        self.register_buffer("second", second)
        self.register_buffer("range", torch.tensor([-math.inf, math.inf]))
        self.register_buffer("mean", torch.zeros(len(first)))
        self.register_buffer("scale", torch.ones(len(first)))
        self.layers = nn.ModuleList(
            [nn.Linear(len(first), _WIDTH), nn.Linear(_WIDTH, _WIDTH), nn.Linear(_WIDTH, 1)]
        )

    @property
    def num_atoms(self) -> int:
        return int(self.second.max()) + 1

    def linear_layers(self) -> list[nn.Linear]:
        """Return the layers, first to last."""
        return [cast(nn.Linear, layer) for layer in self.layers]

    def inverse_distances(self, positions: Tensor) -> Tensor:
        """Return 1/r [B, P] / 1/nm of all pairs."""
        between = positions[:, self.first] - positions[:, self.second]
        return between.pow(2).sum(-1).rsqrt()

    def fit_normalisation(self, positions: Tensor) -> None:
        """Take mean and spread of the inverse distances from conformations [F, N, 3] / nm."""
        found = self.inverse_distances(positions)
        self.mean.copy_(found.mean(0))
        self.scale.copy_(found.std(0).clamp_min(1e-3))

    def limit(self, energies: Tensor) -> None:
        """Keep what is predicted within the range of some energies / kJ/mol.

        Where nothing was learned, a network may promise any depth, and a flow that is trained on it
        goes there.
        """
        self.range.copy_(torch.stack([energies.min(), energies.max()]))

    def forward(self, positions: Tensor) -> Tensor:
        return torch.clamp(self.unlimited(positions), self.range[0], self.range[1])

    def unlimited(self, positions: Tensor) -> Tensor:
        """Return the energies as the network has them."""
        hidden = (self.inverse_distances(positions) - self.mean) / self.scale
        first, second, last = self.linear_layers()
        hidden = nn.functional.silu(first(hidden))
        hidden = nn.functional.silu(second(hidden))
        energies: Tensor = last(hidden).squeeze(-1)
        return energies

    def save(self, path: Path) -> None:
        """Write the weights as arrays."""
        arrays = {
            "range": self.range.numpy(),
            "mean": self.mean.numpy(),
            "scale": self.scale.numpy(),
        }
        for number, layer in enumerate(self.linear_layers()):
            arrays[f"weight{number}"] = layer.weight.detach().numpy()
            arrays[f"bias{number}"] = layer.bias.detach().numpy()
        write_arrays(path, arrays)


def read_correction(path: Path) -> Correction:
    """Read what `Correction.save` wrote.

    Raises
    ------
    FileNotFoundError, DamagedFileError
    """
    arrays = {k: torch.from_numpy(v) for k, v in read_arrays(path, _SCHEMA, _REMEDY).items()}
    pairs = len(arrays["mean"])
    correction = Correction(round((1 + np.sqrt(1 + 8 * pairs)) / 2))
    correction.range.copy_(arrays["range"])
    correction.mean.copy_(arrays["mean"])
    correction.scale.copy_(arrays["scale"])
    with torch.no_grad():
        for number, layer in enumerate(correction.linear_layers()):
            layer.weight.copy_(arrays[f"weight{number}"])
            layer.bias.copy_(arrays[f"bias{number}"])
    return correction


def base_energy(system: openmm.System) -> torch.jit.ScriptModule:
    """Return what is corrected: a force field's energy, as far as torch has it.

    What it has not (correction maps, for instance) is learned with all else that it lacks.
    """
    return surrogate_energy(system, leave_out=untranslatable_forces(system))


def save_corrected(folder: Path, force_field: openmm.System, correction: Correction) -> None:
    """Write what `load_corrected` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    text = serialize_system(force_field)
    write_bytes_atomically(folder / FORCE_FIELD_FILE, text.encode())
    correction.save(folder / CORRECTION_FILE)


def load_corrected(folder: Path) -> CorrectedEnergy:
    """Return the energy whose force field and correction lie in a folder.

    Raises
    ------
    FileNotFoundError, DamagedFileError, ValueError
    """
    system = load_system_xml(folder / FORCE_FIELD_FILE)
    return CorrectedEnergy(base_energy(system), read_correction(folder / CORRECTION_FILE))


class CorrectedEnergy(nn.Module):
    """A force field's energy with a correction: [B, N, 3] / nm to [B] / kJ/mol, in float64.

    As `TimewarpMCMCIntegrator.setSurrogate` takes it, once it is traced.

    Parameters
    ----------
    force_field : Module
        Of `surrogate_energy`.
    correction : Correction
    """

    def __init__(self, force_field: nn.Module, correction: Correction) -> None:
        super().__init__()
        self.force_field, self.correction = force_field, correction

    def forward(self, positions: Tensor) -> Tensor:
        total: Tensor = self.force_field(positions) + self.correction(positions).double()
        return total

    def traced(self) -> torch.jit.ScriptModule:
        """Return the module as TorchScript."""
        example = torch.randn(3, self.correction.num_atoms, 3)
        with torch.no_grad():
            module: torch.jit.ScriptModule = torch.jit.trace(self.eval(), example)  # type: ignore[no-untyped-call]
        return module


class _Computed:
    def __init__(self, reduced: Tensor) -> None:
        self._reduced = reduced

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        return self._reduced.cpu().numpy(), np.zeros(0)


class TorchEnergy:
    """U/kT of a module of torch, in this process: what training takes for `OpenMMEnergy`.

    Parameters
    ----------
    module : Module
        [B, N, 3] / nm to [B] / kJ/mol.
    temperature : float
        K.
    """

    def __init__(self, module: nn.Module, temperature: float) -> None:
        self._module, self._kT = module, thermal_energy(temperature)

    def __call__(self, positions: Tensor) -> Tensor:
        """Return U/kT; its gradient are the forces. A state without an energy gets a huge one."""
        found = self._module(positions) / self._kT
        return torch.where(torch.isfinite(found), found, UNPHYSICAL)

    @torch.no_grad()
    def energies(self, positions: Tensor) -> Tensor:
        """Return U/kT without a gradient."""
        parts = [self(part) for part in torch.split(positions.float(), _TOGETHER)]
        return torch.cat(parts).clamp_max(UNPHYSICAL)

    def begin(self, positions: Tensor) -> _Computed:
        """Return energies, which are computed at once: they cost no more than sending them."""
        return _Computed(self.energies(positions))


#: States; more of them do not fit a processor's cache.
_TOGETHER = 256
