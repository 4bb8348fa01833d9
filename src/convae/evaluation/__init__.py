"""Metrics of a model on a split, with the protocol, and anomaly scores."""

from __future__ import annotations

from convae.evaluation.factors import Factors
from convae.evaluation.metrics import METRICS
from convae.evaluation.metrics.base import (
    CountMetric,
    EncodedSplit,
    Estimate,
    FactorMetric,
    FeatureMetric,
    ImageMetric,
    LatentMetric,
    Metric,
    ReconstructionMetric,
    SampleMetric,
)
from convae.evaluation.outliers import Separation, auroc, separate
from convae.evaluation.protocol import Measurement, Report, evaluate
from convae.evaluation.scores import ImageScores, score_images

__all__ = [
    "METRICS",
    "CountMetric",
    "EncodedSplit",
    "Estimate",
    "FactorMetric",
    "Factors",
    "FeatureMetric",
    "ImageMetric",
    "ImageScores",
    "LatentMetric",
    "Measurement",
    "Metric",
    "ReconstructionMetric",
    "Report",
    "SampleMetric",
    "Separation",
    "auroc",
    "evaluate",
    "score_images",
    "separate",
]
