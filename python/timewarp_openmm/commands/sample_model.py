"""What `sample` samples with a model: the molecule, and the energy that decides first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openmm

    from ..contract import ModelMetadata
    from ..integrator import TimewarpMCMCIntegrator
    from ..simulation.systems import MolecularSystem
    from .sample import SampleOptions


def load_sampled(options: SampleOptions, model: Path) -> tuple[MolecularSystem, ModelMetadata]:
    """Return the molecule that the options ask for, and what the model states."""
    from ..contract import read_metadata
    from ..potentials.registry import stated_force_field
    from ..simulation.systems import load_molecule

    if options.pdb is None:
        raise ValueError("--model needs the molecule: give --pdb")
    metadata = read_metadata(model)
    force_field = options.force_field
    if options.system is None and not force_field and options.target is None:
        force_field = stated_force_field(metadata.force_field)
    molecule = load_molecule(options.pdb, force_field, options.system, target=options.target)
    return molecule, metadata


def set_surrogate(
    options: SampleOptions,
    model: Path,
    metadata: ModelMetadata,
    molecule: MolecularSystem,
    integrator: TimewarpMCMCIntegrator,
) -> None:
    """Have a surrogate decide first: the model's own, or the force field."""
    from ..potentials.surrogates import own_surrogate

    own = own_surrogate(model, metadata, molecule.force_field)
    if own is not None:
        file, measured = own
        subchain = measured if options.subchain is None else options.subchain
        if subchain > 0:
            integrator.setSurrogate(str(file), subchain)
        return
    if not options.subchain:
        return
    from ..energies import surrogate_energy

    system = molecule.system
    if options.target is not None:
        system = _force_field_system(options, metadata)
    energy = surrogate_energy(system, particles=integrator.getParticles())
    integrator.setSurrogate(energy, options.subchain)


def _force_field_system(options: SampleOptions, metadata: ModelMetadata) -> openmm.System:
    from ..potentials.registry import is_potential
    from ..simulation.systems import load_molecule

    force_field = options.force_field
    if options.system is None and not force_field:
        force_field = [name for name in metadata.force_field if not is_potential(name)]
        if not force_field:
            raise ValueError(
                "--subchain with --target needs an energy to test with first; give a --force-field "
                "or a --system"
            )
    assert options.pdb is not None
    return load_molecule(options.pdb, force_field, options.system).system
