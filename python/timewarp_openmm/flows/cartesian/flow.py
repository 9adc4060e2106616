"""The Timewarp flow as published, in Cartesian coordinates (Klein et al. 2023, arXiv 2302.01170).

Noise (z_p, z_v) goes through coupling layers that transform z_p given z_v and z_v given z_p by
turns, conditioned on the positions x, and then ``y = x + scale * z_p``, ``w = z_v``.
"""

import math

import torch
from torch import Tensor, nn

from ...molecule.graph import Molecule
from ..base import Flow
from ..gaussian import log_normal
from ..networks.kernel_attention import kernel_weights
from .config import CartesianFlowConfig
from .couplings import AffineCoupling


class CartesianFlow(Flow):
    """Conditional flow of positions and auxiliary velocities; follows the model contract.

    It does not change when x and y are moved together, and if atom types are elements it does not
    care about the order of atoms. It does depend on their orientation.

    The lag time is ignored: a model is made for the lag of its training pairs. It has no
    independent draws (infinite lag).

    Parameters
    ----------
    config : CartesianFlowConfig
    molecule : Molecule

    Raises
    ------
    ValueError
        If an element of the molecule is not among the configuration's `elements`.

    Examples
    --------
    >>> from timewarp_openmm.molecule.graph import Molecule
    >>> water = Molecule(("O", "H1", "H2"), ("HOH",) * 3, (0,) * 3, ("O", "H", "H"),
    ...                  (15.999, 1.008, 1.008), ((0, 1), (0, 2)))
    >>> flow = CartesianFlow(CartesianFlowConfig(), water)
    >>> y, w, log_q = flow.sample(torch.zeros(3, 3), torch.zeros(5, 18), torch.ones(5))
    >>> y.shape, w.shape, log_q.dtype
    (torch.Size([5, 3, 3]), torch.Size([5, 3, 3]), torch.float64)
    """

    config_class = CartesianFlowConfig

    def __init__(self, config: CartesianFlowConfig, molecule: Molecule) -> None:
        super().__init__(config, molecule)
        # Of the positions, then of the velocities.
        self.noise_size = 6 * molecule.num_atoms
        self.auxiliary_velocities = True
        self.precision = "single"
        types, num_types = _atom_types(config, molecule)
        self.atom_types: Tensor
        self.register_buffer("atom_types", torch.tensor(types))

        self.embedding = nn.Embedding(num_types, config.embedding_size)
        state_size = config.embedding_size + (6 if config.condition_on_velocities else 3)
        self.couplings = nn.ModuleList(
            AffineCoupling(config, state_size) for _ in range(config.num_coupling_layers)
        )
        positions_first = config.first_transformed == "positions"
        self.transforms_positions = [
            (i % 2 == 0) == positions_first for i in range(config.num_coupling_layers)
        ]

        log_length_scales = torch.tensor(config.length_scales, dtype=torch.float64).log().float()
        self.log_length_scales = nn.Parameter(
            log_length_scales, requires_grad=config.learn_length_scales
        )
        # Standard deviations of the noise, for positions and for velocities.
        self.log_prior_scales = nn.Parameter(
            torch.zeros(2), requires_grad=config.learn_prior_scales
        )
        learned = config.displacement_scale is not None
        self.log_displacement_scales = nn.Parameter(
            torch.full((num_types,), math.log(config.displacement_scale or 1.0)),
            requires_grad=learned,
        )
        self.centre = config.centre
        self.position_unit = config.position_unit
        self.kernel_epsilon = config.kernel_epsilon
        self.condition_on_velocities = config.condition_on_velocities

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Flow.sample`; the lag is ignored."""
        if x.dim() == 2:
            x = x.unsqueeze(0)
        weights, prepared = self._condition(x, torch.zeros_like(x))
        prior_scales = torch.exp(self.log_prior_scales)
        z = noise.view(-1, 2, self.num_atoms, 3) * prior_scales.view(2, 1, 1)
        z_p, z_v = z[:, 0], z[:, 1]
        log_det = torch.zeros(noise.size(0), dtype=torch.float64, device=noise.device)
        for i, coupling in enumerate(self.couplings):
            if self.transforms_positions[i]:
                z_p, change = coupling.transform(z_p, z_v, prepared[i], weights, False)  # type: ignore[operator]
            else:
                z_v, change = coupling.transform(z_v, z_p, prepared[i], weights, False)  # type: ignore[operator]
            log_det = log_det + change
        y = torch.addcmul(x, z_p, self._displacement_scales())
        return y, z_v, log_normal(noise) - (log_det + self._log_det_of_scales())

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        """See `Flow.log_prob`."""
        return self.log_prob_given_velocities(y, w, x, torch.zeros_like(x))

    @torch.jit.export
    def log_prob_given_velocities(self, y: Tensor, w: Tensor, x: Tensor, v: Tensor) -> Tensor:
        """Return log q(y, w | x, v) [B] in float64, for the published conditioning velocities.

        ``v`` [B or 1, N, 3] is ignored unless the flow was made with `condition_on_velocities`.
        """
        noise, log_det = self._to_noise(y, w, x, v)
        return log_normal(noise) - log_det

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        """See `Flow.invert`."""
        return self._to_noise(y, w, x, torch.zeros_like(x))[0]

    def _to_noise(self, y: Tensor, w: Tensor, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the noise and the log-determinant of the map from noise to (y, w)."""
        weights, prepared = self._condition(x, v)
        z_p = (y - x) / self._displacement_scales()
        z_v = w
        log_det = torch.zeros(y.size(0), dtype=torch.float64, device=y.device)
        for i, coupling in enumerate(self.couplings[::-1]):
            layer = len(prepared) - 1 - i
            if self.transforms_positions[layer]:
                z_p, change = coupling.transform(z_p, z_v, prepared[layer], weights, True)  # type: ignore[operator]
            else:
                z_v, change = coupling.transform(z_v, z_p, prepared[layer], weights, True)  # type: ignore[operator]
            log_det = log_det + change
        z = torch.stack((z_p, z_v), dim=1) * torch.exp(-self.log_prior_scales).view(2, 1, 1)
        return z.flatten(1), log_det + self._log_det_of_scales()

    def _condition(self, x: Tensor, v: Tensor) -> tuple[Tensor, list[list[Tensor]]]:
        """Return attention weights and first layers' parts that depend on (x, v) alone.

        x, v : [B or 1, N, 3]. With one state, all proposals share the result.
        """
        if self.centre:
            x = x - x.mean(dim=1, keepdim=True)
        atoms = self.embedding(self.atom_types).expand(x.size(0), -1, -1)
        parts = [atoms, x / self.position_unit]
        if self.condition_on_velocities:
            parts.append(v)
        state = torch.cat(parts, dim=-1)
        prepared: list[list[Tensor]] = []
        for coupling in self.couplings:
            prepared.append(coupling.prepare(state))  # type: ignore[operator]
        return kernel_weights(x, self.log_length_scales, self.kernel_epsilon), prepared

    def _displacement_scales(self) -> Tensor:
        """Return the scale of each atom's displacement, [N, 1], nm."""
        return torch.exp(self.log_displacement_scales)[self.atom_types].unsqueeze(-1)

    def _log_det_of_scales(self) -> Tensor:
        """Return the log-determinant of the prior and displacement scales, a float64 scalar."""
        displacement = self.log_displacement_scales[self.atom_types].double().sum()
        return 3.0 * (self.num_atoms * self.log_prior_scales.double().sum() + displacement)


def _atom_types(config: CartesianFlowConfig, molecule: Molecule) -> tuple[list[int], int]:
    """Return the type of each atom and the number of types."""
    if config.embedding == "atom":
        return list(range(molecule.num_atoms)), molecule.num_atoms
    elements = config.elements or tuple(sorted(set(molecule.elements)))
    for i, element in enumerate(molecule.elements):
        if element not in elements:
            raise ValueError(
                f"{molecule.describe_atom(i)} is of element {element}, but the flow knows only "
                f"{', '.join(elements)}; add it to `elements` and train anew"
            )
    return [elements.index(element) for element in molecule.elements], len(elements)
