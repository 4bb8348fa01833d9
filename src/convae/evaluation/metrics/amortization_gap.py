"""Amortization gap: how much better than the encoder's the best posterior of its kind is."""

from __future__ import annotations

from typing import ClassVar

import torch

from convae.core.arguments import Positive
from convae.core.types import PerImage
from convae.data import Split
from convae.evaluation.metrics.base import ImageMetric
from convae.latents import EvalBatch
from convae.latents.refinement import is_refinable, refine
from convae.model.autoencoder import Features
from convae.model.vae import VAE


class AmortizationGap(ImageMetric):
    """ELBO with refined posteriors less the ELBO with those of the encoder, nats per image.

    A lower bound on the amortization gap (Cremer et al. 2018, arXiv:1801.03558), which becomes tight as the number of
    steps grows: what a better encoder would gain with this decoder. Large values, compared with `elbo`, say that the
    encoder limits the model; values that are larger on test than on training images say that it overfits. As an anomaly
    score (`convae ood --score amortization-gap`) it recognizes images that are unlike those of the training, also where
    their ELBO is high (compare the likelihood regret of Xiao et al. 2020, arXiv:2003.02977).

    Args:
        steps: of the refinement, see `convae.latents.refine`; each costs about three passes through the decoder.
        samples: number of posterior samples per image, over which both bounds are averaged, with the same noise.
    """

    unit: ClassVar = "nats"
    needs: ClassVar = "a single latent with a density"
    better: ClassVar = "lower"
    default: ClassVar = False
    example: ClassVar = {"steps": 2, "samples": 2}

    def __init__(self, *, steps: Positive = 30, samples: Positive = 4) -> None:
        self.steps, self.samples = steps, samples

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether the posterior has parameters to refine."""
        return is_refinable(model)

    def rows(self, batch: EvalBatch) -> PerImage:
        """The difference of each image."""
        refined = refine(batch.model, batch.images, batch.labels, steps=self.steps, weights=batch.weights)
        return self._elbo(batch, refined) - self._elbo(batch, batch.model.encode_features(batch.images, batch.labels))

    def _elbo(self, batch: EvalBatch, features: Features) -> PerImage:
        """The bound of each image, for the same latent noise in every call."""
        noise = batch.generators("amortization gap")
        outputs = (batch.model.decode_features(features, noise=noise) for _ in range(self.samples))
        bounds = [own.likelihood.log_prob(batch.images, batch.weights) - own.posterior.kl() for own in outputs]
        return torch.stack(bounds).mean(0)
