"""What a flow has to be, so that it can be configured, trained, exported and tested like others.

The three methods are those of the model contract (docs/contract.md), which a model file must keep;
what stands here beside them is for training. A flow enters by its line in `registry`.
"""

from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from ..molecule.graph import Molecule
from ..molecule.in_place import Fragment


class FlowConfig(BaseModel):
    """Hyperparameters of a flow: validated, and written into checkpoints and model files.

    A subclass gives each field a default that suits one small molecule.

    Attributes
    ----------
    coordinates : str
        The flow's name in configurations and model files; a subclass makes it a Literal.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    coordinates: str

    @property
    def part(self) -> tuple[int, ...] | None:
        """The atoms that the flow moves if it sees others as context; None if it moves all.

        Such a flow is trained on each state in its own context, whose auxiliary velocities are 0.
        """
        return None

    @property
    def fragment(self) -> Fragment | None:
        """Of a flow of a fragment in place: the atoms of a structure that it knows and moves."""
        return None

    def check_lag_times(self, lag_times: tuple[float, ...]) -> None:
        """Check that such a flow can be trained for these lag times, in ps.

        Raises
        ------
        ValueError
            If the hyperparameters are for others.
        """


class Flow(nn.Module):
    """Conditional flow of one molecule; `sample`, `log_prob` and `invert` follow the contract.

    Parameters
    ----------
    config : FlowConfig
        Of the flow's own class.
    molecule : Molecule

    Attributes
    ----------
    config_class : type of FlowConfig
    draws_independently : bool
        Whether it can draw independently of x (an infinite lag).
    feels_rigid_motion : bool
        Whether its density has the orientation and place of a molecule in it, so that training
        pairs are superposed and turned at random; not so for densities of the shape alone.
    num_atoms : int
        N.
    noise_size : int
        Standard normal deviates that a proposal is made of.
    auxiliary_velocities : bool
        Whether auxiliary velocities are part of the flow.
    precision : {"single", "double"}
        What the contract says of the types of positions.
    moved : list of int, or None
        The atoms that it moves; None: all of them.
    seen : list of int, or None
        Of a flow that moves a part: the atoms that have an influence on what it does, moved ones
        included, ascending; None: all of them.
    stretches : list of (int, int), or None
        Bonds whose lengths a proposal can keep; None for flows that know nothing of constraints.
        With them a flow has the contract's constrained methods, too.
    torsion_noise : list of int, or None
        The numbers of the noise that make rotatable torsions; None for flows that know none.
    """

    config_class: ClassVar[type[FlowConfig]]
    draws_independently: ClassVar[bool] = False
    feels_rigid_motion: ClassVar[bool] = True

    num_atoms: int
    noise_size: int
    auxiliary_velocities: bool
    precision: str
    moved: list[int] | None
    seen: list[int] | None
    stretches: list[tuple[int, int]] | None
    torsion_noise: list[int] | None

    def __init__(self, config: FlowConfig, molecule: Molecule) -> None:
        super().__init__()
        self.num_atoms = molecule.num_atoms
        self.moved = None
        self.seen = None
        self.stretches = None
        self.torsion_noise = None

    def fit_normalisation(self, positions: Tensor, weights: Tensor | None = None) -> None:
        """Take what the flow needs to know of the data before training; by default nothing.

        Parameters
        ----------
        positions : Tensor [F, N, 3], nm
            Training frames.
        weights : Tensor [F], optional
            Weight of each frame; equal by default.

        Raises
        ------
        ValueError
            If the flow cannot serve such data.
        """

    def check_support(self, positions: Tensor) -> Tensor:
        """Return which of the frames [F, N, 3] / nm have no density under the flow, whatever it
        learns [F]; by default none.

        Raises
        ------
        ValueError
            If they are too many for the flow to sample the same distribution.
        """
        return positions.new_zeros(len(positions), dtype=torch.bool)

    def raise_precision(self) -> None:
        """Have what single precision would spoil computed in double, in a flow that is complete and
        in single precision; by default nothing. Called before a model file is written."""

    def as_model(self) -> tuple["Flow", list[int]]:
        """Return the flow that a model file holds, and the atoms of the training data that it is a
        flow of; by default this one and all."""
        return self, list(range(self.num_atoms))

    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Make one proposal of each row of noise.

        Parameters
        ----------
        x : Tensor [N, 3] or [B, N, 3], nm
            One state for the whole batch (its share of the work is done once), or one for each.
        noise : Tensor [B, noise_size]
            Standard normal deviates.
        lag : Tensor [B], ps
            ``inf``: an independent draw.

        Returns
        -------
        y : Tensor [B, N, 3], nm
            What is not finite is rejected.
        w : Tensor [B, N, 3]
            Auxiliary velocities, dimensionless.
        log_q : Tensor [B], float64
            Logarithm of the density of (y, w) given x, in logs of nm.
        """
        raise NotImplementedError

    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        """Return the log density [B], float64, of (y, w) given x [B or 1, N, 3]."""
        raise NotImplementedError

    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        """Return the noise [B, noise_size] that `sample` makes (y, w) of."""
        raise NotImplementedError
