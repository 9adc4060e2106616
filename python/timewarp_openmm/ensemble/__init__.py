"""From a model to the conformers of its molecule: samples, minima, populations, files."""
