"""Metrics over a whole split with their protocol, and anomaly scores."""

from __future__ import annotations

from convae.evaluation.features import EncoderFeatures
from convae.evaluation.inception import InceptionFeatures
from convae.evaluation.outliers import Separation, auroc, separate
from convae.evaluation.protocol import Measurement, Report, evaluate
from convae.evaluation.scores import ImageScores, encode_and_score, score_images

__all__ = [
    "EncoderFeatures",
    "ImageScores",
    "InceptionFeatures",
    "Measurement",
    "Report",
    "Separation",
    "auroc",
    "encode_and_score",
    "evaluate",
    "score_images",
    "separate",
]
