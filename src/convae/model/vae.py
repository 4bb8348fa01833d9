"""The variational autoencoder: three parts in a row, each importable by itself."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from convae.core.description import Spec
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text
from convae.core.types import (
    AnyCodes,
    AnyCount,
    AnyGenerators,
    AnyImages,
    AnyLabels,
    AnyLatents,
    Images,
    Latents,
    Shape,
)
from convae.model.bottlenecks import BOTTLENECKS
from convae.model.bottlenecks.base import Bottleneck, Posterior
from convae.model.inputs import (
    checked_codes,
    checked_count,
    checked_generator,
    checked_images,
    checked_labels,
    checked_latents,
    weights_type,
)
from convae.model.layers.base import Layer
from convae.model.layers.base.network import Network, count_parameters
from convae.model.likelihoods import LIKELIHOODS
from convae.model.likelihoods.base import Likelihood, LikelihoodHead
from convae.model.mode import evaluation_mode
from convae.model.parts import classifier, condition, first_change, layout, part, stored, stored_condition
from convae.model.provenance import Provenance

Logits = Float[Tensor, "batch class"]


@dataclass(frozen=True)
class Output:
    """What one pass through a model gives.

    Attributes:
        posterior: what the encoder believes of the latent of each image.
        latent: (batch, *latent), what was decoded.
        likelihood: what the decoder believes of the image.
        terms: the bottleneck's costs for each image, (batch,) nats, unweighted.
        logits: log-probabilities of the classes up to a constant; None from a model without a classifier.
    """

    posterior: Posterior
    latent: Latents
    likelihood: Likelihood
    terms: dict[str, Tensor]
    logits: Logits | None = None


class VAE(nn.Module):
    """A convolutional variational autoencoder.

        image ── encoder ──> features ── bottleneck ──> latent ── decoder ──> raw ── head ──> p(image | latent)
                                            │                │
                                            │                └── classifier ──> logits, in models that have one
                                            └──> posterior, terms

    In a conditional model the label of the image enters encoder and decoder too: whatever encodes or decodes takes
    the labels, and needs them; other models take no notice of them.

    Images are float tensors (batch, channel, *sizes) in [0, 1]. The parameters are on the meta device until
    `initialise` or `load` gives them values; `convae.build` does both.

    Args:
        spec: the description, checked.

    Raises:
        ConfigError: unknown layers or wrong arguments, or too many parameters.
        ShapeError: a layer does not fit, or the decoder does not give the input's shape back.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.input_shape: Shape = tuple(spec.input)
        self.name = spec.name
        self.provenance = Provenance()
        self.condition = None if spec.condition is None else condition(spec)
        more = 0 if self.condition is None else self.condition.channels
        self.encoder = Network((self.input_shape[0] + more, *self.input_shape[1:]), spec.encoder, "encoder")
        self.bottleneck: Bottleneck = part(BOTTLENECKS, spec.bottleneck, "bottleneck", self.encoder.shape_out)
        self.decoder = Network((self.latent_shape[0] + more, *self.latent_shape[1:]), spec.decoder, "decoder")
        self.classifier = None if spec.classifier is None else classifier(self.latent_shape, spec.classifier)
        self.head: LikelihoodHead = part(LIKELIHOODS, spec.likelihood, "likelihood")
        self._also_fit: set[Shape] = set()
        self._parts = {"bottleneck": spec.bottleneck, "likelihood": spec.likelihood}
        needed = (self.head.raw_channels(self.input_shape[0]), *self.input_shape[1:])
        if self.decoder.shape_out != needed:
            last = self.decoder.specs[-1].location if self.decoder.specs else "layer list is empty and"
            raise ShapeError(
                f"decoder {last} gives {shape_text(self.decoder.shape_out)}, but the input "
                f"{shape_text(self.input_shape)} with this likelihood needs {shape_text(needed)}"
            )
        self._max_parameters = spec.max_parameters
        self._as_built = layout(self)
        if count_parameters(self) > spec.max_parameters:
            raise ConfigError(
                f"model '{spec.name}' has {count_parameters(self):,} parameters, more than {spec.max_parameters:,}: "
                "write a larger max_parameters into its description if that is meant"
            )

    def extra_repr(self) -> str:
        """Name and shapes, for `print(model)`."""
        return f"'{self.name}', input {shape_text(self.input_shape)}, latent {shape_text(self.latent_shape)}"

    @property
    def latent_shape(self) -> Shape:
        """The shape of one image's latent: (latent,) or (latent, *grid)."""
        return self.bottleneck.latent_shape

    @functools.cached_property
    def size_step(self) -> tuple[int, ...] | None:
        """By multiples of what the sizes of images may differ from the input's; None where they may not.

        They may where no layer ties the network to its sizes, as a flatten does.
        """
        if not isinstance(self.encoder, Network):
            return None  # a module of somebody else
        layers = [module for module in self.modules() if isinstance(module, Layer)]
        if not all(layer.any_size for layer in layers):
            return None
        field = self.encoder.receptive_field()
        return tuple(math.ceil(step) for step in field.stride) if field else (1,) * (len(self.input_shape) - 1)

    @property
    def other_sizes(self) -> str | None:
        """The sizes of images beside the input's own that the model takes, in words; None without any."""
        if self.size_step is None:
            return None
        if set(self.size_step) == {1}:
            return "other sizes"
        return f"sizes that differ from the input's by multiples of {shape_text(self.size_step)}"

    def use_slices(self, rows: int | None) -> None:
        """Computes encoder and decoder in slices wherever nothing is trained: less memory for a large image.

        Results are equal up to rounding, since each slice is computed with the rows around it that it depends on.

        Args:
            rows: of an image in a slice, along its first spatial axis; None for the whole image at once.

        Raises:
            ConfigError: there are no rows in a slice, or a layer sees the whole image, as attention, a flatten and a
                norm over the positions do.
        """
        if rows is not None and rows < 1:
            raise ConfigError(f"slices need at least one row, got {rows}")
        for side, network in (("encoder", self.encoder), ("decoder", self.decoder)):
            if rows is not None and (found := network.sees_everything()) is not None:
                raise ConfigError(
                    f"model '{self.name}' cannot be computed in slices: {side} {found} sees the whole image"
                )
        self.encoder.rows = rows
        self.decoder.rows = None if rows is None else max(1, rows * self.latent_shape[1] // self.input_shape[1])

    @property
    def spec(self) -> Spec:
        """The description in its stored form: presets and repeats written out.

        Raises:
            ConfigError: a module was exchanged or set otherwise after the model was built.
        """
        if (changed := first_change(self._as_built, layout(self))) is not None:
            raise ConfigError(
                f"model '{self.name}': {changed} since the model was built, so its description is not true and it "
                "cannot be saved: describe the change (convae.build), or keep model.state_dict() with your own code"
            )
        return Spec(
            name=self.name,
            input=self.input_shape,
            encoder=self.encoder.canonical(),
            bottleneck=stored(BOTTLENECKS, self._parts["bottleneck"], "bottleneck"),
            decoder=self.decoder.canonical(),
            likelihood=stored(LIKELIHOODS, self._parts["likelihood"], "likelihood"),
            classifier=None if self.classifier is None else self.classifier.canonical(),
            max_parameters=self._max_parameters,
            condition=None if self.condition is None else stored_condition(self.condition),
        )

    def encode(self, x: AnyImages, labels: AnyLabels | None = None) -> Posterior:
        """The approximate posterior q(z | x) of each image; nothing is drawn.

        Computed in evaluation mode whatever mode the model is in, and the model stays as it is; gradients flow.
        Train through `forward`.

        Args:
            x: images, float in [0, 1]; any floating type is converted to that of the weights.
            labels: of the images, for a conditional model.

        Raises:
            ShapeError: the images have not a shape that the model takes, or are not floats in [0, 1].
            ConfigError: the model is conditional, and the labels are not such as it knows.
        """
        with evaluation_mode(self):
            return self.bottleneck.posterior(self._features(x, labels))

    def decode(self, z: AnyLatents, labels: AnyLabels | None = None) -> Likelihood:
        """The likelihood p(x | z) of each latent; computed in evaluation mode, as `encode` is.

        Args:
            z: latents; any floating type is converted to that of the weights.
            labels: of the images, for a conditional model.

        Raises:
            ShapeError: the latents have not the model's latent shape, or are not finite floats.
            ConfigError: the model is conditional, and the labels are not such as it knows.
        """
        with evaluation_mode(self):
            return self._decoded(self._checked_latents(z), labels)

    def decode_codes(self, codes: AnyCodes, labels: AnyLabels | None = None) -> Likelihood:
        """The likelihood of each latent whose codes are given, as `encode(images).codes` gives them.

        Args:
            codes: (batch, *grid) whole numbers from 0 on: the code at each place of the latent.
            labels: of the images, for a conditional model.

        Raises:
            ConfigError: the model has no codebook, or a number is no code of it.
            ShapeError: the codes are not whole numbers of the latent's grid.
        """
        count = self.bottleneck.codebook_size
        if count is None:
            raise ConfigError(f"model '{self.name}' has no codebook: its latents are decoded by decode")
        codes = checked_codes(codes, self.latent_shape[1:], count, weights_type(self)[1] or torch.device("cpu"))
        return self.decode(self.bottleneck.latent_of(codes), labels)

    def classify(self, z: AnyLatents) -> Logits:
        """Log-probabilities of the classes of each latent, up to a constant; computed in evaluation mode.

        Raises:
            ConfigError: the model has no classifier.
            ShapeError: the latents have not the model's latent shape, or are not finite floats.
        """
        if self.classifier is None:
            raise ConfigError(f"model '{self.name}' has no classifier on its latent")
        with evaluation_mode(self):
            logits: Tensor = self.classifier(self._checked_latents(z))
            return logits

    def forward(self, x: AnyImages, generator: AnyGenerators | None = None, labels: AnyLabels | None = None) -> Output:
        """Encodes and decodes, in the model's own mode: in training mode, statistics and codebooks follow the images.

        Args:
            x: images, float in [0, 1]; any floating type is converted to that of the weights.
            generator: draws the latents, or one for each image does. Without one, latents are drawn from torch's
                default generator in training mode, and are the posterior's mean in evaluation mode.
            labels: of the images, for a conditional model.

        Raises:
            ShapeError: the images have not a shape that the model takes, or are not floats in [0, 1].
            ConfigError: the model is conditional, and the labels are not such as it knows.
        """
        drawn_by = checked_generator(generator)
        bottled = self.bottleneck(self._features(x, labels), drawn_by, self.training or drawn_by is not None)
        latent = self._converted(bottled.latent)
        logits = None if self.classifier is None else self.classifier(latent)
        return Output(bottled.posterior, bottled.latent, self._decoded(latent, labels), bottled.terms, logits)

    @torch.no_grad()
    def sample(self, n: AnyCount, generator: AnyGenerators | None = None, labels: AnyLabels | None = None) -> Images:
        """`n` images: the expected image of latents drawn from the prior, in [0, 1]; the model stays as it is.

        Args:
            n: how many, at least 1.
            generator: draws the latents, or one for each image does.
            labels: of the images, for a conditional model; without them, the classes by turns.

        Raises:
            ConfigError: `n` is no such number, or the labels are not such as a conditional model knows.
            ShapeError: there is not one generator for each image.
        """
        count = checked_count(n, "the number of samples")
        z = self._converted(self.bottleneck.draw(count, checked_generator(generator)))
        if labels is None and self.condition is not None:
            labels = torch.arange(count, device=z.device) % self.condition.classes
        with evaluation_mode(self):
            return self._decoded(z, labels).mean

    def check_labels(
        self,
        labels: Sequence[int] | NDArray[np.int64] | None,
        whose: str,
        classes: Sequence[str] | None = None,
    ) -> None:
        """Checks, once for many images, that their labels mean what they mean to a model that knows classes.

        Args:
            labels: of the images, -1 where one is missing.
            whose: they are, for the message.
            classes: the names of the labels' classes, where they have names.

        Raises:
            ConfigError: the model is conditional, and there are no labels, or a label is missing or no class; or the
                classes of a model that knows some have other names.
        """
        own = self.provenance.classes or ()
        knows_classes = self.condition is not None or self.classifier is not None
        if knows_classes and any(first != second for first, second in zip(own, classes or (), strict=False)):
            raise ConfigError(
                f"model '{self.name}' numbers its classes {', '.join(own)}, and {whose} {', '.join(classes or ())}: "
                "convae.data.match_classes(split, model.provenance.classes) numbers them alike"
            )
        if self.condition is None:
            return
        known = self.condition.classes
        if labels is None:
            raise ConfigError(f"model '{self.name}' is conditional and needs labels, but {whose} has none")
        if missing := int((np.asarray(labels) < 0).sum()):
            raise ConfigError(f"model '{self.name}' is conditional, but {missing:,} images of {whose} have no label")
        if (largest := int(np.max(labels))) >= known:
            raise ConfigError(f"model '{self.name}' knows the classes 0 to {known - 1}, but {whose} has {largest}")

    def check_levels(self, levels: int | None, whose: str) -> None:
        """Checks, once for many images, that a likelihood of levels has a probability for each level of theirs.

        Args:
            levels: that a value of an image can have, evenly spaced from 0 to 1; None for floats.
            whose: they are, for the message.

        Raises:
            ConfigError: the likelihood is discrete, and the images have levels between its own, or are floats.
        """
        own = self.head.levels
        if own is None or (levels is not None and (own - 1) % (levels - 1) == 0):
            return
        kind = "floats, which have no levels" if levels is None else f"{levels:,} levels"
        remedy = "" if levels is None else f"likelihood: {{discretised-logistic: {{levels: {levels}}}}}, or "
        raise ConfigError(
            f"model '{self.name}': its likelihood is a probability of {own:,} levels, but the values of {whose} are "
            f"{kind}: choose {remedy}a density, such as likelihood: gaussian"
        )

    def _features(self, x: AnyImages, labels: AnyLabels | None) -> Tensor:
        features: Tensor = self.encoder(self._conditioned(self._checked(x), labels))
        return features

    def _decoded(self, z: Latents, labels: AnyLabels | None) -> Likelihood:
        """The likelihood of latents that were checked, in the mode that the model is in."""
        likelihood: Likelihood = self.head(self.decoder(self._conditioned(z, labels)))
        return likelihood

    def _conditioned(self, x: Tensor, labels: AnyLabels | None) -> Tensor:
        """Images or latents with what their labels say, in a conditional model."""
        if self.condition is None:
            return x
        classes = self.condition.classes
        if labels is None:
            raise ConfigError(
                f"model '{self.name}' is conditional: it needs a label from 0 to {classes - 1} of each image"
            )
        joined: Tensor = self.condition(x, checked_labels(labels, len(x), classes, x.device))
        return joined

    def _checked(self, x: AnyImages) -> Tensor:
        """`x` in the type of the weights, if the model can take it."""
        x = checked_images(x, *weights_type(self))
        shape = tuple(x.shape[1:])
        if shape != self.input_shape and shape not in self._also_fit:
            if tuple(x.shape) == self.input_shape:
                raise ShapeError(f"model '{self.name}' takes batches, got {shape_text(x.shape)}: give it image[None]")
            if shape == (*self.input_shape[1:], self.input_shape[0]):
                last = f"images.movedim(-1, 1), as channels come before {'sizes' if len(shape) > 2 else 'the size'}"
                raise ShapeError(
                    f"model '{self.name}' takes {shape_text(self.input_shape)}, got {shape_text(shape)}: give {last}"
                )
            self._fit(shape)
            self._also_fit.add(shape)
        return x

    def _checked_latents(self, z: AnyLatents) -> Latents:
        """`z` in the type of the weights, if it is latents of the model."""
        z = checked_latents(z, *weights_type(self))
        grid_fits = self.size_step is not None and z.ndim == len(self.latent_shape) + 1
        if tuple(z.shape[1:]) != self.latent_shape and not (grid_fits and z.shape[1] == self.latent_shape[0]):
            alone = ": one latent is a batch of its own, latent[None]" if tuple(z.shape) == self.latent_shape else ""
            got = shape_text(z.shape[1:]) or "single numbers"
            raise ShapeError(f"latents are {shape_text(self.latent_shape)}, got {got}{alone}")
        return z

    def _converted(self, latent: Latents) -> Latents:
        """A latent of the bottleneck, whose sums are float32 or wider, in the type of the weights."""
        dtype = weights_type(self)[0]
        return latent if dtype is None else latent.to(dtype)

    def _fit(self, shape: Shape) -> None:
        """Checks that images of another shape can be taken: a network built for them would be this very one."""
        taken, reason = shape_text(self.input_shape), ""
        if self.other_sizes is not None:
            taken += f", or {self.other_sizes}"
        if self._in_step(shape):
            try:
                VAE(self.spec.model_copy(update={"input": shape}))
            except ShapeError as error:
                reason = f": {error}"
            else:
                return
        raise ShapeError(f"model '{self.name}' takes images of {taken}, got {shape_text(shape)}{reason}")

    def _in_step(self, shape: Shape) -> bool:
        """Whether a shape differs from the input's by whole steps of its sizes alone."""
        if self.size_step is None or len(shape) != len(self.input_shape) or shape[0] != self.input_shape[0]:
            return False
        pairs = zip(shape[1:], self.input_shape[1:], self.size_step, strict=True)
        return not any((size - own) % step for size, own, step in pairs)
