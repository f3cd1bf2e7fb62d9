"""Benchmarks: each prints its figure and a ratio against a floor or a peer measured in the same run."""
