"""Molecular dynamics: Systems, starts, exploring, and runs that make data."""
