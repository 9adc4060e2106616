"""The double bonds of amino acids and caps, by their atoms' names in the PDB."""

from __future__ import annotations

#: Two atom names for each double bond.
Doubles = frozenset[frozenset[str]]

# Beside C=O of the backbone. Bars part the forms of different protonation states.
_SIDE_CHAINS = {
    "ARG": "CZ=NH2 | CZ=NH1 | CZ=NE",
    "ASN": "CG=OD1",
    "ASP ASH": "CG=OD1 | CG=OD2",
    "GLN": "CD=OE1",
    "GLU GLH": "CD=OE1 | CD=OE2",
    "HIS HID HIE HIP": "CG=CD2 CE1=ND1 | CG=CD2 CE1=NE2",
    "PHE TYR": "CG=CD1 CD2=CE2 CE1=CZ",
    "TRP": "CG=CD1 CD2=CE2 CE3=CZ3 CZ2=CH2",
    "ACE ALA CYS CYM CYX GLY ILE LEU LYN LYS MET NH2 NHE NME PRO SER THR VAL": "",
}


def _parse(text: str) -> Doubles:
    return frozenset(frozenset(bond.split("=")) for bond in ["C=O", *text.split()])


#: Residue name to the double bonds that it may have; all its others are single.
DOUBLE_BONDS: dict[str, tuple[Doubles, ...]] = {
    name: tuple(_parse(text) for text in places.split("|"))
    for names, places in _SIDE_CHAINS.items()
    for name in names.split()
}
