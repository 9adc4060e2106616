"""The integrator that users put into their OpenMM scripts."""

from __future__ import annotations

import hashlib
import io
import math
import operator
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import openmm
from openmm import unit

from ._libraries import load_plugin
from .files import check_utf8
from .latent import LatentChoice, latent_choice
from .molecule.matching import match_atoms
from .units import KELVIN, NANOMETER, PICOSECOND, value_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from openmm import app

_plugin = load_plugin()

#: C++'s int.
_LARGEST_INT = 2**31 - 1


@dataclass(frozen=True)
class BlockStatistics:
    """What has become of the proposals of one block so far.

    Attributes
    ----------
    tried : int
        Proposals that were tried; with a surrogate, subchains of them.
    accepted : int
        Those that have moved the state.
    screened : int
        Proposals that a cheaper energy has rejected before the System's was asked for.
    nonFinite : int
        Proposals rejected because the model (or the cheaper energy) returned NaN or infinity.
    rigidTried, rigidAccepted : int
        Rigid moves of the block, and those that were accepted.
    """

    tried: int
    accepted: int
    screened: int
    nonFinite: int
    rigidTried: int
    rigidAccepted: int


class TimewarpMCMCIntegrator(openmm.Integrator):
    """Samples the Boltzmann distribution in large learned jumps.

    In each step a conditional normalising flow (Timewarp, Klein et al., NeurIPS 2023, arXiv
    2302.01170) proposes new positions for all atoms of the molecule, and the System's own potential
    energy accepts or rejects them. The samples are exact whatever the flow has learned; its quality
    determines only how many proposals are accepted. The trajectory is not a dynamical one.

    A step is what ``step(1)`` does: one proposal of the flow, or with a surrogate (`setSurrogate`)
    a subchain of them, of which the System's energy accepts or rejects the end.

    Any parts of any System can be moved, each by a model (`addBlock`), and molecular dynamics can
    move everything between the proposals (`setDynamics`). A step is then those dynamics and
    `setProposalsPerStep` proposals.

    Parameters
    ----------
    model : str or path-like, optional
        A TorchScript model that follows the contract in docs/contract.md, for instance
        ``timewarp_openmm.pretrained("alanine-dipeptide")``. It is block 0. Without one, give
        `temperature`, and say what moves with `addBlock`, `setDynamics` or both.
    topology : openmm.app.Topology, optional
        Of the whole System. Needed when the System's atoms are in another order than the model's,
        or other molecules are among them: the model's molecule is found by its bond graph, and
        atoms that this does not tell apart by their names.
    temperature : float or Quantity, optional
        In kelvin; by default the temperature the model was trained for.
    embedModel : bool
        Store the models themselves when the integrator is serialized, copied or pickled. By default
        their paths and SHA-256 digests are stored, and those very files are needed to read the
        integrator.
    particles : sequence of int, optional
        Where the topology holds several copies of the molecule: the atoms of the one that the model
        moves, in any order.
    positions : array or Quantity [N, 3], optional
        Of the topology's atoms (nm). Equivalent atoms that names do not tell apart, such as those
        of an isopropyl group, are then told apart by the chirality of the centre they are on.
    trust : bool
        Let the model use any operator of TorchScript, also those that reach files and other
        processes. By default it may only compute, and a file that does more is refused before
        anything of it runs. The file stays trusted in this process, as `trust` describes.

    Raises
    ------
    openmm.OpenMMException
        If the model is missing, damaged, does more than arithmetic without being trusted, or does
        not honour the contract. A System that the model
        does not fit is refused in the same way when the Context is created.
    ValueError
        If the topology does not hold the model's molecule, or holds several and `particles` does
        not say which; or if there is neither a model nor a temperature.

    Examples
    --------
    >>> integrator = TimewarpMCMCIntegrator(temperature=300)
    >>> integrator.setDynamics(steps=100, stepSize=0.004, frictionCoeff=1.0)
    >>> integrator.getNumBlocks(), integrator.getDynamicsSteps()
    (0, 100)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        topology: app.Topology | None = None,
        temperature: float | unit.Quantity | None = None,
        embedModel: bool = False,
        particles: Sequence[int] | None = None,
        positions: NDArray[np.floating] | unit.Quantity | None = None,
        trust: bool = False,
    ) -> None:
        if model is None:
            if temperature is None:
                raise ValueError("without a model temperature= is needed")
            if not (topology is None and particles is None and positions is None):
                raise ValueError(
                    "topology=, particles= and positions= say which atoms a model moves, and there "
                    "is none; pass them to addBlock() with each model"
                )
        # The C++ object must come with openmm's own SWIG wrapper, and the serializer makes one.
        self.this = openmm.XmlSerializer.deserialize(_integrator_xml(model, trust)).this
        self.setEmbedModel(embedModel)
        if temperature is not None:
            self.setTemperature(temperature)
        if model is None:
            return
        if topology is not None:
            self.setParticles(match_atoms(self.getModelPath(), topology, particles, positions))
            _plugin.set_topology_size(self._address(), topology.getNumAtoms())
        elif particles is not None or positions is not None:
            raise ValueError(
                "particles= and positions= are about the atoms of topology=; pass it, too, or call "
                "setParticles() with the particles in the model's order"
            )

    @staticmethod
    def cast(integrator: openmm.Integrator) -> TimewarpMCMCIntegrator:
        """Give an integrator that OpenMM returned as a plain Integrator its class back.

        Raises
        ------
        TypeError
            If it is an integrator of another kind, or no integrator at all.
        """
        # The address of anything else is not that of an Integrator, and to look there would crash.
        is_integrator = isinstance(integrator, openmm.Integrator) and hasattr(integrator, "this")
        if not is_integrator or not _plugin.is_timewarp(int(integrator.this)):
            raise TypeError(f"{type(integrator).__name__} is not a TimewarpMCMCIntegrator")
        integrator.__class__ = TimewarpMCMCIntegrator
        return integrator  # type: ignore[no-any-return]

    def _address(self) -> int:
        return int(self.this)

    def addBlock(
        self,
        model: str | os.PathLike[str],
        particles: Sequence[int] | None = None,
        weight: float = 1.0,
        topology: app.Topology | None = None,
        positions: NDArray[np.floating] | unit.Quantity | None = None,
        trust: bool = False,
    ) -> int:
        """Add a part of the System whose atoms a model moves, before a Context is made.

        Blocks may have atoms in common, and a model may be used for several: it is loaded once.
        Which block a proposal is of is picked at random by the blocks' weights.

        Parameters
        ----------
        model : str or path-like
            As for the class.
        particles : sequence of int, optional
            The particle of each of the model's atoms, in the model's order. Those of context atoms,
            which the model sees but does not move, are among them. With `topology`, the atoms of
            the molecule that is meant, in any order; needed only where there are several copies.
        weight : float
            How often proposals are of this block, in proportion to the weights of the others.
        topology : openmm.app.Topology, optional
            Of the whole System: the model's molecule is found in it, as for the class.
        positions : array or Quantity [N, 3], optional
            Of the topology's atoms (nm), as for the class.
        trust : bool
            As for the class.

        Returns
        -------
        int
            The index of the block.

        Raises
        ------
        openmm.OpenMMException
            If the model is refused as the class refuses one, or the particles cannot be those of
            its atoms, or the weight is negative, NaN or infinite, or there is a Context already.
        ValueError
            If nothing says which particles are meant, or the topology does not hold the molecule,
            or is of another System than that of an earlier block.
        """
        path = _model_path(model, trust)
        if topology is not None:
            self._check_topology_size(topology)
            particles = match_atoms(path, topology, particles, positions)
        elif positions is not None:
            raise ValueError("positions= is about the atoms of topology=; pass it, too")
        elif particles is None or len(particles) == 0:
            raise ValueError(
                "a block needs the particle of each of its model's atoms: pass particles=, or "
                "topology= of the whole System to find the molecule in it"
            )
        numbers = [_as_int("a particle", particle) for particle in particles]
        index = _plugin.add_block(self._address(), path, numbers, float(weight))
        if topology is not None:
            _plugin.set_topology_size(self._address(), topology.getNumAtoms())
        return int(index)

    def _check_topology_size(self, topology: app.Topology) -> None:
        known, size = _plugin.get_topology_size(self._address()), topology.getNumAtoms()
        if known not in (0, size):
            raise ValueError(
                f"the topology has {size} atoms, but that of an earlier block has {known}; pass "
                "topology= of the whole System for each block"
            )

    def getNumBlocks(self) -> int:
        """Get the number of blocks; the model that the class was given is block 0."""
        return int(_plugin.get_num_blocks(self._address()))

    def getBlockModelPath(self, index: int) -> str:
        """Get the path of a block's model file."""
        return str(_plugin.get_block_model_path(self._address(), _as_int("a block", index)))

    def getBlockParticles(self, index: int) -> list[int]:
        """Get the particle of each atom of a block's model; empty where atom i is particle i."""
        return list(_plugin.get_block_particles(self._address(), _as_int("a block", index)))

    def getBlockWeight(self, index: int) -> float:
        """Get how often proposals are of a block, in proportion to the others' weights."""
        return float(_plugin.get_block_weight(self._address(), _as_int("a block", index)))

    def getBlockStatistics(self, index: int) -> BlockStatistics:
        """Get what has become of a block's proposals so far.

        A checkpoint and a State hold these numbers, so that a run that goes on from one counts on.

        Raises
        ------
        openmm.OpenMMException
            If there is no such block.
        """
        address, index = self._address(), _as_int("a block", index)
        return BlockStatistics(
            tried=_plugin.get_block_num_tried(address, index),
            accepted=_plugin.get_block_num_accepted(address, index),
            screened=_plugin.get_block_num_screened(address, index),
            nonFinite=_plugin.get_block_num_non_finite(address, index),
            rigidTried=_plugin.get_block_num_rigid_tried(address, index),
            rigidAccepted=_plugin.get_block_num_rigid_accepted(address, index),
        )

    def setDynamics(
        self,
        steps: int,
        stepSize: float | unit.Quantity,
        frictionCoeff: float | unit.Quantity,
    ) -> None:
        """Set molecular dynamics that each step does before its proposals.

        They are those of a LangevinMiddleIntegrator with the same settings, at this integrator's
        temperature, and advance the Context's time by ``steps * stepSize``. They have the error of
        their time step, as all unadjusted dynamics have; proposals alone have none. Call it before
        a Context is made.

        Parameters
        ----------
        steps : int
            Number of time steps; 0 (the default of a new integrator) for no dynamics.
        stepSize : float or Quantity
            The time step (ps).
        frictionCoeff : float or Quantity
            The friction coefficient (1/ps).

        Raises
        ------
        openmm.OpenMMException
            If one of them is negative or not finite, or there is a Context already.
        ValueError
            If a Quantity has another dimension.
        """
        _plugin.set_dynamics(
            self._address(),
            _as_int("the number of dynamics steps", steps),
            value_in(stepSize, PICOSECOND),
            value_in(frictionCoeff, PICOSECOND**-1),
        )

    def getDynamicsSteps(self) -> int:
        """Get the number of time steps of dynamics in each step; 0 for none."""
        return int(_plugin.get_dynamics_steps(self._address()))

    def getDynamicsStepSize(self) -> unit.Quantity:
        """Get the time step of the dynamics (ps)."""
        return unit.Quantity(_plugin.get_dynamics_step_size(self._address()), unit.picosecond)

    def getDynamicsFriction(self) -> unit.Quantity:
        """Get the friction coefficient of the dynamics (1/ps)."""
        return unit.Quantity(_plugin.get_dynamics_friction(self._address()), unit.picosecond**-1)

    def getProposalsPerStep(self) -> int:
        """Get the number of proposals that are tried in one step."""
        return int(_plugin.get_proposals_per_step(self._address()))

    def setProposalsPerStep(self, proposals: int) -> None:
        """Set the number of proposals that are tried in one step (default 1).

        Each is of a block that is picked by the blocks' weights. There can be none where steps do
        dynamics.
        """
        number = _as_int("the number of proposals in a step", proposals)
        _plugin.set_proposals_per_step(self._address(), number)

    def getBlocksPerTry(self) -> int:
        """Get the number of blocks in each try."""
        return int(_plugin.get_blocks_per_try(self._address()))

    def setBlocksPerTry(self, blocks: int) -> None:
        """Set the number of blocks in each try (default 1).

        They are picked by their weights, run their subchains one after the other by their local
        energies, and the System's energy decides on all of them at once. That pays for many blocks
        in a large System, whose energy costs much more than local ones. All blocks must be
        screened, and without dynamics none may be a whole molecule.
        """
        number = _as_int("the number of blocks in a try", blocks)
        _plugin.set_blocks_per_try(self._address(), number)

    def getScreening(self) -> bool:
        """Get whether proposals of blocks are tested with a local energy first."""
        return bool(_plugin.get_screening(self._address()))

    def setScreening(self, use: bool) -> None:
        """Set whether a local energy tests blocks of a larger System first (default True).

        It is made of the System's own terms that contain a moved atom, without what reaches farther
        than a cut-off. The System's energy is computed only for proposals that pass, and decides on
        them such that the samples are the same. A surrogate takes its place. Call it before a
        Context is made.
        """
        _plugin.set_screening(self._address(), use)

    def getLatentCorrelation(self) -> list[LatentChoice]:
        """Get how independent draws are correlated with the state."""
        correlations = _plugin.get_latent_correlations(self._address())
        weights = _plugin.get_latent_correlation_weights(self._address())
        shares = _plugin.get_latent_shares(self._address())
        torsions = _plugin.get_latent_torsions(self._address())
        columns = zip(correlations, weights, shares, torsions, strict=True)
        return [LatentChoice(*column) for column in columns]

    def setLatentCorrelation(self, choices: Sequence[LatentChoice | Sequence[float]]) -> None:
        """Set how independent draws are correlated with the state, before a Context is made.

        A flow f that has made the state of normal deviates z proposes
        ``f(rho z + sqrt(1 - rho^2) xi)``, xi being fresh ones. With rho = 0 (the default) that is
        an independent draw. Where few of these are accepted, the small steps of a rho near 1 are
        accepted more often, and so are those that draw a few of the numbers in z only: these change
        a few coordinates of the molecule and leave the others nearly as they are, most of all if
        they are one or two of the numbers that make rotatable torsions. The sampled distribution
        is the same whatever is chosen.

        Parameters
        ----------
        choices : sequence of LatentChoice or of (rho, weight[, share[, torsions]])
            What proposals pick from, as often as the weights say. None for independent draws only.

        Raises
        ------
        ValueError
            If a choice has more or fewer numbers, or a part of a torsion.
        openmm.OpenMMException
            If they are out of range, or there is a Context already. Creating a Context raises it
            where a model does not draw independently of the state.

        Examples
        --------
        >>> choices = [(0.0, 0.5), (0.9, 0.25), (0.99, 0.25)]
        >>> integrator.setLatentCorrelation(choices)  # doctest: +SKIP
        >>> one_torsion = LatentChoice(rho=0.0, weight=1.0, torsions=1)
        >>> integrator.setLatentCorrelation([one_torsion])  # doctest: +SKIP
        """
        steps = [latent_choice(choice) for choice in choices]
        columns = ([step[k] for step in steps] for k in range(len(LatentChoice._fields)))
        _plugin.set_latent_correlations(self._address(), *columns)

    def setRigidMoves(
        self,
        maxTranslation: float | unit.Quantity = 0.2,
        maxRotation: float | unit.Quantity = math.pi,
    ) -> None:
        """Set how far rigid moves go, before a Context is made.

        A flow of shapes leaves the molecule where it lies. Where the energy depends on that (a
        restraint, a field, other molecules, periodic images) and nothing else moves the molecule,
        there is a small random displacement or turn for each proposal of the block, with a test
        of its own. They come in rounds of eight, after the first of eight proposals. How far one
        goes is drawn each time, log-uniformly from two decades. Where the energy does not depend
        on it nothing is done. Once rigid moves have begun, they go on.

        Parameters
        ----------
        maxTranslation : float or Quantity
            The largest displacement, in nm; 0 for none.
        maxRotation : float or Quantity
            The largest turn, in radians, at most pi; 0 for none. ``step`` raises an
            OpenMMException where moves are needed that there are none of.

        Raises
        ------
        openmm.OpenMMException
            If they are out of range, or there is a Context already.
        """
        _plugin.set_rigid_moves(
            self._address(),
            float(value_in(maxTranslation, NANOMETER)),
            float(value_in(maxRotation, unit.radian)),
        )

    def getRigidTranslation(self) -> unit.Quantity:
        """Get how far a rigid move displaces a molecule at most, in nm."""
        return _plugin.get_rigid_translation(self._address()) * unit.nanometer

    def getRigidRotation(self) -> unit.Quantity:
        """Get by what angle a rigid move turns a molecule at most, in radians."""
        return _plugin.get_rigid_rotation(self._address()) * unit.radian

    def getFrozenOthers(self) -> bool:
        """Get whether particles that nothing moves may stay where they are for ever."""
        return bool(_plugin.get_frozen_others(self._address()))

    def setFrozenOthers(self, frozen: bool) -> None:
        """Set whether particles that nothing moves stay where they are (default False).

        By default creating a Context refuses them: the chain would not sample the System's
        Boltzmann distribution, but that of the moved particles among frozen ones. What moves
        particles are blocks, dynamics, and the other integrators of a CompoundIntegrator. Call it
        before a Context is made.
        """
        _plugin.set_frozen_others(self._address(), frozen)

    def getModelPath(self) -> str:
        """Get the path of the model file."""
        return str(_plugin.get_model_path(self._address()))

    def getModelSha256(self) -> str:
        """Get the SHA-256 digest of the model file, as 64 hexadecimal digits."""
        return str(_plugin.get_model_sha256(self._address()))

    def getModelDevice(self) -> str:
        """Get where the flow runs, in torch's words: "cpu", or "cuda:0".

        It is on the GPU in a Context of the CUDA platform, if the installed torch can use CUDA.
        """
        return str(_plugin.get_model_device(self._address()))

    def getEmbedModel(self) -> bool:
        """Get whether the models themselves are stored when the integrator is serialized."""
        return bool(_plugin.get_embed_model(self._address()))

    def setEmbedModel(self, embed: bool) -> None:
        """Set whether the models themselves are stored when the integrator is serialized.

        If not (the default), their paths and SHA-256 digests are, and a changed file is refused.
        Each distinct model is stored once.
        """
        _plugin.set_embed_model(self._address(), embed)

    def getUseCudaGraphs(self) -> bool:
        """Get whether the flow's work is recorded as a CUDA graph."""
        return bool(_plugin.get_use_cuda_graphs(self._address()))

    def setUseCudaGraphs(self, use: bool) -> None:
        """Set whether the flow's work is recorded as a CUDA graph, before a Context is made.

        A batch of proposals is then made by one instruction to the GPU instead of thousands. There
        is one graph for each batch size, recorded at the first batch of that size and compared with
        the flow's own results; a batch size that adapts takes powers of two only. The sampled chain
        is the same, apart from rounding.

        Raises
        ------
        openmm.OpenMMException
            If there is a Context already. Creating one raises it where the flow does not run on
            a CUDA device, and ``step`` where the flow cannot be recorded because it waits for the
            GPU or decides by the values of tensors.
        """
        _plugin.set_use_cuda_graphs(self._address(), use)

    def getLagTimes(self) -> unit.Quantity:
        """Get the lag times that proposals are made for, in ps; infinity is an independent draw."""
        return unit.Quantity(list(_plugin.get_lag_times(self._address())), unit.picosecond)

    def getLagWeights(self) -> list[float]:
        """Get how often each of the lag times is picked (weights, of any sum)."""
        return list(_plugin.get_lag_weights(self._address()))

    def setLagWeights(self, weights: Sequence[float]) -> None:
        """Set how often each of the lag times is picked, in proportion to these weights.

        The default are the weights that the model states. They change how fast the chain explores,
        not what it samples, and may be set at any time between steps.

        Parameters
        ----------
        weights : sequence of float
            One for each of the lag times; none negative, and not all of them 0.

        Raises
        ------
        openmm.OpenMMException
            If they are not that.
        """
        _plugin.set_lag_weights(self._address(), [float(weight) for weight in weights])

    def getTemperature(self) -> unit.Quantity:
        """Get the temperature of the sampled distribution, in kelvin."""
        return _plugin.get_temperature(self._address()) * unit.kelvin

    def setTemperature(self, temperature: float | unit.Quantity) -> None:
        """Set the temperature of the sampled distribution (in kelvin).

        The proposals remain those of the temperature the model was trained for, so moving far from
        it costs acceptance, not exactness.
        """
        _plugin.set_temperature(self._address(), float(value_in(temperature, KELVIN)))

    def getRandomNumberSeed(self) -> int:
        """Get the random number seed that was set, here or in the run whose State was loaded.

        0 means that none was, and that each Context picks one.
        """
        return int(_plugin.get_random_number_seed(self._address()))

    def setRandomNumberSeed(self, seed: int) -> None:
        """Set the random number seed; 0 (the default) picks one for each Context that is created.

        The same seed, platform, number of threads and batch size give the same chain bit for bit.
        The integrators in a CompoundIntegrator have random numbers of their own, also if they have
        the same seed.

        A State and a checkpoint hold the seed of the run that wrote them. Loading a checkpoint goes
        on with that run bit for bit, whatever seed was set before. So does loading a State if no
        seed was set. If one was, it is used instead, whether it was set before the State is loaded
        or after: so several different runs can start from one State. A Context that loads one State
        several times, as replica exchange does at its start, begins another run each time but the
        first.
        """
        _plugin.set_random_number_seed(self._address(), seed)

    def getBatchSize(self) -> int:
        """Get how many proposals are computed together; 0 means adapted to the acceptance rate."""
        return int(_plugin.get_batch_size(self._address()))

    def setBatchSize(self, size: int) -> None:
        """Set how many proposals are computed together; 0 (the default) adapts.

        A batch is prefetched for the case that proposals are rejected. The sampled chain does not
        depend on it, apart from rounding in matrix products.
        """
        _plugin.set_batch_size(self._address(), size)

    def getParticles(self) -> list[int]:
        """Get the particle of the System for each atom of the model; empty for the same order."""
        return list(_plugin.get_particles(self._address()))

    def setParticles(self, particles: list[int]) -> None:
        """Set the particle of the System for each atom of the model, before a Context is made."""
        _plugin.set_particles(self._address(), list(particles))

    def getSurrogate(self) -> bytes:
        """Get the surrogate energy as the content of a TorchScript file; empty if there is none."""
        return bytes(_plugin.get_surrogate(self._address()))

    def setSurrogate(
        self,
        surrogate: torch.jit.ScriptModule | str | os.PathLike[str] | bytes | None,
        subchainLength: int | None = None,
        trust: bool = False,
    ) -> None:
        """Set an approximate energy with which proposals are tested first, or None for none.

        It computes the energies of a whole batch of proposals at once. The System's own energy is
        then asked for once in every `subchainLength` proposals, and accepts or rejects where these
        have led (delayed acceptance; Christen and Fox, J. Comput. Graph. Stat. 14, 795 (2005), and
        for more than one proposal Liu's surrogate transition method). The samples are those of the
        System's energy whatever the surrogate is; a poor one costs acceptance.

        Call it before a Context is made. ``timewarp_openmm.energies.surrogate_energy(system)``
        makes one of the System itself.

        Parameters
        ----------
        surrogate : ScriptModule, path-like, bytes or None
            Takes positions [B, N, 3] / nm of the model's atoms in float32, and returns energies [B]
            / kJ/mol in float64. Bytes are the content of a TorchScript file.
        subchainLength : int, optional
            As for `setSubchainLength`.
        trust : bool
            Let it use any operator of TorchScript, as for the model.

        Raises
        ------
        openmm.OpenMMException
            If it is no TorchScript module, or does more than arithmetic without being trusted, or
            there is a Context already.
        """
        content = _script_content(surrogate)
        if trust:
            _trust_content(content)
        _plugin.set_surrogate(self._address(), content)
        if subchainLength is not None:
            self.setSubchainLength(subchainLength)

    def getSubchainLength(self) -> int:
        """Get the number of proposals that make up a step when there is a surrogate."""
        return int(_plugin.get_subchain_length(self._address()))

    def setSubchainLength(self, length: int) -> None:
        """Set the number of proposals that make up a try, where another energy tests them first.

        That is a surrogate, or the local energy of a block (default 1). They are accepted or
        rejected one after the other with it, and where this ends is accepted or rejected with the
        System's. Latent steps that know the state (`setLatentCorrelation`) are made at once
        instead, as alternatives to it, and one of up to 64 of them, or the state, is chosen.
        Elsewhere a try is always one proposal.
        """
        _plugin.set_subchain_length(self._address(), length)

    def getSurrogateAcceptanceRate(self) -> float:
        """Get the fraction of the flow's proposals that the surrogate has accepted so far."""
        return float(_plugin.get_surrogate_acceptance_rate(self._address()))

    def getNumProposed(self) -> int:
        """Get the number of steps so far: of states proposed to the System's energy.

        With a surrogate each is the end of a subchain of `getSubchainLength` proposals of the flow.
        """
        return int(_plugin.get_num_proposed(self._address()))

    def getNumAccepted(self) -> int:
        """Get the number of steps so far that have moved the state."""
        return int(_plugin.get_num_accepted(self._address()))

    def getNumNonFinite(self) -> int:
        """Get how many proposals of the flow were rejected because of NaN or infinity.

        Model, surrogate or the System's energy have returned it.
        """
        return int(_plugin.get_num_non_finite(self._address()))

    def getAcceptanceRate(self) -> float:
        """Get the fraction of steps that have moved the state; 0 before the first."""
        return float(_plugin.get_acceptance_rate(self._address()))


def trust(sha256: str) -> None:
    """Let a file use any operator of TorchScript, in this process.

    A model or surrogate may write files, start programs or send data while it is read. A file that
    could is refused, whether it comes by its path or inside the XML of an Integrator,
    unless it is trusted: by ``trust=True`` where a path is given, by this function, or by the
    environment variable ``TIMEWARP_TRUSTED_FILES``, which holds digests separated by commas and
    is also for the command line and for child processes.

    Parameters
    ----------
    sha256 : str
        Digest of the file's content, as ``sha256sum`` prints it and as the refusal names it.

    Raises
    ------
    openmm.OpenMMException
        If it is not a digest.
    """
    _plugin.trust_file(sha256)


def _as_int(what: str, value: int) -> int:
    """Return an integer of any type as one that the plugin takes."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{what} must be an integer, not {value!r}") from None
    if abs(number) > _LARGEST_INT:
        raise ValueError(f"{what} must be at most {_LARGEST_INT}, not {number}")
    return number


def _model_path(model: str | os.PathLike[str], trusted: bool) -> str:
    """Return the absolute path of a model file, having trusted its content if that is asked for."""
    if trusted:
        _trust_content(Path(model).read_bytes())
    path = os.path.abspath(os.fsdecode(model))
    check_utf8(path)
    return path


def _integrator_xml(model: str | os.PathLike[str] | None, trusted: bool) -> str:
    """Return the XML of an integrator, at 300 K where there is no model."""
    head = '<Integrator type="TimewarpMCMCIntegrator" version="2" hasModel='
    if model is None:
        return f'{head}"0" temperature="300"/>'
    path = escape(_model_path(model, trusted), {'"': "&quot;"})
    return f'{head}"1"><Blocks><Block modelPath="{path}"/></Blocks></Integrator>'


def _trust_content(content: bytes) -> None:
    trust(hashlib.sha256(content).hexdigest())


def _script_content(
    module: torch.jit.ScriptModule | str | os.PathLike[str] | bytes | None,
) -> bytes:
    if module is None:
        return b""
    if isinstance(module, bytes):
        return module
    if isinstance(module, (str, os.PathLike)):
        return Path(module).read_bytes()
    import torch

    if not isinstance(module, torch.jit.ScriptModule):
        raise TypeError(
            f"a surrogate is a torch.jit.ScriptModule, not a {type(module).__name__}; make one "
            "with timewarp_openmm.energies.surrogate_energy(system) or torch.jit.script(module)"
        )
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    return buffer.getvalue()
