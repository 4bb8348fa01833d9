"""Public types: batches, shapes, inputs and outputs of a forward pass, and types of options.

Import them from here; their location in `convae.core` may change.
"""

from __future__ import annotations

from convae.core.arguments import (
    Fraction,
    ImageShape,
    Named,
    NonNegative,
    NonNegativeFloat,
    PerAxis,
    Positive,
    PositiveFloat,
)
from convae.core.context import Context
from convae.core.description import LayerList, LayerSpec, Spec
from convae.core.joint_posterior import JointPosterior
from convae.core.noise import CountedNoise, Generators, normal_like
from convae.core.output import Likelihood, Output
from convae.core.posterior import CodePosterior, GaussianPosterior, Posterior
from convae.core.progress import Progress
from convae.core.types import MISSING_LABEL, Batch, Images, LatentLayout, Latents, Logits, PerImage, Shape

__all__ = [
    "MISSING_LABEL",
    "Batch",
    "CodePosterior",
    "Context",
    "CountedNoise",
    "Fraction",
    "GaussianPosterior",
    "Generators",
    "ImageShape",
    "Images",
    "JointPosterior",
    "LatentLayout",
    "Latents",
    "LayerList",
    "LayerSpec",
    "Likelihood",
    "Logits",
    "Named",
    "NonNegative",
    "NonNegativeFloat",
    "Output",
    "PerAxis",
    "PerImage",
    "Positive",
    "PositiveFloat",
    "Posterior",
    "Progress",
    "Shape",
    "Spec",
    "normal_like",
]
