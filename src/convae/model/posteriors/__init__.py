"""Posteriors of bottlenecks other than the diagonal Gaussian and codes, one file each."""

from convae.model.posteriors.deterministic import DeterministicPosterior
from convae.model.posteriors.flow import FlowPosterior
from convae.model.posteriors.full_gaussian import FullGaussianPosterior
from convae.model.posteriors.von_mises_fisher import VonMisesFisherPosterior

__all__ = ["DeterministicPosterior", "FlowPosterior", "FullGaussianPosterior", "VonMisesFisherPosterior"]
