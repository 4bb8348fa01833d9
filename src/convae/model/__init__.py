"""Models: layers, bottlenecks, quantizers, priors, likelihoods and presets; `VAE`, which joins them; and its artifact.

The entries of each kind are found by name in its registry, such as `LAYERS`, and are public in the file of that name:
`convae.model.bottlenecks.gaussian.Gaussian`.
"""

from __future__ import annotations

from convae.core.context import ContextModule, LatentModule, call_module
from convae.model.artifact import load, save
from convae.model.bottlenecks import BOTTLENECKS
from convae.model.bottlenecks.base import Bottleneck
from convae.model.condition import Condition
from convae.model.flows import FLOWS
from convae.model.flows.base import Flow
from convae.model.inference import EncodedBatch, InferenceEngine, TorchEngine
from convae.model.layers import LAYERS
from convae.model.layers.base import Activation, ContextLayer, FeatureMap, Layer, Network, ReceptiveField
from convae.model.layers.base.features import feature_shape, feature_shapes
from convae.model.likelihoods import LIKELIHOODS
from convae.model.likelihoods.base import (
    LikelihoodHead,
    LocationScaleHead,
    LocationScaleLikelihood,
    require_images_like,
    uniform_like,
)
from convae.model.mode import evaluation_mode
from convae.model.presets import PRESETS
from convae.model.priors import PRIORS
from convae.model.priors.base import Prior
from convae.model.provenance import Provenance
from convae.model.quantizers import QUANTIZERS
from convae.model.quantizers.base import Quantizer
from convae.model.summary import LayerSummary, summarize
from convae.model.vae import VAE

__all__ = [
    "BOTTLENECKS",
    "FLOWS",
    "LAYERS",
    "LIKELIHOODS",
    "PRESETS",
    "PRIORS",
    "QUANTIZERS",
    "VAE",
    "Activation",
    "Bottleneck",
    "Condition",
    "ContextLayer",
    "ContextModule",
    "EncodedBatch",
    "FeatureMap",
    "Flow",
    "InferenceEngine",
    "LatentModule",
    "Layer",
    "LayerSummary",
    "LikelihoodHead",
    "LocationScaleHead",
    "LocationScaleLikelihood",
    "Network",
    "Prior",
    "Provenance",
    "Quantizer",
    "ReceptiveField",
    "TorchEngine",
    "call_module",
    "evaluation_mode",
    "feature_shape",
    "feature_shapes",
    "load",
    "require_images_like",
    "save",
    "summarize",
    "uniform_like",
]
