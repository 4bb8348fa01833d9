"""Posteriors of bottlenecks other than the diagonal Gaussian and codes, one file each."""

from convae.model.posteriors.deterministic import DeterministicPosterior
from convae.model.posteriors.flow import FlowPosterior
from convae.model.posteriors.full_gaussian import FullGaussianPosterior

__all__ = ["DeterministicPosterior", "FlowPosterior", "FullGaussianPosterior"]
