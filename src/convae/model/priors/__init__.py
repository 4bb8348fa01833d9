"""Priors p(z), one file each."""

from convae.core.registry import Registry

PRIORS = Registry(__name__, "prior", "Prior")

__all__ = ["PRIORS"]
