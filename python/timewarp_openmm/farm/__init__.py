"""Several chains of one molecule, run piece by piece, with their files."""
