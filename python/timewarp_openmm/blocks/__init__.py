"""Cutting a structure into blocks, each with a model of a library: which, what they accept."""
