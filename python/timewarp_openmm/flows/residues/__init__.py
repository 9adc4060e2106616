"""Flows of capped residues, and peptides that are made of them residue by residue."""
