"""The variational autoencoder: encoder, bottleneck, decoder and likelihood, any modules that map shapes as stated."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from convae.core.context import Context, call_module
from convae.core.description import Spec
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text
from convae.core.noise import Generators
from convae.core.output import Likelihood, Output
from convae.core.posterior import Posterior
from convae.core.types import (
    AnyCodes,
    AnyCount,
    AnyGenerators,
    AnyImages,
    AnyLabels,
    AnyLatents,
    Images,
    LatentLayout,
    Latents,
    Logits,
    Shape,
)
from convae.model.bottlenecks.base import Bottleneck
from convae.model.condition import Condition
from convae.model.inputs import (
    checked_codes,
    checked_count,
    checked_generator,
    checked_images,
    checked_labels,
    checked_latents,
    weights_type,
)
from convae.model.layers.base import Layer, Network
from convae.model.likelihoods.base import LikelihoodHead
from convae.model.mode import evaluation_mode
from convae.model.parts import (
    build_part,
    check_shapes,
    first_change,
    layout,
    name_streams,
    stored_spec,
)
from convae.model.priors import PRIORS
from convae.model.priors.base import Prior
from convae.model.provenance import Provenance


class VAE(nn.Module):
    """A convolutional variational autoencoder.

        image ── encoder ──> features ── bottleneck ──> latent ── decoder ──> raw ── likelihood head ──> p(x | z)
                                            │              │
                                            │              └── classifier ──> logits, in models that have one
                                            └──> q(z | x), costs

    Encoder, decoder and classifier are any modules; `convae.build` makes them of a description. A conditional model
    concatenates the class embedding of the label to the input of encoder and decoder, so encode, decode and sample
    take labels; other models ignore them.

    Images are float tensors (batch, channel, *sizes) in [0, 1].

    Args:
        encoder: (batch, channel, *sizes) to features; `channel` counts the condition's channels too.
        bottleneck: features to latents; made for the shape of the encoder's features.
        decoder: (batch, *latent) to the raw values of the likelihood, (batch, raw channels, *sizes).
        likelihood: the head that turns raw values into p(x | z).
        input_shape: (channels, *sizes) of the images, with one, two or three spatial axes.
        prior: p(z); without it, the default prior of the bottleneck.
        classifier: latents to logits, (batch, class).
        condition: the class embedding of a conditional model.
        name: of the model, in messages and artifacts.

    Raises:
        ShapeError: a part does not accept its input shape, or the decoder's output does not match the images.
        ConfigError: the model has a classifier and a condition.
    """

    def __init__(
        self,
        encoder: nn.Module,
        bottleneck: Bottleneck,
        decoder: nn.Module,
        likelihood: LikelihoodHead,
        *,
        input_shape: Shape,
        prior: Prior | None = None,
        classifier: nn.Module | None = None,
        condition: Condition | None = None,
        name: str = "vae",
    ) -> None:
        super().__init__()
        if classifier is not None and condition is not None:
            raise ConfigError(
                f"model '{name}' has a condition and a classifier, but the latent of a conditional model need not hold "
                "the class. Remove one of them"
            )
        self.input_shape: Shape = tuple(input_shape)
        self.name = name
        self.provenance = Provenance()
        self.condition = condition
        self.encoder = encoder
        self.bottleneck = bottleneck
        self.decoder = decoder
        self.classifier = classifier
        self.head = likelihood
        self.prior: Prior = prior or build_part(PRIORS, bottleneck.default_prior, "prior", bottleneck)
        self.latent_layout = LatentLayout(((bottleneck.stream, bottleneck.latent_shape),))
        name_streams(self)
        self._also_fit: set[Shape] = set()
        self._description: Spec | None = None
        self._rebuild: Callable[[Shape], VAE] | None = None
        extra = 0 if condition is None else condition.channels
        self._logits = check_shapes(self.input_shape, encoder, bottleneck, decoder, likelihood, classifier, extra)
        self._as_built = layout(self)

    def described_by(self, spec: Spec, rebuild: Callable[[Shape], VAE]) -> None:
        """Attaches the description that the model was built from, as long as its parts stay as they are.

        Args:
            spec: the description.
            rebuild: makes the same model for another input shape, on the meta device.
        """
        self._description, self._rebuild = spec, rebuild

    def extra_repr(self) -> str:
        """Name and shapes, for `print(model)`."""
        return f"'{self.name}', input {shape_text(self.input_shape)}, latent {shape_text(self.latent_shape)}"

    @property
    def latent_shape(self) -> Shape:
        """The shape of one image's latent: (latent,) or (latent, *grid)."""
        return self.latent_layout.shape

    @property
    def is_described(self) -> bool:
        """Whether the model has a description; one that was made of modules has none."""
        return self._description is not None

    @property
    def networks(self) -> dict[str, Network]:
        """The parts of the model that are lists of layers, by name; a part that is another module is left out."""
        parts = {"encoder": self.encoder, "decoder": self.decoder, "classifier": self.classifier}
        return {name: module for name, module in parts.items() if isinstance(module, Network)}

    @property
    def class_count(self) -> int | None:
        """Number of classes of the classifier or the condition; None without either."""
        return self.condition.classes if self.condition is not None else self._logits

    def use_checkpointing(self, is_on: bool) -> None:
        """Turns gradient checkpointing of encoder and decoder on or off; see `Network`.

        Raises:
            ConfigError: encoder or decoder is not a `Network`.
        """
        for side in ("encoder", "decoder"):
            if (network := self.networks.get(side)) is not None:
                network.checkpointing = is_on
            elif is_on:
                raise ConfigError(f"model '{self.name}' cannot be checkpointed: its {side} is not a Network")

    @functools.cached_property
    def size_step(self) -> tuple[int, ...] | None:
        """Total stride along each axis: image sizes may differ from the input's by its multiples; None for fixed sizes.

        Sizes are fixed where a layer depends on them, as a flatten does.
        """
        if not isinstance(self.encoder, Network) or not isinstance(self.decoder, Network):
            return None  # nothing is known of other modules
        layers = [module for module in self.modules() if isinstance(module, Layer)]
        if not all(layer.any_size for layer in layers):
            return None
        field = self.encoder.receptive_field()
        return tuple(math.ceil(step) for step in field.stride) if field else (1,) * (len(self.input_shape) - 1)

    @property
    def other_sizes(self) -> str | None:
        """Other image sizes that the model accepts, for messages; None without any."""
        if self.size_step is None:
            return None
        if set(self.size_step) == {1}:
            return "other sizes"
        return f"sizes that differ from the input's by multiples of {shape_text(self.size_step)}"

    def use_slices(self, rows: int | None) -> None:
        """Runs encoder and decoder on slices of rows in inference, to save memory for large images.

        Results are equal up to rounding: each slice is computed with the rows in its receptive field.

        Args:
            rows: image rows per slice, along the first spatial axis; None for the whole image at once.

        Raises:
            ConfigError: `rows` is less than 1, or a layer has a global receptive field, as attention, flatten and
                norms over positions have.
        """
        if rows is not None and rows < 1:
            raise ConfigError(f"slices need at least one row, got {rows}")
        for side in ("encoder", "decoder"):
            if (network := self.networks.get(side)) is None:
                raise ConfigError(f"model '{self.name}' cannot be computed in slices: its {side} is not a Network")
            if rows is not None and (found := network.sees_everything()) is not None:
                raise ConfigError(f"{found}: sees the whole image, so the model cannot be computed in slices")
            latent_rows = None if rows is None else max(1, rows * self.latent_shape[1] // self.input_shape[1])
            network.rows = rows if network is self.encoder else latent_rows

    @property
    def spec(self) -> Spec:
        """The canonical description: presets and repeats expanded.

        Raises:
            ConfigError: the model was made of modules, or was changed after it was built.
        """
        if self._description is None:
            raise ConfigError(
                f"model '{self.name}' was made of modules and has no description. "
                "Load its weights with convae.load(path, model=...), where your code makes the model"
            )
        if (changed := first_change(self._as_built, layout(self))) is not None:
            raise ConfigError(
                f"model '{self.name}': {changed} after the model was built, so it no longer matches its description. "
                "Describe the change (convae.build), or save model.state_dict() with your own code"
            )
        return stored_spec(self, self._description)

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
            return self.bottleneck.posterior(self._features(x, labels))

    def decode(self, z: AnyLatents, labels: AnyLabels | None = None) -> Likelihood:
        """Likelihood p(x | z) of each latent; computed in evaluation mode, as `encode` is.

        Args:
            z: latents; any floating type is converted to that of the weights.
            labels: class numbers of the images, for a conditional model.

        Raises:
            ShapeError: the latents do not have the model's latent shape, or are not finite floats.
            ConfigError: the model is conditional, and labels are missing or not class numbers of it.
        """
        with evaluation_mode(self):
            return self._decoded(self._checked_latents(z), labels)

    def decode_codes(self, codes: AnyCodes, labels: AnyLabels | None = None) -> Likelihood:
        """Likelihood p(x | z) of latents given as code indices, such as `encode(images).codes`.

        Args:
            codes: (batch, *grid), the code index at each position of the latent.
            labels: class numbers of the images, for a conditional model.

        Raises:
            ConfigError: the model has no codebook, or an index is out of range.
            ShapeError: the codes are not integers of the latent's grid.
        """
        count = self.bottleneck.codebook_size
        if count is None:
            raise ConfigError(f"model '{self.name}' has no codebook. Use decode")
        codes = checked_codes(codes, self.latent_shape[1:], count, weights_type(self)[1] or torch.device("cpu"))
        return self.decode(self.bottleneck.embed_codes(codes), labels)

    def classify(self, z: AnyLatents) -> Logits:
        """Class logits of each latent, (batch, class); computed in evaluation mode.

        Raises:
            ConfigError: the model has no classifier.
            ShapeError: the latents do not have the model's latent shape, or are not finite floats.
        """
        if self.classifier is None:
            raise ConfigError(f"model '{self.name}' has no classifier on its latent")
        with evaluation_mode(self):
            logits: Tensor = self.classifier(self._checked_latents(z))
            return logits

    def forward(self, x: AnyImages, generator: AnyGenerators | None = None, labels: AnyLabels | None = None) -> Output:
        """Encodes and decodes in the model's mode; in training mode, batch statistics and codebooks are updated.

        Args:
            x: images, float in [0, 1]; any floating type is converted to that of the weights.
            generator: random generator for the latents, or one for each image. Without one, latents are sampled with
                torch's default generator in training mode, and are the posterior mean in evaluation mode.
            labels: class numbers of the images, for a conditional model.

        Raises:
            ShapeError: the model does not accept images of this shape, or they are not floats in [0, 1].
            ConfigError: the model is conditional, and labels are missing or not class numbers of it.
        """
        noise = checked_generator(generator)
        is_drawn = self.training or noise is not None
        context = Context(noise, labels, "posterior" if is_drawn else "mean")
        latent = self.bottleneck(self._features(x, labels, context), context)
        converted = self._converted(latent)
        logits = None if self.classifier is None else call_module(self.classifier, converted, context)
        likelihood = self._decoded(converted, labels, context)
        return Output(context.posteriors[self.bottleneck.stream], latent, likelihood, context.terms, logits)

    def sample_latents(
        self,
        count: int,
        noise: Generators | None = None,
        labels: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Latents:
        """Latents, (count, *latent), drawn from the prior, in the type and on the device of the weights.

        Args:
            count: number of latents.
            noise: one generator, or one for each latent; torch's default generator without it.
            labels: (count,) class numbers, for a prior that depends on them.
            temperature: factor on the standard deviation of the prior.

        Raises:
            ShapeError: there is not one generator for each latent.
        """
        drawn = self.prior.sample(count, noise, labels, temperature)
        return self._converted(self.bottleneck.embed_codes(drawn) if self.prior.draws_codes else drawn)

    @torch.no_grad()
    def sample(self, n: AnyCount, generator: AnyGenerators | None = None, labels: AnyLabels | None = None) -> Images:
        """Samples `n` images from the prior: the mean of p(x | z), in [0, 1]; the model's mode is restored.

        Args:
            n: number of images, at least 1.
            generator: random generator for the latents, or one for each image.
            labels: class numbers, for a conditional model; by default the classes in turn.

        Raises:
            ConfigError: `n` is not a positive integer, or labels are not class numbers of a conditional model.
            ShapeError: there is not one generator for each image.
        """
        count = checked_count(n, "the number of samples")
        if labels is None and self.condition is not None:
            labels = torch.arange(count, device=self.prior.like.device) % self.condition.classes
        z = self.sample_latents(count, checked_generator(generator), labels)
        with evaluation_mode(self):
            return self._decoded(z, labels).mean

    def _features(self, x: AnyImages, labels: AnyLabels | None, context: Context | None = None) -> Tensor:
        return call_module(self.encoder, self._conditioned(self._checked(x), labels), context)

    def _decoded(self, z: Latents, labels: AnyLabels | None, context: Context | None = None) -> Likelihood:
        """Likelihood of checked latents, in the model's current mode."""
        likelihood: Likelihood = self.head(call_module(self.decoder, self._conditioned(z, labels), context))
        return likelihood

    def _conditioned(self, x: Tensor, labels: AnyLabels | None) -> Tensor:
        """Concatenates class embeddings to images or latents, in a conditional model."""
        if self.condition is None:
            return x
        classes = self.condition.classes
        if labels is None:
            raise ConfigError(
                f"model '{self.name}' is conditional. Give labels, one from 0 to {classes - 1} for each image"
            )
        joined: Tensor = self.condition(x, checked_labels(labels, len(x), classes, x.device))
        return joined

    def _checked(self, x: AnyImages) -> Tensor:
        """Validates images and converts them to the dtype of the weights."""
        x = checked_images(x, *weights_type(self))
        shape = tuple(x.shape[1:])
        if shape != self.input_shape and shape not in self._also_fit:
            if tuple(x.shape) == self.input_shape:
                raise ShapeError(f"model '{self.name}' expects a batch, got {shape_text(x.shape)}. Give image[None]")
            if shape == (*self.input_shape[1:], self.input_shape[0]):
                last = f"images.movedim(-1, 1), as channels come before {'sizes' if len(shape) > 2 else 'the size'}"
                raise ShapeError(
                    f"model '{self.name}' takes {shape_text(self.input_shape)}, got {shape_text(shape)}: give {last}"
                )
            self._fit(shape)
            self._also_fit.add(shape)
        return x

    def _checked_latents(self, z: AnyLatents) -> Latents:
        """Validates latents and converts them to the dtype of the weights."""
        z = checked_latents(z, *weights_type(self))
        grid_fits = self.size_step is not None and z.ndim == len(self.latent_shape) + 1
        if tuple(z.shape[1:]) != self.latent_shape and not (grid_fits and z.shape[1] == self.latent_shape[0]):
            alone = ". Give a batch, latent[None]" if tuple(z.shape) == self.latent_shape else ""
            got = shape_text(z.shape[1:]) or "single numbers"
            raise ShapeError(f"latents are {shape_text(self.latent_shape)}, got {got}{alone}")
        return z

    def _converted(self, latent: Latents) -> Latents:
        """Converts a latent, which bottlenecks compute in float32 or wider, to the dtype of the weights."""
        dtype = weights_type(self)[0]
        return latent if dtype is None else latent.to(dtype)

    def _fit(self, shape: Shape) -> None:
        """Checks that the model accepts images of another shape: a model built for it has equal parameters."""
        taken, reason = shape_text(self.input_shape), ""
        if self.other_sizes is not None:
            taken += f", or {self.other_sizes}"
        if self._in_step(shape) and self._rebuild is not None:
            try:
                self._rebuild(shape)
            except ShapeError as error:
                reason = f": {error}"
            else:
                return
        raise ShapeError(f"model '{self.name}' takes images of {taken}, got {shape_text(shape)}{reason}")

    def _in_step(self, shape: Shape) -> bool:
        """Whether a shape differs from the input's only by multiples of `size_step`."""
        if self.size_step is None or len(shape) != len(self.input_shape) or shape[0] != self.input_shape[0]:
            return False
        pairs = zip(shape[1:], self.input_shape[1:], self.size_step, strict=True)
        return not any((size - own) % step for size, own, step in pairs)
