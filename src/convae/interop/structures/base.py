"""Structure interface: a published network, from its configuration to a description and the names of its tensors."""

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
from convae.model.bottlenecks.deterministic import Deterministic
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
"""Reconstructions are compared by squared errors; the mean is the published output."""


@dataclass(frozen=True)
class Renaming:
    """One parameter of a model, and the published tensors that it is made of.

    Attributes:
        name: in the model.
        sources: in the published weights, concatenated along the output channels.
        is_linear: whether a 1×1 kernel is stored as a matrix.
    """

    name: str
    sources: tuple[str, ...]
    is_linear: bool = False


class Structure(ABC):
    """A published network with its configuration.

    The keyword-only arguments of the constructor are the keys of the published `config.json`.

    Attributes:
        class_name: name of its class in diffusers.
        config: the configuration, complete.
        notes: what a person should know about a model of this configuration, a sentence each.
        settings: keys of the configuration that do not concern the network and are kept for the export.
    """

    class_name: ClassVar[str]
    settings: ClassVar[tuple[str, ...]] = ()
    config: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, config: Mapping[str, Any], where: str = "config.json") -> Structure:
        """The structure of a published configuration.

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
        """The structure of a model by its configuration, with the settings that were kept at its import.

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
        """The structure of a model.

        Raises:
            ConfigError: the model has another structure; the message says where it differs.
        """

    @classmethod
    def of_state(cls, state: State) -> Structure | None:  # noqa: ARG003  # some know it from their tensors
        """The structure that published weights without a configuration have; None if it cannot be known from them."""
        return None

    @property
    @abstractmethod
    def input(self) -> Shape:
        """(channels, *sizes) of the images that the configuration states."""

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
        """How a generator takes the latents, as the configuration or further tensors state it."""
        return None

    def further_tensors(self) -> dict[str, str]:
        """Published tensors outside of encoder and decoder, by the name of the parameter of the model."""
        return {}

    def ignored_tensors(self) -> tuple[str, ...]:
        """Published tensors that no parameter of the model stands for."""
        return ()

    def complete(self, tensors: State) -> None:  # noqa: B027  # most have no such tensors
        """Adds tensors of the model that the published weights do not have."""

    def is_derived(self, name: str) -> bool:
        """Whether `complete` adds the tensor of that name, such as the usage of codes."""
        return False

    def export_further(self, scale: LatentScale | None) -> State:
        """Published tensors that no parameter of the model stands for."""
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
        """Every parameter and buffer of encoder, decoder and bottleneck, with its published tensors."""
        for side, layers in (("encoder", self.encoder()), ("decoder", self.decoder(tuple(model.input_shape[1:])))):
            network = model.networks[side]
            for index, each in enumerate(layers):
                yield from _renamings(network[index], f"{side}.{index}", each)
        for ours, theirs in self.further_tensors().items():
            yield Renaming(ours, (theirs,))

    def require_layers(self, model: VAE) -> None:
        """Checks that encoder and decoder of a model are those of this structure.

        Raises:
            ConfigError: they are not; the message names the first layer that differs.
        """
        for side, layers in (("encoder", self.encoder()), ("decoder", self.decoder(tuple(model.input_shape[1:])))):
            wanted = canonical_list([each.layer for each in layers])
            found = getattr(model.spec, side)
            for index in range(max(len(wanted), len(found))):
                here, there = (
                    flow_repr(to_plain(each[index])) if index < len(each) else "nothing" for each in (found, wanted)
                )
                if here != there:
                    raise ConfigError(f"{side}[{index}] is {here}, expected {there}")

    def published(self) -> dict[str, Any]:
        """The configuration as written to config.json."""
        plain: dict[str, Any] = to_plain(dict(self.config))
        return plain


def require_deterministic(model: VAE) -> None:
    """Checks that the latent is a map of the encoder's features.

    Raises:
        ConfigError: it is not.
    """
    own = model.bottleneck
    if not isinstance(own, Deterministic) or own.head or len(own.latent_shape) != 3:
        raise ConfigError("its bottleneck is not a map that is deterministic without a head")


def _renamings(layer: nn.Module, place: str, published: PublishedLayer) -> Iterator[Renaming]:
    """The parameters of a layer with their published names; a shortcut that the layer does not have is left out."""
    known = [name for name, _ in layer.named_modules()]
    for inside, source in published.sources.items():
        if inside not in known:
            continue
        ours = f"{place}.{inside}".removesuffix(".")
        for key in layer.get_submodule(inside).state_dict():
            yield Renaming(f"{ours}.{key}", tuple(f"{path}.{key}" for path in source.paths), source.is_linear)
