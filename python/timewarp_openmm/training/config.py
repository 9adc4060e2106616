"""The training configuration: a validated YAML file that travels in the checkpoint."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from ..bounds import (
    Count,
    CountOrNone,
    Minutes,
    NonNegative,
    Positive,
    Seed,
    Temperature,
    Workers,
)
from ..flows.registry import AnyFlowConfig, flow_class
from ..losses.registry import LossConfig, losses


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Where the pairs come from.

    Attributes
    ----------
    folder : Path
        Of ``timewarp-openmm simulate``, or of MDTraj HDF5 files from elsewhere.
    test_fraction : float
        Of the trajectories, held out for testing.
    test_trajectories : tuple of str, optional
        Names the held-out trajectories (``trajectory-003``) instead.
    frame_weights : Path, optional
        An ``.npz`` file with an array of weights per trajectory.
    independent : Path, optional
        An ``.npz`` file of independent draws (see `refine`), used at infinite lag only.
    learned_energy : Path, optional
        A folder of `save_corrected`, whose energy takes the place of that of the folder's System.
    temperature : float, optional
        K; by default the folder's ``run.json`` says it.
    force_field : tuple of str, optional
        As `temperature`.
    """

    folder: Path
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    test_trajectories: tuple[str, ...] | None = None
    frame_weights: Path | None = None
    independent: Path | None = None
    learned_energy: Path | None = None
    temperature: Temperature | None = None
    force_field: tuple[str, ...] | None = None


class AugmentationConfig(_Section):
    """Symmetries that each batch is put through at random.

    Attributes
    ----------
    rotate : bool
        Rotate each pair (both states alike).
    permute_hydrogens : bool
        Turn the labels of methyl hydrogens.
    rigid_motion : {"remove", "keep"}
        Whether y is first laid onto x. The energy does not feel how a molecule tumbles and
        drifts, and a Cartesian flow that has to learn it learns little else.
    rigid_noise : float
        nm; a removed rigid motion is replaced by a random one that moves atoms by about this much,
        so that the density to be learned stays bounded.
    """

    rotate: bool = True
    permute_hydrogens: bool = True
    rigid_motion: Literal["remove", "keep"] = "remove"
    rigid_noise: NonNegative = 0.005


class TrainingConfig(_Section):
    """All that determines a training run.

    Attributes
    ----------
    flow : FlowConfig
    data : DataConfig
    augmentation : AugmentationConfig
    loss : LossConfig
        The losses that are used, each a section of its own or its weight alone.
    lag_times : tuple of float
        ps, multiples of the frame interval; ``.inf`` for independent draws.
    lag_weights : tuple of float, optional
        Relative frequencies of the lag times, equal by default; also the model's own.
    batch_size, max_steps : int
    max_minutes : float, optional
        Ends the run, and its learning-rate schedule, after this time at the latest.
    learning_rate : float
        The highest; reached after `warmup_steps`, then a half cosine down to
        `final_learning_rate`.
    gradient_clip : float
        Largest norm of the gradient.
    weight_decay : float
    ema_decay : float
        Of the running average of the weights, which is what is tested and exported.
    evaluation_interval : int
        Steps between tests, each followed by a checkpoint.
    evaluation_pairs : int
        Train and test pairs per test, the same ones each time.
    acceptance_draws : int
        Proposals per test with which the acceptance of independent draws is measured; the best
        weights are then those of the highest acceptance. 0: not measured, the best weights are
        those of the highest test log-likelihood.
    patience : int
        Tests without a better test loss (or acceptance) after which training stops; 0 never does.
    seed : int
    energy_workers : int
        Processes that evaluate OpenMM energies.
    accelerator : str
        Of lightning-fabric.
    """

    flow: AnyFlowConfig
    data: DataConfig
    augmentation: AugmentationConfig = AugmentationConfig()
    loss: LossConfig = losses(likelihood=1.0)
    lag_times: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    lag_weights: tuple[Positive, ...] | None = None
    batch_size: Count = 128
    max_steps: Count = 20_000
    max_minutes: Minutes | None = None
    learning_rate: Positive = 1e-3
    final_learning_rate: NonNegative = 1e-5
    warmup_steps: CountOrNone = 200
    gradient_clip: Positive = 1.0
    weight_decay: NonNegative = 0.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    evaluation_interval: Count = 250
    evaluation_pairs: Count = 1024
    acceptance_draws: CountOrNone = 0
    patience: CountOrNone = 20
    seed: Seed = 1
    energy_workers: Workers = 1
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _check(self) -> TrainingConfig:
        if any(math.isnan(lag) for lag in self.lag_times):
            raise ValueError("lag_times must be numbers")
        if math.inf in self.lag_times and not flow_class(self.flow).draws_independently:
            raise ValueError(
                f"a flow in {self.flow.coordinates} coordinates starts from x and cannot draw "
                "independently of it; leave .inf out of lag_times"
            )
        needed = any(loss.needs_independent_draws for loss in self.loss.used())
        if math.inf not in self.lag_times and (needed or self.acceptance_draws):
            raise ValueError(
                "loss.regression and acceptance_draws are about independent draws; add .inf to "
                "lag_times"
            )
        self.flow.check_lag_times(self.lag_times)
        if self.lag_weights is not None and len(self.lag_weights) != len(self.lag_times):
            raise ValueError(
                f"{len(self.lag_times)} lag_times but {len(self.lag_weights)} lag_weights"
            )
        return self

    def lag_probabilities(self) -> list[float]:
        """Return the probability of each lag time."""
        weights = self.lag_weights or (1.0,) * len(self.lag_times)
        return [weight / sum(weights) for weight in weights]

    def to_yaml(self) -> str:
        """Return the YAML text that `parse_config` reads back."""
        return yaml.safe_dump(_plain(self.model_dump()), sort_keys=False)


def load_config(path: str | Path) -> TrainingConfig:
    """Read a training configuration; relative paths in it are relative to the current folder.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not YAML or an entry is wrong; the message names the entries.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no configuration file at {path}")
    try:
        text = path.read_text()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    return parse_config(text, str(path))


def parse_config(text: str, source: str = "the configuration") -> TrainingConfig:
    """Read what `TrainingConfig.to_yaml` wrote; `source` names it in messages.

    Raises
    ------
    ValueError
        As `load_config`.
    """
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"{source} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{source} must be a YAML mapping with at least flow, data and lag_times")
    try:
        return TrainingConfig.model_validate(content)
    except ValidationError as error:
        problems = [
            f"  {'.'.join(str(part) for part in item['loc']) or 'the whole'}: {item['msg']}"
            for item in error.errors()
        ]
        raise ValueError("\n".join([f"{source} is not valid:", *problems])) from error


def _plain(value: Any) -> Any:
    """Turn what YAML's safe dumper does not know (paths, tuples) into what it does."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    return value
