"""The training loop: steps, what survives a stop, and what happens when values are not finite."""

__all__: list[str] = []
