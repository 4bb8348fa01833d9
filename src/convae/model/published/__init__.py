"""Layers of published autoencoders, with the names of their parameters in the published weights."""
