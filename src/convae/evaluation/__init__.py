"""The evaluation room: metrics over a whole split, each with its protocol."""

from __future__ import annotations

from convae.evaluation.features import EncoderFeatures
from convae.evaluation.inception import InceptionFeatures
from convae.evaluation.outliers import Separation, auroc, separate
from convae.evaluation.protocol import Figure, Report, evaluate
from convae.evaluation.scores import ImageScores, score_images

__all__ = [
    "EncoderFeatures",
    "Figure",
    "ImageScores",
    "InceptionFeatures",
    "Report",
    "Separation",
    "auroc",
    "evaluate",
    "score_images",
    "separate",
]
