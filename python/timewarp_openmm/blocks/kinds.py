"""What blocks move: the kinds that a plan names."""

from __future__ import annotations

from typing import Literal

#: Of models that are joined from a library's residues, and of model files that are given.
PEPTIDE, END, MOLECULE, PART = "peptide", "end of a chain", "molecule", "part"
Kind = Literal["side chain", "peptide", "end of a chain", "molecule", "part"]
#: In the order in which they are counted for people, with their plurals.
PLURALS: dict[Kind, str] = {
    "molecule": "molecules",
    "part": "parts",
    "peptide": "peptides",
    "end of a chain": "ends of chains",
    "side chain": "side chains",
}
