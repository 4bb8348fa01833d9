"""Priors p(z), one file each."""

from convae.core.registry import Registry

PRIORS = Registry("convae.model.priors", "prior", "Prior")
