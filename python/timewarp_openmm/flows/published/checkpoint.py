"""Import of checkpoints of the published code (github.com/microsoft/timewarp).

The mathematics is the same; the differences are of form:

- A published coupling layer reads ``scale * z + shift`` from proposal to noise, and counts layers
  in that direction; ours count from the noise.
- Each head's value and output projections are multiplied into one matrix.
- The first linear map of each network is split into its part for the conditioning state and its
  part for z.
- `normalise_kernel_values` is read by the published code but never reaches the kernel, which
  always normalises; so it is ignored here, too.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from ...contract import ModelMetadata
from ...molecule.graph import Molecule, molecule_from_topology
from ...molecule.structure_files import load_structure
from ..cartesian.config import CartesianFlowConfig
from ..cartesian.flow import CartesianFlow

#: Elements in the order of their embeddings in published checkpoints.
ELEMENTS = {"C": 0, "H": 1, "N": 2, "O": 3, "S": 4}
#: Added to the normaliser of the attention weights.
KERNEL_EPSILON = 1e-5


class _EncoderLayer(BaseModel):
    d_model: int
    dim_feedforward: int
    attention_type: Literal["kernel"]
    lengthscales: tuple[float, ...]


class _Density(BaseModel):
    scale_requires_grad: bool = True
    ignore_conditional_velocity: bool = False
    use_displacement_as_target: Literal[True] = True


class _Network(BaseModel):
    atom_embedding_dim: int
    latent_mlp_hidden_dims: tuple[int, ...]
    num_coupling_layers: int
    num_transformer_layers: int
    encoder_layer_config: _EncoderLayer
    position_layer_index_mod_2: Literal[0, 1] = 0
    conditional_flow_density: _Density = _Density()


class _Model(BaseModel):
    model_type: Literal["custom_attention_transformer_nvp"]
    custom_transformer_nvp_config: _Network


class PublishedConfig(BaseModel):
    """The part of a published configuration that describes the network.

    Attributes
    ----------
    model_config_ : object
        The entry ``model_config``. Only ``custom_attention_transformer_nvp`` with attention of type
        ``kernel`` is the network of the paper; others are refused.
    element_vocabulary : dict
        Element to row of the embedding.
    """

    model_config_: _Model = Field(alias="model_config")
    element_vocabulary: dict[str, int] = ELEMENTS

    @property
    def network(self) -> _Network:
        return self.model_config_.custom_transformer_nvp_config

    def flow_config(self) -> CartesianFlowConfig:
        """Return the same hyperparameters in our terms."""
        network, layer = self.network, self.network.encoder_layer_config
        density = network.conditional_flow_density
        vocabulary = self.element_vocabulary
        # Counted from the noise, the first is the published last one, of odd index.
        positions_first = network.position_layer_index_mod_2 == 1
        return CartesianFlowConfig(
            d_model=layer.d_model,
            num_coupling_layers=network.num_coupling_layers,
            num_transformer_layers=network.num_transformer_layers,
            length_scales=layer.lengthscales,
            learn_length_scales=False,
            mlp_hidden=network.latent_mlp_hidden_dims,
            feedforward=layer.dim_feedforward,
            embedding="element",
            embedding_size=network.atom_embedding_dim,
            elements=tuple(sorted(vocabulary, key=lambda element: vocabulary[element])),
            joint_network=False,
            log_scale_bound=None,
            affine_direction="density",
            first_transformed="positions" if positions_first else "velocities",
            centre=True,
            position_unit=1.0,
            displacement_scale=None,
            learn_prior_scales=density.scale_requires_grad,
            kernel_epsilon=KERNEL_EPSILON,
            condition_on_velocities=not density.ignore_conditional_velocity,
        )


def import_published(
    checkpoint: str | Path, config_json: str | Path, topology_pdb: str | Path
) -> CartesianFlow:
    """Make a flow of ours with the weights of a published checkpoint.

    Nothing in the checkpoint is executed: classes other than tensors and plain containers are read
    as empty placeholders.

    Parameters
    ----------
    checkpoint : str or Path
        As written by the published training script.
    config_json : str or Path
        JSON with the entry ``model_config`` of the published configuration and, optionally,
        ``element_vocabulary``.
    topology_pdb : str or Path
        The molecule that the flow is to be bound to.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If the configuration is of another kind of model, or the checkpoint does not fit it.
    """
    config = read_published_config(config_json)
    state = read_checkpoint(checkpoint)
    molecule, _ = _read_structure(topology_pdb)
    flow = CartesianFlow(config.flow_config(), molecule)
    weights = _Weights(state)
    flow.load_state_dict(_translate(weights, config, flow))
    weights.check_all_taken()
    return flow.eval()


def published_metadata(
    checkpoint: str | Path,
    topology_pdb: str | Path,
    temperature: float,
    lag: float,
    force_field: Sequence[str] = (),
) -> ModelMetadata:
    """Return the metadata of an imported model.

    Parameters
    ----------
    checkpoint, topology_pdb : str or Path
        As for `import_published`; the PDB's positions become the reference positions.
    temperature : float
        K.
    lag : float
        ps; between the positions of a training pair.
    force_field : sequence of str
    """
    molecule, positions = _read_structure(topology_pdb)
    checkpoint = Path(checkpoint)
    return ModelMetadata(
        molecule=molecule,
        noise_size=6 * molecule.num_atoms,
        temperature=temperature,
        coordinates="cartesian",
        lag_times=[lag],
        lag_weights=[1.0],
        reference_positions=positions,
        force_field=list(force_field),
        provenance={
            "imported_from": checkpoint.name,
            "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        },
    )


def read_published_config(path: str | Path) -> PublishedConfig:
    """Read a published configuration.

    Raises
    ------
    ValueError
        If it is not JSON, or of another kind of model.
    """
    try:
        return PublishedConfig.model_validate(json.loads(Path(path).read_text()))
    except ValueError as error:
        raise ValueError(
            f"{path} does not describe a published network of kernel attention: {error}"
        ) from error


class _Placeholder:
    """Stands for an object of a foreign class; takes its content and forgets it."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Placeholder:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read the weights from a published checkpoint, without executing anything in it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a checkpoint, or can't be read without executing foreign code.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        # Found without unpickling; each name then stands for a placeholder.
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([(_Placeholder, name) for name in foreign]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} can't be read as a checkpoint: {error}") from error
    for key in ("model_state_dict", "module"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            return {k: v for k, v in content[key].items() if isinstance(v, Tensor)}
    raise ValueError(f"{path} holds no model_state_dict; is it a checkpoint of the published code?")


class _Weights:
    """A checkpoint's tensors, taken out one by one."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self._state = state
        self._taken: set[str] = set()

    def take(self, name: str, *shape: int) -> Tensor:
        """Return a tensor in float64."""
        if name not in self._state:
            raise ValueError(f"the checkpoint has no {name}; does the configuration belong to it?")
        found = tuple(self._state[name].shape)
        if found != shape:
            raise ValueError(
                f"{name} is {list(found)} in the checkpoint, the configuration makes it "
                f"{list(shape)}; does the configuration belong to it?"
            )
        self._taken.add(name)
        return self._state[name].double()

    def check_all_taken(self) -> None:
        if left := sorted(set(self._state) - self._taken):
            raise ValueError(
                f"the checkpoint has {len(left)} tensors more than the configuration asks for, "
                f"such as {left[0]}; does the configuration belong to it?"
            )


def _translate(
    weights: _Weights, config: PublishedConfig, flow: CartesianFlow
) -> dict[str, Tensor]:
    """Return the state dict of our flow."""
    network = config.network
    embeddings = len(config.element_vocabulary), network.atom_embedding_dim
    state = {
        "atom_types": flow.atom_types,
        "log_length_scales": flow.log_length_scales,
        "log_displacement_scales": flow.log_displacement_scales,
        "embedding.weight": weights.take("flow.atom_embedder.weight", *embeddings),
        "log_prior_scales": torch.stack(
            [weights.take("coords_prior_log_scale"), weights.take("velocs_prior_log_scale")]
        ),
    }
    for i in range(network.num_coupling_layers):
        published = network.num_coupling_layers - 1 - i
        for j, kind in enumerate(("scale", "shift")):
            source = f"flow.chain.{published}.{kind}_transformer"
            state |= _translate_network(weights, source, f"couplings.{i}.networks.{j}", network)
    return state


def _translate_network(
    weights: _Weights, source: str, target: str, network: _Network
) -> dict[str, Tensor]:
    d_model = network.encoder_layer_config.d_model
    known = network.atom_embedding_dim + 3
    hidden = network.latent_mlp_hidden_dims
    state: dict[str, Tensor] = {}

    # The columns of the first map are: embedding, positions, conditioning velocities, z.
    widths = (known + 6, *hidden, d_model)
    first = weights.take(f"{source}.in_mlp._layers.0.weight", widths[1], widths[0])
    ignored = network.conditional_flow_density.ignore_conditional_velocity
    state[f"{target}.from_state.weight"] = first[:, : known if ignored else known + 3]
    state[f"{target}.from_state.bias"] = weights.take(f"{source}.in_mlp._layers.0.bias", widths[1])
    state[f"{target}.from_z.weight"] = first[:, -3:]
    for k in range(1, len(widths) - 1):
        # Every second module is an activation.
        linear = _linear(weights, f"{source}.in_mlp._layers.{2 * k}", widths[k], widths[k + 1])
        state |= {f"{target}.input.{2 * k - 1}.{name}": value for name, value in linear.items()}

    for k in range(network.num_transformer_layers):
        state |= _translate_layer(
            weights, f"{source}.encoder_layers.{k}", f"{target}.layers.{k}", network
        )

    widths = (d_model, *hidden, 3)
    for k in range(len(widths) - 1):
        linear = _linear(weights, f"{source}.out_mlp._layers.{2 * k}", widths[k], widths[k + 1])
        state |= {f"{target}.output.{2 * k}.{name}": value for name, value in linear.items()}
    return state


def _translate_layer(
    weights: _Weights, source: str, target: str, network: _Network
) -> dict[str, Tensor]:
    layer = network.encoder_layer_config
    d_model, heads = layer.d_model, len(layer.lengthscales)
    scales = weights.take(f"{source}.self_attn.attention.lengthscales", heads)
    if not torch.allclose(scales, torch.tensor(layer.lengthscales, dtype=torch.float64)):
        raise ValueError(
            f"the checkpoint's length scales are {scales.tolist()} nm, the configuration's "
            f"{list(layer.lengthscales)}; does the configuration belong to it?"
        )
    values = weights.take(f"{source}.self_attn.values_proj.weight", heads * d_model, d_model)
    outputs = weights.take(
        f"{source}.self_attn.attention._out_projection.weight", d_model, heads * d_model
    )
    mixes = torch.bmm(
        outputs.view(d_model, heads, d_model).transpose(0, 1), values.view(heads, d_model, d_model)
    )
    state = {f"{target}.attention.mix": mixes.flatten(0, 1)}
    for name in ("norm1", "norm2"):
        for part in ("weight", "bias"):
            state[f"{target}.{name}.{part}"] = weights.take(f"{source}.{name}.{part}", d_model)
    for name, size_in, size_out in (
        ("linear1", d_model, layer.dim_feedforward),
        ("linear2", layer.dim_feedforward, d_model),
    ):
        linear = _linear(weights, f"{source}.{name}", size_in, size_out)
        state |= {f"{target}.{name}.{part}": value for part, value in linear.items()}
    return state


def _linear(weights: _Weights, name: str, size_in: int, size_out: int) -> dict[str, Tensor]:
    return {
        "weight": weights.take(f"{name}.weight", size_out, size_in),
        "bias": weights.take(f"{name}.bias", size_out),
    }


def _read_structure(path: str | Path) -> tuple[Molecule, list[list[float]]]:
    """Return the molecule and its positions in nm, with the centroid at the origin."""
    topology, positions = load_structure(path)
    centred: list[list[float]] = (positions - positions.mean(axis=0)).tolist()
    return molecule_from_topology(topology), centred
