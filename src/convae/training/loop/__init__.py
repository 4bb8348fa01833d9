"""The training loop: steps, checkpoints, and recovery from non-finite values."""

__all__: list[str] = []
