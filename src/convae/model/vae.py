"""The variational autoencoder: three parts in a row, each importable by itself."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from convae.core.arguments import Named, arguments, named, not_default
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text
from convae.core.types import AnyImages, Generators, Images, Latents, Shape
from convae.model.bottlenecks import BOTTLENECKS
from convae.model.bottlenecks.base import Bottleneck, Posterior
from convae.model.description import Spec
from convae.model.layers.base import Layer
from convae.model.likelihoods import LIKELIHOODS
from convae.model.likelihoods.base import Likelihood, LikelihoodHead
from convae.model.network import Network, count, plain

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
        self.metadata: dict[str, Any] = {}
        self.encoder = Network(self.input_shape, spec.encoder, "encoder")
        self.bottleneck: Bottleneck = _part(BOTTLENECKS, spec.bottleneck, "bottleneck", self.encoder.shape_out)
        self.decoder = Network(self.bottleneck.latent_shape, spec.decoder, "decoder")
        self.classifier = None if spec.classifier is None else _classifier(self.latent_shape, spec.classifier)
        self.head: LikelihoodHead = _part(LIKELIHOODS, spec.likelihood, "likelihood")
        self._also_fit: set[Shape] = set()
        self._parts = {"bottleneck": spec.bottleneck, "likelihood": spec.likelihood}
        needed = (self.head.raw_channels(self.input_shape[0]), *self.input_shape[1:])
        if self.decoder.shape_out != needed:
            item = self.decoder.items[-1] if self.decoder.items else None
            last = "list is empty and" if item is None else f"{item.place} ({item})"
            raise ShapeError(
                f"decoder layer {last} gives {shape_text(self.decoder.shape_out)}, but the input "
                f"{shape_text(self.input_shape)} with this likelihood needs {shape_text(needed)}"
            )
        self._max_parameters = spec.max_parameters
        if count(self) > spec.max_parameters:
            raise ConfigError(
                f"model '{spec.name}' has {count(self):,} parameters, more than {spec.max_parameters:,}: "
                "write a larger max_parameters into its description if that is meant"
            )

    @property
    def latent_shape(self) -> Shape:
        """The shape of one image's latent: (latent,) or (latent, *grid)."""
        return self.bottleneck.latent_shape

    @functools.cached_property
    def size_step(self) -> tuple[int, ...] | None:
        """By multiples of what the sizes of images may differ from the input's; None where they may not.

        They may where no layer ties the network to its sizes, as a flatten does.
        """
        layers = [module for module in self.modules() if isinstance(module, Layer)]
        if not all(layer.any_size for layer in layers):
            return None
        reach = self.encoder.reach()
        return tuple(math.ceil(step) for step in reach.stride) if reach else (1,) * (len(self.input_shape) - 1)

    @property
    def spec(self) -> Spec:
        """The description in its stored form: presets and repeats written out."""
        return Spec(
            name=self.name,
            input=self.input_shape,
            encoder=self.encoder.canonical(),
            bottleneck=_canonical(BOTTLENECKS, self._parts["bottleneck"], "bottleneck"),
            decoder=self.decoder.canonical(),
            likelihood=_canonical(LIKELIHOODS, self._parts["likelihood"], "likelihood"),
            classifier=None if self.classifier is None else self.classifier.canonical(),
            max_parameters=self._max_parameters,
        )

    def encode(self, x: AnyImages) -> Posterior:
        """What the model believes of the latent of each image; nothing is drawn.

        Raises:
            ShapeError: the images have not a shape that the model takes, or are no floats.
        """
        return self.bottleneck.posterior(self.encoder(self._checked(x)))

    def decode(self, z: Latents) -> Likelihood:
        """What the model believes of the image of each latent.

        Raises:
            ShapeError: the latents have not the model's latent shape.
        """
        grid_fits = self.size_step is not None and z.ndim == len(self.latent_shape) + 1
        if tuple(z.shape[1:]) != self.latent_shape and not (grid_fits and z.shape[1] == self.latent_shape[0]):
            raise ShapeError(f"latents are {shape_text(self.latent_shape)}, got {shape_text(z.shape[1:])}")
        likelihood: Likelihood = self.head(self.decoder(z))
        return likelihood

    def classify(self, z: Latents) -> Logits:
        """Log-probabilities of the classes of each latent, up to a constant.

        Raises:
            ConfigError: the model has no classifier.
            ShapeError: the latents have not the model's latent shape.
        """
        if self.classifier is None:
            raise ConfigError(f"model '{self.name}' has no classifier on its latent")
        logits: Tensor = self.classifier(z)
        return logits

    def forward(self, x: AnyImages, generator: Generators | None = None) -> Output:
        """Encodes and decodes.

        Args:
            x: images.
            generator: draws the latents, or one for each image does. Without one, latents are drawn from torch's
                default generator in training mode, and are the posterior's mean in evaluation mode.
        """
        features = self.encoder(self._checked(x))
        bottled = self.bottleneck(features, generator, self.training or generator is not None)
        logits = None if self.classifier is None else self.classify(bottled.latent)
        return Output(bottled.posterior, bottled.latent, self.decode(bottled.latent), bottled.terms, logits)

    @torch.no_grad()
    def sample(self, n: int, generator: Generators | None = None) -> Images:
        """`n` images: the expected image of latents drawn from the prior, in [0, 1]."""
        return self.decode(self.bottleneck.draw(n, generator)).mean

    def _checked(self, x: Tensor) -> Tensor:
        """`x`, if the model can take it."""
        if not self._fits(tuple(x.shape[1:])):
            wanted = shape_text(self.input_shape)
            if self.size_step is not None:
                wanted += f", or sizes that differ from these by multiples of {shape_text(self.size_step)}"
            raise ShapeError(f"model '{self.name}' takes images of {wanted}, got {shape_text(x.shape[1:])}")
        if not x.is_floating_point():
            raise ShapeError(f"images are floats in [0, 1], got {x.dtype}: divide 8-bit images by 255")
        return x

    def _fits(self, shape: Shape) -> bool:
        """Whether images of a shape can be taken: a network built for them would be this very one."""
        if shape == self.input_shape or shape in self._also_fit:
            return True
        if self.size_step is None or len(shape) != len(self.input_shape) or shape[0] != self.input_shape[0]:
            return False
        pairs = zip(shape[1:], self.input_shape[1:], self.size_step, strict=True)
        if any((size - own) % step for size, own, step in pairs):
            return False
        try:
            VAE(self.spec.model_copy(update={"input": shape}))
        except ShapeError:
            return False
        self._also_fit.add(shape)
        return True


def _classifier(shape: Shape, layers: list[Any]) -> Network:
    """The layers from a latent to a value for each class, on the meta device."""
    network = Network(shape, layers, "classifier")
    if len(network.shape_out) != 1:
        raise ShapeError(f"classifier gives {shape_text(network.shape_out)}: end it with a value for each class")
    return network


def _part(registry: Any, written: Named, kind: str, *shape: Shape) -> Any:
    """A bottleneck or a likelihood head, on the meta device."""
    name, given = named(written, kind)
    target = registry.get(name)
    checked = arguments(target, given, f"{kind} {name}")
    try:
        with torch.device("meta"):
            return target(*shape, **checked)
    except (ConfigError, ShapeError) as error:
        raise type(error)(f"{kind} {name}: {error}") from error


def _canonical(registry: Any, written: Named, kind: str) -> dict[str, dict[str, Any]]:
    """A bottleneck or a likelihood in its one stored form."""
    name, given = named(written, kind)
    target = registry.get(name)
    return {name.replace("_", "-"): plain(not_default(target, arguments(target, given, kind)))}
