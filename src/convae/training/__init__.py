"""The training room: recipes become experiments, experiments become runs."""

from __future__ import annotations

from convae.training.run import Run, resume, train

__all__ = ["Run", "resume", "train"]
