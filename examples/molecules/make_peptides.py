"""Write capped dipeptides as PDB files: RDKit's geometry, Amber's atom names.

Usage: python make_peptides.py    (needs rdkit, which the package itself does not)
"""

from pathlib import Path

import networkx as nx
from openmm import app
from rdkit import Chem
from rdkit.Chem import AllChem

PEPTIDES = {
    "leucine-dipeptide": ("CC(=O)N[C@@H](CC(C)C)C(=O)NC", ("ACE", "LEU", "NME")),
    "valine-dipeptide": ("CC(=O)N[C@@H](C(C)C)C(=O)NC", ("ACE", "VAL", "NME")),
    "glycine-proline": ("CC(=O)NCC(=O)N1CCC[C@H]1C(=O)NC", ("ACE", "GLY", "PRO", "NME")),
}
FORCE_FIELD = app.ForceField("amber99sbildn.xml")


def template_graph(residues):
    """Return the graph of residues in a row, its nodes (residue number, atom name)."""
    graph = nx.Graph()
    last_carbon = None
    for number, residue in enumerate(residues):
        template = FORCE_FIELD._templates[residue]
        names = [atom.name for atom in template.atoms]
        for atom in template.atoms:
            graph.add_node((number, atom.name), element=atom.element.symbol)
        for a, b in template.bonds:
            graph.add_edge((number, names[a]), (number, names[b]))
        if last_carbon is not None:
            graph.add_edge(last_carbon, (number, "N"))
        last_carbon = (number, "C")
    return graph


def embed(smiles):
    """Return a molecule with hydrogens and one relaxed conformation, its amides trans."""
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMultipleConfs(molecule, 20, randomSeed=7)
    amide = Chem.MolFromSmarts("O=C[NX3][CX4;H3,$([CH1][CX3]),$([CH2][CX3])]")
    amides = molecule.GetSubstructMatches(amide)
    for conformer in molecule.GetConformers():
        AllChem.MMFFOptimizeMolecule(molecule, confId=conformer.GetId())
        # O-C-N-C(alpha) is 0 in a trans amide.
        torsions = [Chem.rdMolTransforms.GetDihedralDeg(conformer, *match) for match in amides]
        if all(abs(torsion) < 40 for torsion in torsions):
            return molecule, conformer
    raise ValueError(f"no conformation of {smiles} has trans amides only")


def write_pdb(path, smiles, residues):
    molecule, conformer = embed(smiles)
    mine = nx.Graph()
    for atom in molecule.GetAtoms():
        mine.add_node(atom.GetIdx(), element=atom.GetSymbol())
    mine.add_edges_from((b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in molecule.GetBonds())
    names = template_graph(residues)
    matcher = nx.isomorphism.GraphMatcher(
        names, mine, node_match=lambda a, b: a["element"] == b["element"]
    )
    if not matcher.is_isomorphic():
        raise ValueError(f"{smiles} is not {'-'.join(residues)}")
    lines = []
    for serial, (number, name) in enumerate(names, 1):
        x, y, z = conformer.GetAtomPosition(matcher.mapping[number, name])
        padded = name if len(name) == 4 else f" {name:3}"
        element = names.nodes[number, name]["element"]
        lines.append(
            f"ATOM  {serial:5d} {padded} {residues[number]} A{number + 1:4d}    "
            f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {element:>2}"
        )
    path.write_text("\n".join([*lines, "TER", "END", ""]))


if __name__ == "__main__":
    for name, (smiles, residues) in PEPTIDES.items():
        write_pdb(Path(__file__).parent / f"{name}.pdb", smiles, residues)
