"""Fitting a prior to the latents of a trained model."""

__all__: list[str] = []
