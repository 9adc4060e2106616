"""Chains on many processes and machines, by dask.distributed."""
