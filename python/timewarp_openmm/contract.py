"""The model contract: what a ``.pt`` file must hold (docs/contract.md has it in prose).

Reading the metadata needs neither torch nor the compiled plugin, since a TorchScript file is a zip
archive and the metadata are a JSON member of it.
"""

from __future__ import annotations

import json
import math
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .molecule.graph import Molecule

CONTRACT_VERSION = 1
#: Name of the JSON member, as passed to ``torch.jit.save(..., _extra_files=...)``.
METADATA_FILE = "timewarp_metadata.json"
#: log_prob(sample(x)) must agree with log_q to this (natural log units).
DENSITY_TOLERANCE = 1e-4
#: sample(x, invert(sample(x))) must return the same positions to this (nm).
INVERTIBILITY_TOLERANCE = 1e-5
# Bounds that keep a damaged file from asking for all memory; ModelMetadata.cpp has the same.
MAX_METADATA = 16 << 20
MAX_NESTING = 50
MAX_ATOMS = 100_000
MAX_NOISE_SIZE = 1_000_000
MAX_LAG_TIMES = 1_000


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
    moved : list of int, or None
        The atoms that proposals move, ascending; the others are context, which the model sees and
        leaves where it is. None: all atoms.
    stretches : list of [int, int], or None
        Bonds (atom, atom placed from it) whose lengths a proposal can keep, for Systems that
        constrain them. None: the model does not say, and cannot be used with constraints.
    torsion_noise : list of int, or None
        The numbers of the noise that make rotatable torsions with distinct rotamers, ascending: a
        draw of one of them alone turns one bond and leaves the rest nearly as it is. None: the
        model does not say.
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
        OpenMM's files, or the name of a potential (see `potentials`).
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
    moved: list[int] | None = None
    stretches: list[list[int]] | None = None
    torsion_noise: list[int] | None = None
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
        if not (all(w >= 0 for w in self.lag_weights) and abs(sum(self.lag_weights) - 1) <= 1e-6):
            raise ContractError(f"lag_weights must be probabilities, got {self.lag_weights}")
        self._check_moved()
        self._check_stretches()
        self._check_torsion_noise()

    def _check_moved(self) -> None:
        if self.moved is None:
            return
        if self.molecule is None:
            raise ContractError("moved names atoms, but the model is of no molecule")
        atoms = range(self.molecule.num_atoms)
        if not self.moved or self.moved != [i for i in atoms if i in set(self.moved)]:
            raise ContractError(
                f"moved must name atoms of 0 to {len(atoms) - 1}, each once and in ascending order"
            )

    def _check_stretches(self) -> None:
        if self.stretches is None:
            return
        bonds = {frozenset(bond) for bond in (self.molecule.bonds if self.molecule else ())}
        if any(frozenset(stretch) not in bonds for stretch in self.stretches):
            raise ContractError("stretches name two atoms that are not bonded")
        placed = [atom for _, atom in self.stretches]
        if len(set(placed)) < len(placed) or not set(placed) <= set(self.moved_atoms()):
            raise ContractError(
                "the second atom of each stretch must be a moved one, and each time another"
            )

    def _check_torsion_noise(self) -> None:
        numbers = self.torsion_noise or []
        if sorted(set(numbers)) != numbers or not set(numbers) <= set(range(self.noise_size)):
            raise ContractError(
                f"torsion_noise must name numbers of 0 to {self.noise_size - 1}, each once and in "
                "ascending order"
            )

    def num_atoms(self) -> int:
        """Return N, for a model of any particles that of its reference positions."""
        if self.molecule is not None:
            return self.molecule.num_atoms
        return len(self.reference_positions or ())

    def moved_atoms(self) -> list[int]:
        """Return the atoms that proposals move, whether `moved` names them or not."""
        return list(range(self.num_atoms())) if self.moved is None else list(self.moved)

    def context_atoms(self) -> list[int]:
        """Return the atoms that the model sees and leaves where they are."""
        moved = set(self.moved_atoms())
        return [atom for atom in range(self.num_atoms()) if atom not in moved]

    def to_json(self) -> str:
        """Return the JSON text that goes into the archive; infinite lags are written ``"inf"``."""
        content = asdict(self)
        if self.molecule is not None:
            # The flow was made from them; a model is matched with a molecule by atoms and bonds.
            del content["molecule"]["bond_orders"], content["molecule"]["formal_charges"]
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
        content = _parse_json(text)
        version = content.get("contract_version")
        if version != CONTRACT_VERSION:
            raise ContractError(
                f"the model follows contract version {version}, this package reads "
                f"{CONTRACT_VERSION}; export the model again with this package"
            )
        try:
            entries = _Entries.model_validate(content)
        except ValidationError as error:
            raise ContractError(_first_error(error)) from error
        values = entries.model_dump(exclude_unset=True)
        values["lag_times"] = [float(lag) for lag in entries.lag_times]
        if isinstance(entries.force_field, str):
            # The first models have the names in one text.
            values["force_field"] = [f for f in entries.force_field.split(" + ") if f]
        if entries.molecule is not None:
            values["molecule"] = entries.molecule.to_molecule()
            if len(entries.reference_positions or ()) != values["molecule"].num_atoms:
                raise ContractError("reference_positions must hold one position for each atom")
        return ModelMetadata(**values)


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"the entry {'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def _parse_json(text: str) -> dict[str, Any]:
    if len(text) > MAX_METADATA:
        raise ContractError("the metadata are too long")
    try:
        content = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ContractError(f"the metadata are not JSON: {error}") from error
    except RecursionError as error:
        raise ContractError("the metadata are nested too deeply") from error
    if not isinstance(content, dict):
        raise ContractError("the metadata are not a JSON object")
    if _nesting(content) > MAX_NESTING:
        raise ContractError("the metadata are nested too deeply")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ContractError("the metadata have two entries of one name")
    return content


def _no_constant(name: str) -> None:
    raise ContractError(f"the metadata hold {name}, which is no number of JSON")


def _nesting(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(_nesting, value), default=0) if isinstance(value, list) else 0


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


_Positive = Annotated[float, Field(gt=0)]
_Texts = Annotated[list[str], Field(max_length=MAX_ATOMS)]
_Index = Annotated[int, Field(ge=0, le=MAX_ATOMS)]


class _MoleculeEntries(_Strict):
    """The types of the entry `molecule`."""

    atom_names: _Texts
    residue_names: _Texts
    residue_indices: Annotated[list[_Index], Field(max_length=MAX_ATOMS)]
    elements: _Texts
    masses: Annotated[list[_Positive], Field(min_length=1, max_length=MAX_ATOMS)]
    bonds: Annotated[
        list[Annotated[list[_Index], Field(min_length=2, max_length=2)]],
        Field(max_length=10 * MAX_ATOMS),
    ]

    # Models of earlier versions do not say what the structure file called its residues.
    residue_ids: _Texts = []
    insertion_codes: _Texts = []
    chain_ids: _Texts = []

    def to_molecule(self) -> Molecule:
        lists = (self.atom_names, self.residue_names, self.residue_indices, self.elements)
        labels = (self.residue_ids, self.insertion_codes, self.chain_ids)
        lengths = {len(entries) for entries in lists} | {len(entries) for entries in labels} - {0}
        if lengths != {len(self.masses)}:
            raise ContractError("the molecule's lists must be of one length, the number of atoms")
        if any(atom >= len(self.masses) for bond in self.bonds for atom in bond):
            raise ContractError("a bond names an atom that does not exist")
        return Molecule(
            atom_names=tuple(self.atom_names),
            residue_names=tuple(self.residue_names),
            residue_indices=tuple(self.residue_indices),
            elements=tuple(self.elements),
            masses=tuple(self.masses),
            bonds=tuple((a, b) for a, b in self.bonds),
            residue_ids=tuple(self.residue_ids),
            insertion_codes=tuple(self.insertion_codes),
            chain_ids=tuple(self.chain_ids),
        )


class _Entries(_Strict):
    """The types of all entries; `ModelMetadata` says what they mean, and checks their values."""

    contract_version: int
    molecule: _MoleculeEntries | None
    noise_size: Annotated[int, Field(ge=0, le=MAX_NOISE_SIZE)]
    temperature: _Positive
    coordinates: str
    lag_times: Annotated[list[_Positive | Literal["inf"]], Field(max_length=MAX_LAG_TIMES)]
    lag_weights: Annotated[list[float], Field(max_length=MAX_LAG_TIMES)]
    moved: Annotated[list[_Index], Field(max_length=MAX_ATOMS)] | None = None
    stretches: (
        Annotated[
            list[Annotated[list[_Index], Field(min_length=2, max_length=2)]],
            Field(max_length=MAX_ATOMS),
        ]
        | None
    ) = None
    torsion_noise: (
        Annotated[
            list[Annotated[int, Field(ge=0, le=MAX_NOISE_SIZE)]], Field(max_length=MAX_NOISE_SIZE)
        ]
        | None
    ) = None
    auxiliary_velocities: bool = True
    precision: str = "single"
    reference_positions: (
        Annotated[
            list[Annotated[list[float], Field(min_length=3, max_length=3)]],
            Field(max_length=MAX_ATOMS),
        ]
        | None
    ) = None
    force_field: str | _Texts = []
    provenance: dict[str, Any] = Field(default_factory=dict)
    licence: str = ""
    package_version: str = ""


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
            text = archive.read(_find_metadata(archive, path)).decode()
    except (zipfile.BadZipFile, NotImplementedError, EOFError, UnicodeDecodeError) as error:
        raise ContractError(f"{path} is not a TorchScript file, or is damaged: {error}") from error
    try:
        return ModelMetadata.from_json(text)
    except ContractError as error:
        raise ContractError(f"the metadata of {path} cannot be used: {error}") from error


def _find_metadata(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """Return the one member that every reader takes for the metadata; torch ignores capitals."""
    members = archive.infolist()
    names = [member.filename.lower() for member in members]
    folders = {name.split("/")[0] for name in names}
    if len(folders) > 1 or len(set(names)) < len(names) or archive.comment:
        raise ContractError(
            f"{path} is not as torch.jit.save writes it: it has members of one name or in several "
            "folders, so that programs may read different ones; export the model again"
        )
    found = [m for m in members if m.filename.endswith(f"/extra/{METADATA_FILE}")]
    if not found or found[0].filename.count("/") != 2:
        raise ContractError(
            f"{path} holds no {METADATA_FILE}; export it with timewarp_openmm.flows.export_model"
        )
    if found[0].compress_type != zipfile.ZIP_STORED or found[0].file_size > MAX_METADATA:
        raise ContractError(f"the metadata of {path} are compressed or too long")
    return found[0]
