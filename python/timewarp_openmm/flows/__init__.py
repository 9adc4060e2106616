"""Normalising flows over the conformations of a molecule."""
