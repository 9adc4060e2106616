"""The model contract: what a ``.pt`` file must hold (docs/contract.md has it in prose).

Reading the metadata needs neither torch nor the compiled plugin, since a TorchScript file is a zip
archive and the metadata are a JSON member of it.
"""

from __future__ import annotations

import json
import math
import zipfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .molecule.graph import Molecule

CONTRACT_VERSION = 1
#: Name of the JSON member, as passed to ``torch.jit.save(..., _extra_files=...)``.
METADATA_FILE = "timewarp_metadata.json"
#: Entries of a molecule that name its residues as the structure file did.
FILE_LABELS = ("residue_ids", "insertion_codes", "chain_ids")
#: log_prob(sample(x)) must agree with log_q to this (natural log units).
DENSITY_TOLERANCE = 1e-4
#: sample(x, invert(sample(x))) must return the same positions to this (nm).
INVERTIBILITY_TOLERANCE = 1e-5


class ContractError(ValueError):
    """A file that is not a model of this contract; the message names what is wrong."""


@dataclass
class ModelMetadata:
    """What a model says about itself.

    Attributes
    ----------
    molecule : Molecule or None
        The molecule the model is bound to; None for a model that takes any particles.
    noise_size : int
        D, the number of standard normal deviates per proposal.
    temperature : float
        In K.
    coordinates : str
        "cartesian", "internal", or a name of the author's own.
    lag_times : list of float
        In ps, ``inf`` for an independent draw. A proposal picks one of them.
    lag_weights : list of float
        Probability of each lag time.
    auxiliary_velocities : bool
        Whether the flow couples the auxiliary velocities to the positions. Where it does not, w
        must be standard normal and independent of everything, and independent draws stay valid
        after an acceptance.
    precision : {"single", "double"}
        Type of positions, velocities and noise, given and returned; log densities are always
        double. Where bonds are stiff, rounding y to single precision alone changes its density by
        more than the contract allows.
    reference_positions : list of N lists of 3 floats, or None
        nm; a plausible conformation, on which the contract is checked when the model is loaded.
    force_field : list of str
        OpenMM's files.
    provenance : dict
        Data hash, seed, versions, time, measured figures.
    licence, package_version : str
    """

    molecule: Molecule | None
    noise_size: int
    temperature: float
    coordinates: str
    lag_times: list[float]
    lag_weights: list[float]
    auxiliary_velocities: bool = True
    precision: str = "single"
    reference_positions: list[list[float]] | None = None
    force_field: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    licence: str = "MIT"
    package_version: str = ""
    contract_version: int = CONTRACT_VERSION

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ContractError(f"temperature must be positive, got {self.temperature}")
        if self.noise_size < 0:
            raise ContractError(f"noise_size must not be negative, got {self.noise_size}")
        if self.precision not in ("single", "double"):
            raise ContractError(f'precision must be "single" or "double", got {self.precision!r}')
        if not self.lag_times or len(self.lag_times) != len(self.lag_weights):
            raise ContractError("lag_times and lag_weights must be of one length, at least 1")
        if any(math.isnan(lag) or lag <= 0 for lag in self.lag_times):
            raise ContractError(f"lag times must be positive, got {self.lag_times}")
        if any(w < 0 for w in self.lag_weights) or not math.isclose(sum(self.lag_weights), 1.0):
            raise ContractError(f"lag_weights must be probabilities, got {self.lag_weights}")

    def to_json(self) -> str:
        """Return the JSON text that goes into the archive; infinite lags are written ``"inf"``."""
        content = asdict(self)
        content["lag_times"] = ["inf" if math.isinf(lag) else lag for lag in self.lag_times]
        return json.dumps(content, indent=1)

    @staticmethod
    def from_json(text: str) -> ModelMetadata:
        """Read what `to_json` wrote.

        Raises
        ------
        ContractError
            If an entry is missing or unknown, or of another contract version.
        """
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise ContractError(f"the metadata are not JSON: {error}") from error
        if not isinstance(content, dict):
            raise ContractError("the metadata are not a JSON object")
        version = content.get("contract_version")
        if version != CONTRACT_VERSION:
            raise ContractError(
                f"the model follows contract version {version}, this package reads "
                f"{CONTRACT_VERSION}; export the model again with this package"
            )
        known = {f.name for f in fields(ModelMetadata)}
        if unknown := sorted(set(content) - known):
            raise ContractError(f"unknown metadata entries: {', '.join(unknown)}")
        if content.get("molecule") is not None:
            content["molecule"] = molecule_from_dict(content["molecule"])
        if isinstance(content.get("force_field"), str):
            # The first models have the names in one text.
            content["force_field"] = [f for f in content["force_field"].split(" + ") if f]
        content["lag_times"] = [float(lag) for lag in content.get("lag_times", [])]
        try:
            return ModelMetadata(**content)
        except TypeError as error:
            raise ContractError(f"the metadata are incomplete: {error}") from error


def molecule_from_dict(content: dict[str, Any]) -> Molecule:
    """Read a Molecule back from what `dataclasses.asdict` and JSON made of it.

    Raises
    ------
    ContractError
        If an entry is missing or malformed.
    """
    try:
        return Molecule(
            atom_names=tuple(content["atom_names"]),
            residue_names=tuple(content["residue_names"]),
            residue_indices=tuple(content["residue_indices"]),
            elements=tuple(content["elements"]),
            masses=tuple(content["masses"]),
            bonds=tuple((int(a), int(b)) for a, b in content["bonds"]),
            # Models of earlier versions do not say what the structure file called its residues.
            **{name: tuple(content.get(name, ())) for name in FILE_LABELS},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ContractError(f"the metadata's molecule is malformed: {error!r}") from error


def read_metadata(path: str | Path) -> ModelMetadata:
    """Read a model's metadata.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ContractError
        If it is not a TorchScript archive or holds no metadata of this contract.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no model file at {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            # Members lie below one top folder that is named after the saved file.
            names = [n for n in archive.namelist() if n.endswith(f"/extra/{METADATA_FILE}")]
            if not names:
                raise ContractError(
                    f"{path} holds no {METADATA_FILE}; export it with "
                    "timewarp_openmm.flows.export_model"
                )
            text = archive.read(names[0]).decode()
    except zipfile.BadZipFile as error:
        raise ContractError(f"{path} is not a TorchScript file: {error}") from error
    return ModelMetadata.from_json(text)
