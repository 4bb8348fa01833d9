"""Structure interface: description and tensor names of a published network, from its configuration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import nn

from convae.core.arguments import Positive, parse_arguments
from convae.core.description import to_plain
from convae.core.errors import ConfigError
from convae.core.names import flow_repr
from convae.core.types import Shape
from convae.model.layers.base.network import canonical_list
from convae.model.provenance import LatentScale
from convae.model.published.layers import PublishedLayer
from convae.model.vae import VAE
from convae.model.weights import State

Stages = Annotated[tuple[Positive, ...], Field(min_length=1, max_length=16)]
Blocks = Annotated[int, Field(gt=0, le=1_000)]
Numbers = Annotated[tuple[Annotated[float, Field(allow_inf_nan=False)], ...], Field(max_length=1 << 16)]
Number = Annotated[float, Field(allow_inf_nan=False)]
LIKELIHOOD = {"gaussian": {"link": "identity"}}
"""The mean is the output of the published decoder; the loss is the squared error."""


@dataclass(frozen=True)
class Renaming:
    """A parameter of a model, and its published tensors.

    Attributes:
        name: name in the model.
        sources: names in the published weights; the parameter is their concatenation along output channels.
        is_linear: whether a 1×1 kernel is published as a matrix.
    """

    name: str
    sources: tuple[str, ...]
    is_linear: bool = False


class Structure(ABC):
    """A published network.

    The keyword-only arguments of the constructor are the keys of the published `config.json`.

    Attributes:
        class_name: name of the class in diffusers.
        config: the configuration with all keys.
        notes: messages for the user about models of this configuration.
        settings: keys of the configuration that do not affect the network, but are kept for export.
    """

    class_name: ClassVar[str]
    settings: ClassVar[tuple[str, ...]] = ()
    config: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    _scale = LatentScale()
    """Normalization of latents by the configuration."""

    @classmethod
    def read(cls, config: Mapping[str, Any], where: str = "config.json") -> Structure:
        """Builds the structure of a published configuration.

        Raises:
            ConfigError: unknown keys or invalid values.
        """
        given = {key: value for key, value in config.items() if not key.startswith("_")}
        parsed = parse_arguments(cls, given, where)
        made = cls(**parsed)
        made.config = parsed
        return made

    @classmethod
    def read_of(cls, model: VAE, config: Mapping[str, Any]) -> Structure:
        """Builds the structure of a model from a configuration and the settings kept by its import.

        Raises:
            ConfigError: the configuration is invalid, or the model has other layers.
        """
        kept = {key: value for key, value in model.provenance.published.items() if key in cls.settings}
        found = cls.read({**config, **kept}, "its configuration")
        found.require_layers(model)
        return found

    @classmethod
    @abstractmethod
    def of_model(cls, model: VAE) -> Structure:
        """Finds the structure of a model.

        Raises:
            ConfigError: the model has another structure; the message contains the first difference.
        """

    @classmethod
    def of_state(cls, state: State) -> Structure | None:  # noqa: ARG003  # for classes that override it
        """Finds the structure of published weights without a configuration; None if the tensors do not determine it."""
        return None

    @property
    @abstractmethod
    def input(self) -> Shape:
        """(channels, *sizes) of the images of the configuration."""

    @abstractmethod
    def bottleneck(self) -> dict[str, Any]:
        """The description of the bottleneck."""

    @abstractmethod
    def encoder(self) -> list[PublishedLayer]:
        """Images in [0, 1] to features."""

    @abstractmethod
    def decoder(self, sizes: Shape) -> list[PublishedLayer]:
        """Latents to images in [0, 1] of these sizes."""

    def latent_scale(self, state: State) -> LatentScale | None:
        """The normalization of latents for generators, from the configuration or further tensors; None without."""
        return None if self._scale == LatentScale() else self._scale.model_copy(update={"source": "config.json"})

    def further_tensors(self) -> dict[str, str]:
        """Names of published tensors outside of encoder and decoder, by parameter name in the model."""
        return {}

    def ignored_tensors(self) -> tuple[str, ...]:
        """Names of published tensors that are not parameters of the model."""
        return ()

    def complete(self, tensors: State) -> None:  # noqa: B027  # optional
        """Adds tensors of the model that are not published."""

    def is_derived(self, name: str) -> bool:
        """Whether `complete` adds a tensor with this name, such as the usage of codes."""
        return False

    def export_further(self, scale: LatentScale | None) -> State:
        """Published tensors that are not parameters of the model."""
        return {}

    def describe(self, input: Shape) -> dict[str, Any]:
        """The description of the network for images of a shape."""
        return {
            "input": list(input),
            "encoder": [each.layer for each in self.encoder()],
            "bottleneck": self.bottleneck(),
            "decoder": [each.layer for each in self.decoder(tuple(input[1:]))],
            "likelihood": LIKELIHOOD,
        }

    def renamings(self, model: VAE) -> Iterator[Renaming]:
        """All parameters and buffers of the model, with their published tensors."""
        for side, layers in (("encoder", self.encoder()), ("decoder", self.decoder(tuple(model.input_shape[1:])))):
            network = model.networks[side]
            for index, each in enumerate(layers):
                yield from _renamings(network[index], f"{side}.{index}", each)
        for ours, theirs in self.further_tensors().items():
            yield Renaming(ours, (theirs,))

    def require_layers(self, model: VAE) -> None:
        """Checks that encoder and decoder of a model have the layers of this structure.

        Raises:
            ConfigError: a layer differs; the message contains the first one.
        """
        for side, layers in (("encoder", self.encoder()), ("decoder", self.decoder(tuple(model.input_shape[1:])))):
            expected = canonical_list([each.layer for each in layers])
            found = getattr(model.spec, side)
            for index in range(max(len(expected), len(found))):
                here, there = (
                    flow_repr(to_plain(each[index])) if index < len(each) else "nothing" for each in (found, expected)
                )
                if here != there:
                    raise ConfigError(f"{side}[{index}] is {here}, expected {there}")

    def published(self) -> dict[str, Any]:
        """The configuration for `config.json`."""
        plain: dict[str, Any] = to_plain(dict(self.config))
        return plain


def require_equal_images(in_channels: int, out_channels: int) -> None:
    """Checks that inputs and outputs have equal channels.

    Raises:
        ConfigError: their channels differ.
    """
    if in_channels != out_channels:
        raise ConfigError(f"config.json: in_channels is {in_channels}, but out_channels is {out_channels}")


def _renamings(layer: nn.Module, place: str, published: PublishedLayer) -> Iterator[Renaming]:
    """The parameters of a layer with their published tensors; shortcuts that the layer does not have are skipped."""
    known = [name for name, _ in layer.named_modules()]
    for inside, source in published.sources.items():
        if inside not in known:
            continue
        ours = f"{place}.{inside}".removesuffix(".")
        for key in layer.get_submodule(inside).state_dict():
            yield Renaming(f"{ours}.{key}", tuple(f"{path}.{key}" for path in source.paths), source.is_linear)
