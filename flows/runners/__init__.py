"""Runners beyond this process's own pools: Ray and Dask, each an optional extra, both by one set of rules."""
