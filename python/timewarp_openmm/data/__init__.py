"""Molecules, molecular dynamics runs and the pairs of states that flows are trained on."""
