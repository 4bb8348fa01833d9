"""The evaluation room: metrics over a whole split, each with its protocol."""

from __future__ import annotations

from convae.evaluation.protocol import Figure, Report, evaluate

__all__ = ["Figure", "Report", "evaluate"]
