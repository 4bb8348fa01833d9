"""Both halves of a VAE: the posterior q(z | x) of images, and passes through encoder and decoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from convae.core.context import Context, LatentModule, call_module
from convae.core.errors import ConfigError
from convae.core.joint_posterior import JointPosterior
from convae.core.layout import repeat_rows
from convae.core.noise import Generators
from convae.core.output import Likelihood, ModelCalls, Output
from convae.core.posterior import CodePosterior, Posterior
from convae.core.types import (
    AnyCount,
    AnyGenerators,
    AnyImages,
    AnyLabels,
    AnyLatents,
    Images,
    Latents,
    Logits,
)
from convae.model.generative import GenerativeModel
from convae.model.inputs import checked_generator, checked_sample_count, explain_mixed_types, tensor_or_none
from convae.model.layers.base import uncompiled
from convae.model.mode import evaluation_mode
from convae.model.quantizers.base import Quantizer


@dataclass(frozen=True)
class Features:
    """What the encoder gives for some images.

    Attributes:
        values: (batch, channel, *sizes), the encoder's output.
        context: of the pass: labels, and the features that have a name.
        is_head: whether the values are the output of the bottleneck's head instead, such as mean and log-variance.
    """

    values: Tensor
    context: Context = field(repr=False)
    is_head: bool = False


class Autoencoder(GenerativeModel):
    """p(x, z) with an approximate posterior q(z | x): encodes images, and trains through `forward`."""

    _places: dict[str, str]
    """Names of the streams for a reader, by stream."""

    @explain_mixed_types
    def encode(self, x: AnyImages, labels: AnyLabels | None = None) -> Posterior:
        """Approximate posterior q(z | x) of each image; nothing is sampled.

        Always computed in evaluation mode, with gradients; the model's mode is restored. Train through `forward`.

        Args:
            x: images, float in [0, 1]; any floating type is converted to that of the weights.
            labels: class numbers of the images, for a conditional model.

        Raises:
            ShapeError: the model does not accept images of this shape, or they are not floats in [0, 1].
            ConfigError: the model is conditional, and labels are missing or not class numbers of it.
        """
        with evaluation_mode(self):
            return self.posterior_of(self.encode_features(x, labels))

    def encode_features(self, x: AnyImages, labels: AnyLabels | None = None) -> Features:
        """The encoder's features of images, in the model's mode; see `encode` for arguments and errors.

        With `decode_features`, latents are drawn several times and the encoder runs once.
        """
        context = Context(labels=tensor_or_none(labels))
        return Features(self._features(x, labels, context), context)

    def posterior_of(self, features: Features) -> Posterior:
        """Approximate posterior q(z | x) of features; of several latents, the posteriors along their means."""
        if self.is_hierarchical or features.is_head:
            return self.decode_features(features, "mean").posterior
        posterior = self.bottleneck.posterior(features.values)
        return self.prior.relate(posterior, posterior.mean)

    def decode_features(
        self,
        features: Features,
        source: Literal["posterior", "mean"] = "posterior",
        noise: Generators | None = None,
    ) -> Output:
        """Latents and likelihood of features, in the model's mode.

        Args:
            features: of `encode_features`.
            source: whether latents are samples of the posterior, or its mean.
            noise: one generator, or one for each image; torch's default generator without it.
        """
        context = features.context.continued(noise=noise, latent_source=source)
        return self._output(features.values, context, is_head=features.is_head)

    @property
    def has_single_latent(self) -> bool:
        """Whether the model has one latent, and no quantizer in the encoder."""
        quantizers = (module for module in self.encoder.modules() if isinstance(module, LatentModule | Quantizer))
        return not self.is_hierarchical and next(quantizers, None) is None

    def head_output(self, x: AnyImages, labels: AnyLabels | None = None) -> Tensor:
        """What the latent of images depends on, such as mean and log-variance, (batch, …); in evaluation mode.

        With `decode_head`, latents of a frozen encoder are computed once and drawn many times.

        Raises:
            ConfigError: not `has_single_latent`.
        """
        if not self.has_single_latent:
            raise ConfigError(f"model '{self.name}' has several latents or quantizers. Encode its images every time")
        with evaluation_mode(self):
            return self.bottleneck.head_output(self.encode_features(x, labels).values)

    def decode_head(
        self,
        values: Tensor,
        noise: Generators | None = None,
        labels: AnyLabels | None = None,
        *,
        samples: AnyCount = 1,
    ) -> Output:
        """Latents and likelihood of the result of `head_output`, in the model's mode; the same as `forward`."""
        count = checked_sample_count(samples)
        is_drawn = self.training or noise is not None
        context = Context(noise, tensor_or_none(labels), "posterior" if is_drawn else "mean")
        if count > 1:
            values, context = repeat_rows(values, count), context.repeated(count)
        return self._output(values, context, is_head=True)

    @explain_mixed_types
    def classify(self, z: AnyLatents) -> Logits:
        """Class logits of each latent, (batch, class); computed in evaluation mode.

        Raises:
            ConfigError: the model has no classifier.
            ShapeError: the latents do not have the model's latent shape, or are not finite floats.
        """
        if self.classifier is None:
            raise ConfigError(f"model '{self.name}' has no classifier on its latent")
        with evaluation_mode(self):
            top = self.latent_layout.split(self._checked_latents(z))[self.bottleneck.stream]
            logits: Tensor = self.classifier(top)
            return logits

    @explain_mixed_types
    def forward(
        self,
        x: AnyImages,
        generator: AnyGenerators | None = None,
        labels: AnyLabels | None = None,
        *,
        samples: AnyCount = 1,
    ) -> Output:
        """Encodes and decodes in the model's mode; in training mode, batch statistics and codebooks are updated.

        Args:
            x: images, float in [0, 1]; any floating type is converted to that of the weights.
            generator: random generator for the latents, or one for each image. Without one, latents are sampled with
                torch's default generator in training mode, and are the posterior mean in evaluation mode.
            labels: class numbers of the images, for a conditional model.
            samples: number of latents for each image, such as for importance weighting: the encoder runs once, and all
                latents are decoded as one batch, those of an image together.

        Raises:
            ShapeError: the model does not accept images of this shape, or they are not floats in [0, 1].
            ConfigError: the model is conditional, and labels are missing or not class numbers of it; `samples` is not
                a positive integer.
        """
        count = checked_sample_count(samples)
        noise = checked_generator(generator)
        is_drawn = self.training or noise is not None
        context = Context(noise, tensor_or_none(labels), "posterior" if is_drawn else "mean")
        features = self._features(x, labels, context)
        if count > 1:
            features, context = repeat_rows(features, count), context.repeated(count)
        return self._output(features, context)

    def _encode_pseudo(self, x: Tensor) -> Posterior:
        """The posteriors of a prior's own images, in evaluation mode, with gradients."""
        with evaluation_mode(self):
            return self.bottleneck.posterior(call_module(self.encoder, x, Context()))

    def _output(self, features: Tensor, context: Context, *, is_head: bool = False) -> Output:
        """Latents, posterior and likelihood of features, or of the bottleneck's head, in the model's mode."""
        latent = self.bottleneck.from_head(features, context) if is_head else self.bottleneck(features, context)
        converted = self._converted(latent)
        logits = None if self.classifier is None else call_module(self.classifier, converted, context)
        raw = self._raw_values(converted, context.labels, context)
        likelihood = self.head(raw)
        stream = self.bottleneck.stream
        posterior = self.prior.relate(context.posteriors[stream], latent)
        if posterior.has_density and not posterior.is_discrete:
            context.report_term("kl", posterior.kl())
        if self.is_hierarchical:
            names = [name for name, _ in self.latent_layout.entries]
            parts = {**{name: context.posteriors[name] for name in names}, stream: posterior}
            parts = self.prior.relate_all(parts)
            latent = torch.cat([context.latents[name].flatten(1) for name in names], 1)

            def draw(noise: Generators | None) -> Latents:
                return self._output(features, context.again(noise=noise, latent_source="posterior")).latent

            posterior = JointPosterior(parts, draw)
        codes = {self._place(name): own for name, own in context.posteriors.items() if isinstance(own, CodePosterior)}
        term_parts = {
            term: {self._place(name): cost for name, cost in own.items()} for term, own in context.term_parts.items()
        }
        calls = self._calls(raw, context)
        return Output(posterior, latent, likelihood, context.terms, logits, term_parts, codes, context.samples, calls)

    def _calls(self, raw: Tensor, context: Context) -> ModelCalls:
        """The parts of the model, with labels, noise and raw values of a pass."""
        labels = context.labels

        def encode(x: Images) -> Posterior:
            self._require_gathered()
            with evaluation_mode(self):
                own = labels if labels is None or len(labels) == len(x) else labels[:: context.samples]
                features = call_module(self.encoder, self._conditioned(x, own), Context(labels=own))
                return self.bottleneck.posterior(features)

        def decode(z: Latents) -> Likelihood:
            self._require_gathered()
            latents = self.latent_layout.split(self._converted(z))
            again = context.again(given=latents)
            with uncompiled(self.decoder):  # compiled code is for one size, and its graphs for one call in each step
                return self._decoded(latents[self.bottleneck.stream], labels, again)

        def sample_prior() -> Latents:
            noise = context.unit_noise_for("prior")
            return self._draw_prior(len(raw), noise, labels, 1.0, None)[self.bottleneck.stream]

        def decode_prior() -> Likelihood:
            self._require_gathered()
            noise = context.unit_noise_for("prior")
            with torch.no_grad():
                given = self._draw_prior(len(raw), noise, labels, 1.0, None)
            with uncompiled(self.decoder):
                return self._decoded(given[self.bottleneck.stream], labels, Context(noise, labels, "prior", given))

        noise_for, is_resizable = context.unit_noise_for, self.size_step is not None
        return ModelCalls(encode, decode, sample_prior, decode_prior, noise_for, raw, self.head, is_resizable)

    def _require_gathered(self) -> None:
        """Checks that parts of the model can be called by themselves.

        Raises:
            ConfigError: the parameters are sharded, and gathered in a pass through the whole model only.
        """
        if any(hasattr(parameter, "full_tensor") for parameter in self.parameters()):
            raise ConfigError("encodes or decodes once more, which a sharded model cannot. Set training.shard: false")

    def _place(self, stream: str) -> str:
        """Where a stream, or a level of it, is for a reader: the name of a latent, or that of a module."""
        name, slash, level = stream.partition("/")
        return f"{self._places.get(name, name)}{slash}{level}"
