"""The run folder: recipe, log, checkpoints and pictures of a run."""
