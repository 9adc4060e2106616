"""ANI-1x by TorchANI: Smith et al., J. Chem. Phys. 2018, 148, 241733."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Atoms, Calculator, installed_version
from .threads import OneThread
from .xtb import HARTREE

NAME = "ani1x"
_ELEMENTS = frozenset((1, 6, 7, 8))
#: What of the ensemble the wheel of TorchANI 2.2.4 holds.
_FOLDER, _MODELS = "ani-1x_8x", 8


@dataclass(frozen=True)
class AniPotential:
    """ANI-1x, the mean of its eight networks in double precision; of neutral molecules."""

    @property
    def name(self) -> str:
        return NAME

    @property
    def version(self) -> str:
        return installed_version("torchani", NAME, '"timewarp-openmm[ani]"')

    @property
    def elements(self) -> frozenset[int]:
        return _ELEMENTS

    def calculator(self, atoms: Atoms) -> Calculator:
        if atoms.charge != 0 or atoms.multiplicity != 1:
            raise ValueError(
                f"{NAME} knows neutral molecules without unpaired electrons only, and this one has "
                f"the charge {atoms.charge:+d} and the multiplicity {atoms.multiplicity}; use "
                "gfn2-xtb"
            )
        return _Calculator(atoms)


class _Calculator:
    def __init__(self, atoms: Atoms) -> None:
        import torch

        self._model = _load_model()
        self._numbers = torch.tensor([atoms.numbers])
        self._one_thread = OneThread()

    def __call__(self, positions: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        return self._one_thread.call(lambda: self._evaluate(positions))

    def _evaluate(self, positions: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        import torch

        with torch.enable_grad():
            angstrom = torch.tensor(10 * positions[None], dtype=torch.float64, requires_grad=True)
            energy = self._model((self._numbers, angstrom)).energies.sum()
            (gradient,) = torch.autograd.grad(energy, angstrom)
        forces: NDArray[np.float64] = -10 * HARTREE * gradient[0].numpy()
        return float(energy.detach()) * HARTREE, forces


@cache
def _load_model() -> Any:
    with warnings.catch_warnings():
        # Of parts of it that are not used.
        warnings.simplefilter("ignore")
        import torchani

        try:
            model = _from_wheel(torchani)
        except Exception as error:  # it downloads what it does not find
            raise ValueError(
                f"the weights of {NAME} are not to be had ({type(error).__name__}: {error}); pip "
                "install torchani==2.2.4, whose wheel holds them"
            ) from error
    return model.double().requires_grad_(False)


def _from_wheel(torchani: Any) -> Any:
    folder = Path(torchani.__file__).parent / "resources" / _FOLDER
    if not (folder / "train0" / "networks").is_dir():
        return torchani.models.ANI1x(periodic_table_index=True)
    # The list of its files, which is empty in the wheel, so that it would download them again.
    files = (folder / "rHCNO-5.2R_16-3.5A_a4-8.params", folder / "sae_linfit.dat", folder / "train")
    with tempfile.TemporaryDirectory() as place:
        info = Path(place) / "ani-1x.info"
        info.write_text("\n".join([*map(str, files), str(_MODELS), ""]))
        return torchani.models.BuiltinEnsemble._from_neurochem_resources(
            str(info), periodic_table_index=True
        )
