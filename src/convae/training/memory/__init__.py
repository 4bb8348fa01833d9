"""The memory of a training step, and the largest batch that fits."""

__all__: list[str] = []
