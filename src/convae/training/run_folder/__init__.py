"""The run folder: recipe, log, checkpoints and pictures of a run."""

__all__: list[str] = []
