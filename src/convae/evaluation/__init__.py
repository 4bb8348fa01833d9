"""The evaluation room: metrics over a whole split, each with its protocol."""

from __future__ import annotations

from convae.evaluation.features import EncoderFeatures
from convae.evaluation.inception import InceptionFeatures
from convae.evaluation.outliers import Separation, auroc, separate
from convae.evaluation.protocol import Figure, Report, evaluate

__all__ = ["EncoderFeatures", "Figure", "InceptionFeatures", "Report", "Separation", "auroc", "evaluate", "separate"]
