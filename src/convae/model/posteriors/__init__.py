"""Posteriors of bottlenecks other than the diagonal Gaussian and codes, one file each."""
