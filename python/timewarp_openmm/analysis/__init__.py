"""Looking at samples: torsions and their pictures."""
