"""Distillation: a smaller decoder or encoder from the latents of a trained model."""

__all__: list[str] = []
