"""Flows of a fragment in place."""
