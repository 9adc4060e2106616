"""The double bonds of amino acids and caps, by their atoms' names in the PDB."""

from __future__ import annotations

_CARBONYL = frozenset({frozenset({"C", "O"})})
_RING = (("CG", "CD1"), ("CD2", "CE2"), ("CE1", "CZ"))
_SIDE_CHAINS: dict[str, tuple[tuple[str, str], ...]] = {
    "ARG": (("CZ", "NH2"),),
    "ASN": (("CG", "OD1"),),
    "ASP ASH": (("CG", "OD1"),),
    "GLN": (("CD", "OE1"),),
    "GLU GLH": (("CD", "OE1"),),
    "HIS HID HIE HIP": (("CG", "CD2"), ("CE1", "ND1")),
    "PHE TYR": _RING,
    "TRP": (("CG", "CD1"), ("CD2", "CE2"), ("CE3", "CZ3"), ("CZ2", "CH2")),
    "ACE ALA CYS CYM CYX GLY ILE LEU LYN LYS MET NH2 NHE NME PRO SER THR VAL": (),
}
#: Residue name to its double bonds; all others are single.
DOUBLE_BONDS = {
    name: _CARBONYL | {frozenset(pair) for pair in pairs}
    for names, pairs in _SIDE_CHAINS.items()
    for name in names.split()
}
#: Of a histidine with a hydrogen on ND1 alone.
DELTA_HISTIDINE = _CARBONYL | {frozenset({"CG", "CD2"}), frozenset({"CE1", "NE2"})}
