"""The training losses: a file each, and a line each in `registry`."""
