"""Potentials beyond OpenMM's force fields: semi-empirical, learned, or a function of the user's.

Each is a file here and a line in `registry`; `system` makes an OpenMM System of one, with which all
else works as with a force field.
"""
