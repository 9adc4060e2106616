"""Flows that others have trained and published."""
