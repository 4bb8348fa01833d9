"""The training room: recipes become experiments, experiments become runs."""

from __future__ import annotations

from convae.training.run import Run, resume, train
from convae.training.trainer import Observer

__all__ = ["Observer", "Run", "resume", "train"]
