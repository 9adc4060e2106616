"""The table of molecule kinds: every test of charts runs over all of it.

A new kind is one more entry.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from generic_force_field import simulate
from molecules import SMILES, from_rdkit
from rdkit import Chem
from rdkit.Chem import AllChem

from timewarp_openmm.molecule import Molecule


@dataclass(frozen=True)
class Kind:
    """A molecule, and what its chart must have.

    Attributes
    ----------
    smiles : str
    puckers : int
        Ring torsions on the circle.
    inversions : int
        Offsets on the circle, at atoms that turn inside out.
    flips : int
        Fixed bonds, which are cis or trans.
    pyramids : tuple of str
        Elements of the centres with three neighbours.
    """

    smiles: str
    puckers: int = 0
    inversions: int = 0
    flips: int = 0
    pyramids: tuple[str, ...] = ()


KINDS = {
    # Chains and peptides.
    "ethane": Kind("CC"),
    "alanine dipeptide": Kind("CC(=O)N[C@@H](C)C(=O)NC", flips=2),
    "proline dipeptide": Kind("CC(=O)N1CCC[C@H]1C(=O)NC", puckers=2, flips=2),
    "hydrogen peroxide": Kind("OO"),
    "butadiene": Kind("C=CC=C", flips=2),
    "2-butene": Kind("C/C=C/C", flips=1),
    "isobutene": Kind("CC(C)=C", flips=1),
    "enolate": Kind("C/C=C(/C)[O-]", flips=1),
    # Rings, small to large.
    "cyclopropylmethanol": Kind("OCC1CC1"),
    "epoxide": Kind("CC1CO1"),
    "bicyclobutane": Kind("C1C2CC12"),
    "cyclobutane": Kind("C1CCC1"),
    "cyclopentanol": Kind("OC1CCCC1", puckers=2),
    "cyclohexene": Kind("C1CCCC=C1", puckers=3),
    "methylcyclohexane": Kind("CC1CCCCC1", puckers=3),
    "cycloheptane": Kind("C1CCCCCC1", puckers=4),
    "oxepane": Kind("C1CCCOCC1", puckers=4),
    "benzosuberane": Kind("C1CCc2ccccc2CC1", puckers=3),
    "cyclooctane": Kind("C1CCCCCCC1"),
    "cyclooctene": Kind("C1CCC/C=C/CC1", flips=1),
    "cyclooctatriene": Kind("C1=CC=CCCC=C1", flips=3),
    "cyclododecane": Kind("C1CCCCCCCCCCC1"),
    "spiro[4.5]decane": Kind("C1CCC2(C1)CCCCC2", puckers=5),
    "decalin": Kind("C1CCC2CCCCC2C1", puckers=5),
    "norbornane": Kind("C1CC2CCC1C2"),
    "adamantane": Kind("C1C2CC3CC1CC(C2)C3"),
    "benzene": Kind("c1ccccc1"),
    "indole": Kind("c1ccc2[nH]ccc2c1"),
    # Nitrogen.
    "ethylmethylamine": Kind("CNCC", inversions=1),
    "amine": Kind("CCN(C)CCO", inversions=1),
    "methylamine": Kind("CN", inversions=1),
    "N-methylpiperidine": Kind("CN1CCCCC1", puckers=3, inversions=1),
    "quinuclidine": Kind("C1CN2CCC1CC2", pyramids=("N",)),
    "aziridine": Kind("C[C@@H]1CN1C", pyramids=("N",)),
    "oxaziridine": Kind("CN1OC1", pyramids=("N",)),
    "azetidine": Kind("CN1CCC1", inversions=1),
    "tropane": Kind("CN1C2CCC1CC2", inversions=1),
    "Troeger's base": Kind("C1N2Cc3ccccc3N1Cc1ccccc12", pyramids=("N", "N")),
    "aniline": Kind("Nc1ccccc1"),
    "iminium": Kind("C/C=[N+](/C)CC", flips=1),
    "protonated Schiff base": Kind("C/C=C/C=[NH+]/C", flips=2),
    "nitrone": Kind("C/C=[N+](/C)[O-]", flips=1),
    "oxime": Kind("C/C=N/O", flips=1),
    "hydrazone": Kind("C/C=N/NC", flips=1),
    "azo": Kind("C/N=N/C", flips=1),
    "nitro": Kind("CC[N+](=O)[O-]"),
    "amine oxide": Kind("CC[N@+](C)([O-])CO"),
    "ammonium": Kind("CC[NH3+]"),
    "amidine": Kind("CC(=N)NC", flips=2),
    "amidinium": Kind("CC(N)=[NH2+]", flips=2),
    "guanidinium": Kind("CNC(N)=[NH2+]", flips=3),
    "imide": Kind("CC(=O)NC(C)=O", flips=2),
    "urea": Kind("CNC(N)=O", flips=2),
    "thioamide": Kind("CC(=S)NC", flips=1),
    # Sulfur and phosphorus.
    "sulfoxide": Kind("CC[S@](C)=O", pyramids=("S",)),
    "sulfinate": Kind("CC[S](=O)[O-]", pyramids=("S",)),
    "sulfonium": Kind("CC[S@@+](C)CO", pyramids=("S",)),
    "sulfinamide": Kind("C[S@](=O)NC", inversions=1, pyramids=("S",)),
    "sulfilimine": Kind("CC[S@](C)=NC", pyramids=("S",)),
    "sulfur ylide": Kind("CC=S(C)C", pyramids=("S",)),
    "sulfine": Kind("CC=S=O", flips=1),
    "sulfone": Kind("CCS(C)(=O)=O"),
    "sulfoximine": Kind("CC[S@](C)(=O)=NC"),
    "sulfolane": Kind("C1CCS(=O)(=O)C1", puckers=2),
    "thiazoline": Kind("CC1=NCCS1"),
    "selenoxide": Kind("CC[Se](C)=O", pyramids=("Se",)),
    "sulfonamide": Kind("CCS(=O)(=O)NC", inversions=1),
    "phosphine": Kind("CC[P@](C)c1ccccc1", pyramids=("P",)),
    "phosphine oxide": Kind("CC[P@](C)(=O)CO"),
    "phosphorus ylide": Kind("CC=P(C)(C)C"),
    "arsine": Kind("CC[As](C)CO", pyramids=("As",)),
    "stibine": Kind("CC[Sb](C)CO", pyramids=("Sb",)),
    "primary phosphine": Kind("CCP", pyramids=("P",)),
    "disulfide": Kind("CSSC"),
    # Fluorine opposite of the ring is the fourth by its label.
    "pentafluorosulfanyl": Kind("FS(F)(F)(F)(F)c1ccccc1"),
    # Straight angles.
    "alkyne": Kind("CC#CC"),
    "terminal alkyne": Kind("C#CCO"),
    "diyne": Kind("CC#CC#CCO"),
    "nitrile": Kind("CC#N"),
    "azide": Kind("CN=[N+]=[N-]"),
    "ketene": Kind("CC=C=O"),
    "isocyanate": Kind("CCN=C=O"),
    "tolane": Kind("c1ccccc1C#Cc1ccccc1"),
    "ethynylcyclohexane": Kind("C#CC1CCCCC1", puckers=3),
    "propargylmorpholine": Kind("CC#CCN1CCOCC1", puckers=3, inversions=1),
    "hexynol": Kind("CCC#CC[C@H](O)C"),
    # Several at once.
    "zwitterion": Kind(SMILES["zwitterion"], flips=5),
    "ring with a disulfide": Kind(SMILES["cystine_ring"], flips=4),
    "imatinib": Kind(SMILES["imatinib"], puckers=3, inversions=2, flips=1),
    "penicillin": Kind(SMILES["penicillin"], puckers=1, flips=1),
}

#: What has no chart, and the reason that is given.
REFUSED = {
    "allene": ("C=C=C", "cumulated double bonds"),
    "carbodiimide": ("CN=C=NC", "cumulated double bonds"),
    "cyclooctyne": ("C1CCCC#CCC1", "is straight, and in a ring"),
    "hydrogen cyanide's dimer": ("N#CC#N", "nothing aside of its line"),
    "sulfur tetrafluoride": ("FS(F)(F)F", "has 4 neighbours"),
    "sulfur hexafluoride": ("FS(F)(F)(F)(F)F", "has 6 neighbours"),
    "phosphorane": ("CP(C)(C)(C)C", "has 5 neighbours"),
    "cyclo-gly5": ("O=C1CNC(=O)CNC(=O)CNC(=O)CNC(=O)CN1", "has 15 atoms; rings of more than 12"),
    "crown ether": ("C1COCCOCCOCCOCCOCCO1", "has 18 atoms"),
    "two molecules": ("CC.CC", "2 separate parts"),
}


@cache
def conformations(kind: str, count: int = 1, seed: int = 7) -> Chem.Mol:
    """Return a molecule kind with hydrogens and conformations, as RDKit builds them."""
    mol = Chem.AddHs(Chem.MolFromSmiles(KINDS[kind].smiles))
    assert len(AllChem.EmbedMultipleConfs(mol, count, randomSeed=seed)) == count
    return mol


def make_kind(kind: str, count: int = 1) -> tuple[Molecule, np.ndarray]:
    """Return a molecule kind and conformations [count, N, 3] / nm."""
    mol = conformations(kind, count)
    return from_rdkit(mol), np.stack([c.GetPositions() for c in mol.GetConformers()]) / 10


@cache
def simulated(kind: str, frames: int = 60) -> tuple[Molecule, np.ndarray]:
    """Return a molecule kind and frames [F, N, 3] / nm of hot dynamics from one conformation.

    At 500 K a few picoseconds go as far as nanoseconds at room temperature.
    """
    mol = conformations(kind)
    return from_rdkit(mol), simulate(mol, frames, 0.05, temperature=500.0)
