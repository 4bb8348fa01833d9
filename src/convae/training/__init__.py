"""The training room: recipes become experiments, experiments become runs."""

from __future__ import annotations

from convae.training.loop.trainer import Callback
from convae.training.run import Run, resume, train

__all__ = ["Callback", "Run", "resume", "train"]
