"""The chained flow: parts of a molecule made one after the other."""
