"""Inference engines: what computes latents and images of a model in batches, such as torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from convae.core.joint_posterior import JointPosterior
from convae.core.noise import Generators
from convae.core.posterior import CodePosterior, Posterior
from convae.core.types import Images, Latents
from convae.model.condition import Labels
from convae.model.mode import evaluation_mode
from convae.model.vae import VAE


@dataclass(frozen=True)
class EncodedBatch:
    """The posteriors of a batch of images, as tensors.

    Attributes:
        mean: (batch, *latent).
        logvar: (batch, *latent), natural logarithm of the variance.
        codes: code indices at each position, for models with a codebook: (batch, *grid), (batch, level, *grid) with
            several, (batch, code) of a hierarchy, one latent after the other; None where not all latents are codes.
        kl: (batch, *latent), KL divergence of each latent value of a hierarchy, nats; None of other models, and from
            engines that do not compute it.
    """

    mean: Latents
    logvar: Latents
    codes: Tensor | None = None
    kl: Tensor | None = None

    @classmethod
    def of(cls, posterior: Posterior) -> EncodedBatch:
        """The tensors of a posterior."""
        codes, kl = None, None
        if isinstance(posterior, CodePosterior):
            codes = posterior.codes.long()
        elif isinstance(posterior, JointPosterior):
            kl = posterior.kl_values()
            if posterior.is_discrete:
                codes = join_codes(posterior.codes)
        return cls(posterior.mean, posterior.logvar, codes, kl)


def join_codes(by_latent: Mapping[str, Tensor]) -> Tensor:
    """The codes of several latents, (batch, code), one latent after the other."""
    return torch.cat([codes.flatten(1) for codes in by_latent.values()], 1).long()


class InferenceEngine(ABC):
    """Computes posteriors and images of a model, without gradients; the model's mode is restored.

    Random numbers are drawn by torch, so that all engines give the same samples for a seed, up to rounding.

    Attributes:
        name: of the engine, such as `torch`.
        model: the model.
        refinement_steps: steps that refine the posterior of each image; 0 for the encoder's posterior.
    """

    name: str
    model: VAE
    refinement_steps: int = 0

    @abstractmethod
    def encode(self, images: Images, labels: Labels | None = None, weights: Tensor | None = None) -> EncodedBatch:
        """Approximate posteriors q(z | x).

        Args:
            images: (batch, channel, *sizes) in [0, 1], in the sizes of the model.
            labels: (batch,) class numbers of the images, for a conditional model.
            weights: (batch, channel or 1, *sizes), weight of each value, 0 where it is missing; for refined posteriors.

        Raises:
            ShapeError: the images do not have the model's shape.
            ConfigError: the model is conditional, and labels are missing.
        """

    @abstractmethod
    def decode(self, z: Latents, labels: Labels | None = None) -> Images:
        """The expected image of each latent, in [0, 1].

        Args:
            z: (batch, *latent).
            labels: (batch,) class numbers, for a conditional model.

        Raises:
            ShapeError: the latents do not have the model's latent shape.
            ConfigError: the model is conditional, and labels are missing.
        """

    def reconstruct(
        self,
        images: Images,
        labels: Labels | None = None,
        *,
        decoded_labels: Labels | None = None,
        weights: Tensor | None = None,
    ) -> Images:
        """Images decoded from the posterior means.

        Args:
            images: as for `encode`.
            labels: as for `encode`.
            decoded_labels: the classes to decode as; by default those of the images.
            weights: as for `encode`.
        """
        decoded = labels if decoded_labels is None else decoded_labels
        return self.decode(self.encode(images, labels, weights).mean, decoded)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        noise: Generators | None = None,
        labels: Labels | None = None,
        *,
        temperature: float | Mapping[str, float] = 1.0,
        options: Mapping[str, Any] | None = None,
    ) -> Images:
        """Images decoded from latents of the prior.

        Args:
            count: number of images.
            noise: one generator, or one for each image; torch's default generator without it.
            labels: (count,) class numbers, for a conditional model or a prior that depends on them.
            temperature: factor on the standard deviation of the prior, see `VAE.sample`.
            options: options of the prior's own, such as `{"top_p": 0.9}`.
        """
        return self.decode(self.model.sample_latents(count, noise, labels, temperature, options), labels)


class TorchEngine(InferenceEngine):
    """torch, on the device of the model.

    Args:
        model: the model.
    """

    name = "torch"

    def __init__(self, model: VAE) -> None:
        self.model = model

    @torch.no_grad()
    def encode(self, images: Images, labels: Labels | None = None, weights: Tensor | None = None) -> EncodedBatch:
        """Approximate posteriors; see `InferenceEngine.encode`."""
        device = self._device
        with evaluation_mode(self.model):
            return EncodedBatch.of(self.model.encode(images.to(device), None if labels is None else labels.to(device)))

    @torch.no_grad()
    def decode(self, z: Latents, labels: Labels | None = None) -> Images:
        """Expected images; see `InferenceEngine.decode`."""
        device = self._device
        with evaluation_mode(self.model):
            return self.model.decode(z.to(device), None if labels is None else labels.to(device)).mean

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device


class ChannelsLastEngine(TorchEngine):
    """torch with the weights in channels_last, which some processors compute faster; the values are the same.

    The weights have their usual layout again after `close`.

    Args:
        model: the model; the layout of its weights is changed.
    """

    name = "torch channels_last"

    def __init__(self, model: VAE) -> None:
        super().__init__(model)
        _set_layout(model, channels_last=True)

    def close(self) -> None:
        """Restores the layout of the weights."""
        _set_layout(self.model, channels_last=False)


def _set_layout(model: VAE, *, channels_last: bool) -> None:
    """Sets the memory layout of the kernels of a model with two or three spatial axes."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in model.parameters():
        if parameter.ndim in layouts:
            layout = layouts[parameter.ndim] if channels_last else torch.contiguous_format
            parameter.data = parameter.data.contiguous(memory_format=layout)
