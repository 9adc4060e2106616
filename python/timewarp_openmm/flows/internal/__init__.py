"""The flow in internal coordinates."""
