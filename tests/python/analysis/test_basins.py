"""Basins: ranges of torsions as a user writes them."""

from __future__ import annotations

import numpy as np
import pytest

from timewarp_openmm.analysis.basins import membership_of, parse_basin
from timewarp_openmm.analysis.torsions import Torsion, folded_torsions, proper_torsions
from timewarp_openmm.molecule.graph import molecule_from_topology
from timewarp_openmm.simulation.systems import named_molecule

TORSIONS = proper_torsions(molecule_from_topology(named_molecule("alanine-dipeptide").topology))


def test_a_basin_is_a_range_or_several() -> None:
    basin = parse_basin("alpha=phi:-180:0,psi:-120:45", TORSIONS)
    assert basin.name == "alpha"
    assert [(r.torsion.kind, r.low, r.high) for r in basin.ranges] == [
        ("phi", -180.0, 0.0),
        ("psi", -120.0, 45.0),
    ]
    phi = basin.ranges[0].torsion
    # The whole name, which has a colon, is one as well.
    assert parse_basin(f"{phi.name}:0:137", TORSIONS).ranges[0].torsion == phi
    assert parse_basin("phi:0:137", TORSIONS).name == "phi:0:137"


@pytest.mark.parametrize(
    ("low", "high", "inside"),
    [
        (0, 137.5, [60, 137]),
        (150, -150, [160, 180, -170]),
        (45, 240, [60, 137, 160, 180, -170]),
        (-180, 180, [60, 137, 160, 180, -170, -60]),
    ],
)
def test_ranges_are_on_the_circle(low: float, high: float, inside: list[float]) -> None:
    angles = np.array([60, 137, 160, 180, -170, -60])
    found = parse_basin(f"phi:{low}:{high}", TORSIONS).ranges[0].contains(np.radians(angles))
    assert angles[found].tolist() == inside


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("phi", "is not TORSION:LOW:HIGH in degrees"),
        ("phi:0", "is not TORSION:LOW:HIGH in degrees"),
        ("phi:low:high", "is not TORSION:LOW:HIGH in degrees"),
        ("phi:0:nan", "angles that are not from"),
        ("phi:0:2000", "angles that are not from"),
        ("phi:-300:300", "not within one turn"),
        ("chi1:0:60", "no torsion named 'chi1' in the molecule; it has: phi A:ALA2, psi A:ALA2"),
        ("omega:0:60", "2 torsions named 'omega'"),
        ("phi:0:60,", "is not TORSION:LOW:HIGH"),
    ],
)
def test_mistakes_say_what_is_wanted(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"basin|torsion|range") as raised:
        parse_basin(text, TORSIONS)
    assert message in str(raised.value)


def test_frames_are_told_by_their_torsions() -> None:
    molecule = named_molecule("alanine-dipeptide")
    phi: Torsion = parse_basin("phi:0:1", TORSIONS).ranges[0].torsion
    value = float(np.degrees(folded_torsions(molecule.positions[None], [phi])[0, 0]))
    texts = (f"phi:{value - 1}:{value + 1}", f"phi:{value + 1}:{value - 1}", "phi:-180:180")
    inside = membership_of([parse_basin(text, TORSIONS) for text in texts])
    assert inside(molecule.positions[None]).tolist() == [[True, False, True]]
    assert membership_of([])(molecule.positions[None]).shape == (1, 0)
