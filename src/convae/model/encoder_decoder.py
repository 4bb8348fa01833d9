"""Base class of models with an encoder and a decoder: input sizes, checkpointing, slices and tiles."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from convae.core.context import Context, LatentModule, call_module
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text
from convae.core.output import Likelihood
from convae.core.types import AnyImages, AnyLabels, AnyLatents, LatentLayout, Latents, Shape
from convae.model.condition import Condition
from convae.model.inputs import checked_images, checked_labels, checked_latents, weights_type
from convae.model.layers.base import Layer, Network
from convae.model.layers.base.compiled import CompileMode, discard_compiled
from convae.model.layers.base.slices import Slices
from convae.model.layers.base.tiles import Tiles
from convae.model.likelihoods.base import LikelihoodHead
from convae.model.quantizers.base import Quantizer


class EncoderDecoder(nn.Module):
    """A model with an encoder, a decoder and latents between them.

    Attributes:
        input_shape: (channels, *sizes) of the images.
        name: name of the model in messages and artifacts.
        encoder: images to features.
        decoder: latents to raw values of the likelihood.
        head: raw values to the likelihood.
        condition: class embedding of a conditional model; None for others.
        classifier: latents to logits; None without one.
        latent_layout: names and shapes of the latents in the latent tensor.
    """

    input_shape: Shape
    name: str
    encoder: nn.Module
    decoder: nn.Module
    head: LikelihoodHead
    condition: Condition | None
    classifier: nn.Module | None
    latent_layout: LatentLayout
    _rebuild: Callable[[Shape], Any] | None = None

    def __init__(self) -> None:
        super().__init__()
        self._also_fit: set[Shape] = set()

    @property
    def latent_shape(self) -> Shape:
        """Shape of the latent of one image: (latent,) or (latent, *grid); (size,) for several latents."""
        return self.latent_layout.shape

    @property
    def networks(self) -> dict[str, Network]:
        """The parts of the model that are lists of layers, by name; other modules are omitted."""
        parts = {"encoder": self.encoder, "decoder": self.decoder, "classifier": self.classifier}
        return {name: module for name, module in parts.items() if isinstance(module, Network)}

    def use_checkpointing(self, is_on: bool) -> None:
        """Turns gradient checkpointing of encoder and decoder on or off; see `Network`.

        Raises:
            ConfigError: encoder or decoder is not a `Network`.
        """
        for side in ("encoder", "decoder"):
            if (network := self.networks.get(side)) is not None:
                network.checkpointing = is_on
            elif is_on:
                raise ConfigError(f"model '{self.name}' does not support checkpointing: its {side} is not a Network")

    def use_compilation(self, mode: CompileMode | None) -> tuple[str, ...]:
        """Turns `torch.compile` of encoder and decoder on or off, for training steps; see `Network`.

        Args:
            mode: mode of `torch.compile`; None to turn it off.

        Returns:
            The names of the parts that are compiled. One with layers that use the forward context is not: it draws
            noise, or reports terms or latents.
        """
        parts = {side: self.networks[side] for side in ("encoder", "decoder") if side in self.networks}
        for network in parts.values():
            discard_compiled(network)
            network.compile_mode = mode if network.compiles else None
        return tuple(side for side, network in parts.items() if network.compile_mode is not None)

    @functools.cached_property
    def size_step(self) -> tuple[int, ...] | None:
        """Total stride along each axis: image sizes may differ from the input's by its multiples; None for fixed sizes.

        Sizes are fixed where a layer depends on them, as a flatten does, and where the latent is a vector.
        """
        if not isinstance(self.encoder, Network) or not isinstance(self.decoder, Network):
            return None  # unknown for other modules
        if len(self.latent_layout.entries[0][1]) == 1:
            return None
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

    def use_slices(self, rows: int | Literal["auto"] | None, *, memory: int | None = None) -> None:
        """Runs encoder and decoder on slices of large images in inference, to save memory; replaces `use_tiles`.

        Results are equal up to rounding: each slice is computed with the rows in its receptive field, norms have the
        statistics of the entire image, and attention its keys and values. What does not fit into memory is computed
        several times. Layers that need the entire image are in `layers_computed_whole`.

        Args:
            rows: image rows per slice, along the first spatial axis, where the feature maps are largest; `auto` for as
                many as `memory` allows, and no slices for images that take less; None for the whole image at once.
            memory: bytes that slices and stored feature maps may take, approximately; by default a quarter of the
                memory of the device.

        Raises:
            ConfigError: `rows` or `memory` is less than 1, or encoder or decoder is not a `Network`.
        """
        for name, value in (("rows", rows), ("memory", memory)):
            if isinstance(value, int) and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        for network, fraction in self._divisible("slices"):
            own = rows * fraction if isinstance(rows, int) else None
            network.slices, network.tiles = None if rows is None else Slices(own, memory), None

    def layers_computed_whole(self) -> list[str]:
        """Locations of the layers whose memory is not saved by slices, since they get the entire image."""
        return [place for side in ("encoder", "decoder") for place in self.networks[side].layers_computed_whole()]

    def use_tiles(self, size: int | None, overlap: int = 0) -> None:
        """Runs encoder and decoder on overlapping tiles in inference, which are blended; replaces `use_slices`.

        The result is approximate, since norms, attention and borders see a tile only: `use_slices` is exact.

        Args:
            size: image positions of a tile along each axis; None for the whole image at once.
            overlap: image positions that neighboring tiles share.

        Raises:
            ConfigError: the model has other latents than that of the bottleneck or fixed sizes, or size or overlap do
                not fit its strides.
        """
        divisible = list(self._divisible("tiles"))
        if size is None:
            for network, _ in divisible:
                network.tiles = None
            return
        step = self.size_step
        if step is None or any(
            isinstance(each, LatentModule | Quantizer) for net, _ in divisible for each in net.modules()
        ):
            raise ConfigError(
                f"model '{self.name}' does not support tiles, since it needs the entire image. Use slices"
            )
        if not 0 <= overlap < size:
            raise ConfigError(f"the overlap of tiles must be at least 0 and below their size {size}, got {overlap}")
        larger = [size - own for own in self.input_shape[1:]]
        latent = tuple(n + by // each for n, by, each in zip(self.latent_shape[1:], larger, step, strict=True))
        if min(latent) < 1 or any(by % each or overlap % each for by, each in zip(larger, step, strict=True)):
            raise ConfigError(
                f"tiles of {size} with an overlap of {overlap} do not fit model '{self.name}'. Use {self.other_sizes}, "
                f"and overlaps that are multiples of {shape_text(step)}"
            )
        for network, _ in divisible:
            is_encoder = network is self.encoder
            own = (size,) * len(step) if is_encoder else latent
            shared = tuple(overlap if is_encoder else overlap // each for each in step)
            network.slices, network.tiles = None, Tiles(own, shared, network.strides())

    def _divisible(self, what: str) -> Iterator[tuple[Network, float]]:
        """Encoder and decoder, with the rows of their input per image row.

        Raises:
            ConfigError: one of them is not a `Network`.
        """
        for side in ("encoder", "decoder"):
            if (network := self.networks.get(side)) is None:
                raise ConfigError(f"model '{self.name}' does not support {what}: its {side} is not a Network")
            shape = self.input_shape if side == "encoder" else self.latent_shape
            yield network, (shape[1] if len(shape) > 1 else 1) / self.input_shape[1]

    def _checked(self, x: AnyImages) -> Tensor:
        """Validates images and converts them to the dtype of the weights."""
        x = checked_images(x, *weights_type(self))
        shape = tuple(x.shape[1:])
        if _has_free_sizes(shape):
            return x
        if shape != self.input_shape and shape not in self._also_fit:
            if tuple(x.shape) == self.input_shape:
                raise ShapeError(f"model '{self.name}' expects a batch, got {shape_text(x.shape)}. Pass image[None]")
            if shape == (*self.input_shape[1:], self.input_shape[0]):
                last = "images.movedim(-1, 1), with channels first"
                raise ShapeError(
                    f"model '{self.name}' expects {shape_text(self.input_shape)}, got {shape_text(shape)}. Pass {last}"
                )
            self._fit(shape)
            self._also_fit.add(shape)
        return x

    def _checked_latents(self, z: AnyLatents) -> Latents:
        """Validates latents and converts them to the dtype of the weights."""
        z = checked_latents(z, *weights_type(self))
        if _has_free_sizes(z.shape[1:]):
            return z
        grid_fits = self.size_step is not None and z.ndim == len(self.latent_shape) + 1
        if tuple(z.shape[1:]) != self.latent_shape and not (grid_fits and z.shape[1] == self.latent_shape[0]):
            alone = ". Pass a batch, latent[None]" if tuple(z.shape) == self.latent_shape else ""
            got = shape_text(z.shape[1:]) or "single numbers"
            raise ShapeError(f"latents are {shape_text(self.latent_shape)}, got {got}{alone}")
        return z

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
        raise ShapeError(f"model '{self.name}' accepts images of {taken}, got {shape_text(shape)}{reason}")

    def _in_step(self, shape: Shape) -> bool:
        """Whether a shape differs from the input's only by multiples of `size_step`."""
        if self.size_step is None or len(shape) != len(self.input_shape) or shape[0] != self.input_shape[0]:
            return False
        pairs = zip(shape[1:], self.input_shape[1:], self.size_step, strict=True)
        return not any((size - own) % step for size, own, step in pairs)

    def _features(self, x: AnyImages, labels: AnyLabels | None, context: Context | None = None) -> Tensor:
        return call_module(self.encoder, self._conditioned(self._checked(x), labels), context)

    def _decoded(self, z: Latents, labels: AnyLabels | None, context: Context | None = None) -> Likelihood:
        """Likelihood of checked latents, in the model's current mode."""
        likelihood: Likelihood = self.head(self._raw_values(z, labels, context))
        return likelihood

    def _raw_values(self, z: Latents, labels: AnyLabels | None, context: Context | None) -> Tensor:
        """The decoder's raw values of checked latents, in the model's current mode."""
        raw: Tensor = call_module(self.decoder, self._conditioned(z, labels), context)
        return raw

    def _conditioned(self, x: Tensor, labels: AnyLabels | None) -> Tensor:
        """Concatenates class embeddings to images or latents, in a conditional model."""
        if self.condition is None:
            return x
        classes = self.condition.classes
        if labels is None:
            raise ConfigError(
                f"model '{self.name}' is conditional. Pass labels, one from 0 to {classes - 1} for each image"
            )
        joined: Tensor = self.condition(x, checked_labels(labels, x.shape[0], classes, x.device))
        return joined

    def _converted(self, latent: Latents) -> Latents:
        """Converts a latent, which bottlenecks compute in float32 or wider, to the dtype of the weights."""
        dtype = weights_type(self)[0]
        return latent if dtype is None else latent.to(dtype)


def _has_free_sizes(shape: Iterable[int | torch.SymInt]) -> bool:
    """Whether sizes are symbols, as in an export with free sizes: they have no values to check."""
    return any(isinstance(size, torch.SymInt) for size in shape)
