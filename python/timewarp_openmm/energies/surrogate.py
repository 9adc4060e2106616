"""From a System to its energy as a torch module, for many conformations at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import openmm
import torch
from openmm import unit
from torch import Tensor, nn

from .expressions import Expression
from .terms import (
    Angles,
    BornTerm,
    CoordinateTerm,
    Distances,
    PairTerm,
    PositionTerm,
    Torsions,
)

#: Coulomb's constant / kJ nm/mol/e^2, as OpenMM has it.
COULOMB = 138.93545764438198
#: Forces that add nothing to the energy.
WITHOUT_ENERGY = ("AndersenThermostat", "CMMotionRemover")
#: OBC II in CustomGBForce's language (OpenMM user guide, "GBSAOBCForce"); lengths in nm.
BORN_INTEGRAL = (
    "select(step(r+sr2-or1), 0.5*(1/L-1/U+0.25*(r-sr2^2/r)*(1/(U^2)-1/(L^2))+0.5*log(L/U)/r), 0);"
    "U=r+sr2; L=max(or1, D); D=abs(r-sr2)"
)
BORN_RADIUS = "1/(1/or-tanh(psi-0.8*psi^2+4.85*psi^3)/radius); psi=I*or"
BORN_SELF = "-0.5*scale*charge^2/B + 4*3.14159265358979*surface*(radius+0.14)^2*(radius/B)^6"
BORN_PAIR = "-scale*charge1*charge2/sqrt(r^2+B1*B2*exp(-r^2/(4*B1*B2)))"
_BORN_OFFSET = 0.009


class PotentialEnergy(nn.Module):
    """A sum of terms: positions [B, N, 3] / nm to energies [B] / kJ/mol, in float64."""

    def __init__(self, terms: Sequence[nn.Module]) -> None:
        super().__init__()
        self.terms = nn.ModuleList(terms)

    def forward(self, positions: Tensor) -> Tensor:
        return torch.stack([term(positions) for term in self.terms]).sum(0)


def surrogate_energy(
    system: openmm.System,
    particles: Sequence[int] | None = None,
    leave_out: Collection[str] = (),
) -> torch.jit.ScriptModule:
    """Translate a System's energy to torch, which computes a whole batch of proposals at once.

    What is made here is for ``TimewarpMCMCIntegrator.setSurrogate``. It works in single precision
    and takes global parameters at their default values.

    Parameters
    ----------
    system : openmm.System
        Without cut-offs and periodic boundary conditions.
    particles : sequence of int, optional
        Which particle each atom of the model is (``integrator.getParticles()``); by default, and if
        empty, atom i is particle i.
    leave_out : collection of str
        Classes of forces to do without. Samples stay exact, fewer of them are accepted.

    Returns
    -------
    torch.jit.ScriptModule
        Takes positions [B, N, 3] / nm and returns energies [B] / kJ/mol in float64.

    Raises
    ------
    ValueError
        If a force cannot be translated, saying which and why.

    Examples
    --------
    >>> from timewarp_openmm.simulation.systems import named_molecule
    >>> alanine = named_molecule("alanine-dipeptide")
    >>> energy = surrogate_energy(alanine.system)
    >>> energy(torch.tensor(alanine.positions[None], dtype=torch.float32)).shape
    torch.Size([1])
    """
    order = _Order(system, particles)
    terms: list[nn.Module] = []
    for force in system.getForces():
        kind = type(force).__name__
        if kind in WITHOUT_ENERGY or kind in leave_out:
            continue
        if kind not in _TRANSLATIONS:
            raise ValueError(
                f"a {kind} cannot be translated to torch (those that can: "
                f"{', '.join(sorted(_TRANSLATIONS))}); leave it out with leave_out=['{kind}'], "
                "which costs acceptance, not exactness"
            )
        if force.usesPeriodicBoundaryConditions():
            raise ValueError(f"the {kind} is periodic; a surrogate knows no periodic boundaries")
        terms += _TRANSLATIONS[kind](force, order)
    if not terms:
        raise ValueError("the System has no forces of which a surrogate could be made")
    generator = torch.Generator().manual_seed(0)
    example = torch.randn(3, order.count, 3, generator=generator)
    with torch.no_grad():
        traced: torch.jit.ScriptModule = torch.jit.trace(  # type: ignore[no-untyped-call]
            PotentialEnergy(terms).eval(), example
        )
    return traced


def untranslatable_forces(system: openmm.System) -> list[str]:
    """Return the classes of a System's forces that `surrogate_energy` does not know."""
    kinds = {type(force).__name__ for force in system.getForces()}
    return sorted(kinds - set(_TRANSLATIONS) - set(WITHOUT_ENERGY))


class _Order:
    """Which atom of the model a particle is."""

    def __init__(self, system: openmm.System, particles: Sequence[int] | None) -> None:
        self.count = system.getNumParticles()
        order = list(particles) if particles else list(range(self.count))
        if sorted(order) != list(range(self.count)):
            raise ValueError(
                "a surrogate is made of a System in which the model moves all particles: there are "
                f"{self.count}, and {len(set(order))} are named"
            )
        self.particles = order
        self._atom = {particle: atom for atom, particle in enumerate(order)}

    def atoms(self, particles: Sequence[int]) -> list[int]:
        return [self._atom[particle] for particle in particles]


def _number(value: Any) -> float:
    plain = value.value_in_unit_system(unit.md_unit_system) if unit.is_quantity(value) else value
    return float(plain)


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, list[float]]:
    return {name: [_number(row[i]) for row in rows] for i, name in enumerate(names)}


def _harmonic_bonds(force: openmm.HarmonicBondForce, order: _Order) -> list[nn.Module]:
    rows = [force.getBondParameters(i) for i in range(force.getNumBonds())]
    parameters = _columns(("r0", "k"), [row[2:] for row in rows])
    return _coordinate_terms(Distances, "r", "0.5*k*(r-r0)^2", rows, parameters, order)


def _harmonic_angles(force: openmm.HarmonicAngleForce, order: _Order) -> list[nn.Module]:
    rows = [force.getAngleParameters(i) for i in range(force.getNumAngles())]
    parameters = _columns(("theta0", "k"), [row[3:] for row in rows])
    return _coordinate_terms(Angles, "theta", "0.5*k*(theta-theta0)^2", rows, parameters, order)


def _periodic_torsions(force: openmm.PeriodicTorsionForce, order: _Order) -> list[nn.Module]:
    rows = [force.getTorsionParameters(i) for i in range(force.getNumTorsions())]
    parameters = _columns(("n", "phase", "k"), [row[4:] for row in rows])
    return _coordinate_terms(Torsions, "theta", "k*(1+cos(n*theta-phase))", rows, parameters, order)


def _rb_torsions(force: openmm.RBTorsionForce, order: _Order) -> list[nn.Module]:
    rows = [force.getTorsionParameters(i) for i in range(force.getNumTorsions())]
    parameters = _columns([f"c{n}" for n in range(6)], [row[4:] for row in rows])
    powers = "c0+x*(c1+x*(c2+x*(c3+x*(c4+x*c5)))); x=-cos(theta)"
    return _coordinate_terms(Torsions, "theta", powers, rows, parameters, order)


def _coordinate_terms(
    kind: type[Distances] | type[Angles] | type[Torsions],
    name: str,
    expression: str,
    rows: Sequence[Sequence[Any]],
    parameters: dict[str, list[float]],
    order: _Order,
    constants: dict[str, float] | None = None,
) -> list[nn.Module]:
    if not rows:
        return []
    coordinate = kind([order.atoms(row[: kind.NUM_ATOMS]) for row in rows])
    return [CoordinateTerm(coordinate, Expression(expression), name, parameters, constants)]


def _constants(force: Any) -> dict[str, float]:
    count = force.getNumGlobalParameters()
    return {
        force.getGlobalParameterName(i): force.getGlobalParameterDefaultValue(i)
        for i in range(count)
    }


def _custom_terms(
    kind: type[Distances] | type[Angles] | type[Torsions], name: str, word: str
) -> Callable[[Any, _Order], list[nn.Module]]:
    """Return the translation of a custom force; OpenMM's methods have `word` in their names."""

    def translate(force: Any, order: _Order) -> list[nn.Module]:
        count = getattr(force, f"getNum{word}s")()
        rows = [getattr(force, f"get{word}Parameters")(i) for i in range(count)]
        names = [
            getattr(force, f"getPer{word}ParameterName")(i)
            for i in range(getattr(force, f"getNumPer{word}Parameters")())
        ]
        parameters = _columns(names, [row[-1] for row in rows])
        expression = force.getEnergyFunction()
        return _coordinate_terms(kind, name, expression, rows, parameters, order, _constants(force))

    return translate


def _custom_external(force: openmm.CustomExternalForce, order: _Order) -> list[nn.Module]:
    rows = [force.getParticleParameters(i) for i in range(force.getNumParticles())]
    if not rows:
        return []
    count = force.getNumPerParticleParameters()
    names = [force.getPerParticleParameterName(i) for i in range(count)]
    parameters = _columns(names, [row[1] for row in rows])
    atoms = order.atoms([row[0] for row in rows])
    expression = Expression(force.getEnergyFunction())
    return [PositionTerm(atoms, expression, parameters, _constants(force))]


def _refuse_cutoff(force: Any) -> None:
    if force.getNonbondedMethod() != force.NoCutoff:
        raise ValueError(
            f"the {type(force).__name__} has a cut-off, which a surrogate does not know; leave it "
            f"out with leave_out=['{type(force).__name__}']"
        )


def _nonbonded(force: openmm.NonbondedForce, order: _Order) -> list[nn.Module]:
    _refuse_cutoff(force)
    if force.getNumParticleParameterOffsets() or force.getNumExceptionParameterOffsets():
        raise ValueError(
            "the NonbondedForce has parameter offsets, which are not translated; leave it out with "
            "leave_out=['NonbondedForce']"
        )
    single = [
        [_number(value) for value in force.getParticleParameters(particle)]
        for particle in order.particles
    ]
    rows: dict[tuple[int, int], tuple[float, float, float]] = {}
    for i, (q1, sigma1, epsilon1) in enumerate(single):
        for j, (q2, sigma2, epsilon2) in enumerate(single[:i]):
            rows[j, i] = (q1 * q2, 0.5 * (sigma1 + sigma2), (epsilon1 * epsilon2) ** 0.5)
    for index in range(force.getNumExceptions()):
        p, q, *values = force.getExceptionParameters(index)
        i, j = sorted(order.atoms([p, q]))
        charge, sigma, epsilon = (_number(value) for value in values)
        rows[i, j] = (charge, sigma, epsilon)
    pairs = [pair for pair, (charge, _, epsilon) in rows.items() if charge != 0 or epsilon != 0]
    if not pairs:
        return []
    charges, sigmas, epsilons = zip(*(rows[pair] for pair in pairs), strict=True)
    return [PairTerm(pairs, [COULOMB * charge for charge in charges], sigmas, epsilons)]


def _born(force: openmm.GBSAOBCForce, order: _Order) -> list[nn.Module]:
    _refuse_cutoff(force)
    rows = [
        [_number(value) for value in force.getParticleParameters(particle)]
        for particle in order.particles
    ]
    offset = [radius - _BORN_OFFSET for _, radius, _ in rows]
    parameters = {
        "charge": [row[0] for row in rows],
        "radius": [row[1] for row in rows],
        "or": offset,
        "sr": [row[2] * inner for row, inner in zip(rows, offset, strict=True)],
    }
    constants = {
        "scale": COULOMB * (1 / force.getSoluteDielectric() - 1 / force.getSolventDielectric()),
        "surface": _number(force.getSurfaceAreaEnergy()),
    }
    computed = [
        ("I", Expression(BORN_INTEGRAL), "any pair"),
        ("B", Expression(BORN_RADIUS), "single"),
    ]
    energies = [(Expression(BORN_SELF), "single"), (Expression(BORN_PAIR), "any pair")]
    return [BornTerm(parameters, constants, computed, energies, {}, [], order.count)]


def _custom_born(force: openmm.CustomGBForce, order: _Order) -> list[nn.Module]:
    _refuse_cutoff(force)
    count = force.getNumPerParticleParameters()
    names = [force.getPerParticleParameterName(i) for i in range(count)]
    parameters = _columns(names, [force.getParticleParameters(p) for p in order.particles])
    kinds = {
        force.SingleParticle: "single",
        force.ParticlePair: "pair",
        force.ParticlePairNoExclusions: "any pair",
    }
    computed = [force.getComputedValueParameters(i) for i in range(force.getNumComputedValues())]
    energies = [force.getEnergyTermParameters(i) for i in range(force.getNumEnergyTerms())]
    exclusions = [
        order.atoms(force.getExclusionParticles(i)) for i in range(force.getNumExclusions())
    ]
    return [
        BornTerm(
            parameters,
            _constants(force),
            [(name, Expression(text), kinds[kind]) for name, text, kind in computed],
            [(Expression(text), kinds[kind]) for text, kind in energies],
            _tables(force),
            [(i, j) for i, j in exclusions],
            order.count,
        )
    ]


def _tables(force: openmm.CustomGBForce) -> dict[str, Tensor]:
    tables = {}
    for i in range(force.getNumTabulatedFunctions()):
        function, name = force.getTabulatedFunction(i), force.getTabulatedFunctionName(i)
        if not isinstance(function, openmm.Discrete2DFunction):
            raise ValueError(
                f"the CustomGBForce has the tabulated function {name} of kind "
                f"{type(function).__name__}; only Discrete2DFunction is translated"
            )
        columns, rows, values = function.getFunctionParameters()
        # OpenMM's table runs fastest along the first argument.
        tables[name] = torch.tensor(values).view(rows, columns).t().contiguous()
    return tables


_TRANSLATIONS: dict[str, Callable[[Any, _Order], list[nn.Module]]] = {
    "CustomAngleForce": _custom_terms(Angles, "theta", "Angle"),
    "CustomBondForce": _custom_terms(Distances, "r", "Bond"),
    "CustomExternalForce": _custom_external,
    "CustomGBForce": _custom_born,
    "CustomTorsionForce": _custom_terms(Torsions, "theta", "Torsion"),
    "GBSAOBCForce": _born,
    "HarmonicAngleForce": _harmonic_angles,
    "HarmonicBondForce": _harmonic_bonds,
    "NonbondedForce": _nonbonded,
    "PeriodicTorsionForce": _periodic_torsions,
    "RBTorsionForce": _rb_torsions,
}
