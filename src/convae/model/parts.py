"""The parts of a model: built from their descriptions, with shapes that match, and with named noise streams."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import nn

from convae.core.arguments import Named, parse_arguments, split_name
from convae.core.context import LatentModule, call_module
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text, unknown_message
from convae.core.registry import canonical_name
from convae.core.types import Shape
from convae.model.bottlenecks import BOTTLENECKS
from convae.model.bottlenecks.base import LATENT, Bottleneck
from convae.model.inputs import weights_type
from convae.model.layers.base import ContextLayer
from convae.model.layers.base.network import Network, error_context
from convae.model.likelihoods.base import LikelihoodHead
from convae.model.mode import evaluation_mode
from convae.model.priors import PRIORS
from convae.model.priors.base import Prior
from convae.model.quantizers import QUANTIZERS
from convae.model.quantizers.base import Quantizer, is_quantizer


def build_part(registry: Any, written: Named, kind: str, *args: Any) -> Any:
    """Builds a bottleneck, a likelihood head or a prior from its name and arguments.

    Args:
        registry: registry of the kind.
        written: its name, or a mapping of the name to its arguments.
        kind: the kind, for messages.
        args: positional arguments of its constructor, such as its input shape.
    """
    name, given = split_name(written, kind)
    target = registry.get(name)
    checked = parse_arguments(target, given, f"{kind} {name}")
    with error_context(f"{kind} {name}", *(arg for arg in args if isinstance(arg, tuple))):
        return target(*args, **checked)


def build_bottleneck(written: Named, shape: Shape) -> Bottleneck:
    """Builds a bottleneck from its name and arguments, or those of a quantizer, for features of a shape."""
    made: Bottleneck = build_part(BOTTLENECKS, long_bottleneck(written), "bottleneck", shape)
    made.built_for = shape
    return made


def build_prior(written: Named, bottleneck: Bottleneck, decoder: nn.Module) -> Prior:
    """Builds a prior from its name and arguments.

    Args:
        written: its name, or a mapping of the name to its arguments.
        bottleneck: of the model.
        decoder: of the model, whose latents some priors cover as well.
    """
    name, _ = split_name(written, "prior")
    below = [[module for module in decoder.modules() if isinstance(module, LatentModule)]]
    made: Prior = build_part(PRIORS, written, "prior", bottleneck, *(below if PRIORS.get(name).spans_hierarchy else []))
    return made


def long_bottleneck(written: Named) -> Named:
    """The long form of a bottleneck that is written as a quantizer; others stay as they are.

    `{vq: {codes: 512, latent: 64}}` is `{codes: {latent: 64, quantizer: {vq: {codes: 512}}}}`.

    Raises:
        ConfigError: the name is neither that of a bottleneck nor that of a quantizer.
    """
    name, given = split_name(written, "bottleneck")
    if name in BOTTLENECKS:
        return written
    if not is_quantizer(name):
        raise ConfigError(unknown_message("bottleneck", name, [*BOTTLENECKS.names(), *QUANTIZERS.names()]))
    own: dict[str, Any] = {key: given.pop(key) for key in ("latent", "head") if key in given}
    return {"codes": {**own, "quantizer": {canonical_name(name): given}}}


def required_terms(model: nn.Module) -> tuple[str, ...]:
    """Loss terms that an objective must contain to train the bottleneck and the quantizers of a model."""
    modules = (module for module in model.modules() if isinstance(module, Bottleneck | Quantizer))
    return tuple(dict.fromkeys(term for module in modules for term in module.required_terms))


def output_shape(module: nn.Module, shape: Shape, where: str) -> Shape:
    """The output shape of a module, without the batch: declared by networks and by bottlenecks of convae's own.

    Other modules are run; on the meta device that imports torch's compiler, which takes a second or two.

    Raises:
        ShapeError: the module does not accept the shape.
    """
    if isinstance(module, Network) and module.shape_in == shape:
        return module.shape_out
    if isinstance(module, Bottleneck) and module.built_for == shape and type(module).__module__.startswith("convae."):
        return module.latent_shape
    dtype, device = weights_type(module)
    with error_context(where, shape), torch.no_grad(), evaluation_mode(module):
        images = torch.zeros(2, *shape, dtype=dtype, device=device)
        return tuple(call_module(module, images, None).shape[1:])


def _last_layer(module: nn.Module, side: str) -> str:
    """Location of the last layer of a part of the model, for messages."""
    if not isinstance(module, Network):
        return side
    return module.specs[-1].location(module.side) if module.specs else f"{module.side} (empty list)"


def check_shapes(
    input_shape: Shape,
    encoder: nn.Module,
    bottleneck: Bottleneck,
    decoder: nn.Module,
    head: LikelihoodHead,
    classifier: nn.Module | None,
    extra_channels: int,
) -> int | None:
    """Checks that the shapes of a model's parts match; returns the classifier's number of logits, if any.

    Args:
        input_shape: (channels, *sizes) of the images.
        encoder: images to features.
        bottleneck: features to latents.
        decoder: latents to raw values of the likelihood.
        head: raw values to the likelihood.
        classifier: latents to logits; None without one.
        extra_channels: channels of the condition, added to images and latents.

    Raises:
        ShapeError: a part does not accept its input shape, or the decoder's output does not match the images.
    """
    features = output_shape(encoder, (input_shape[0] + extra_channels, *input_shape[1:]), "encoder")
    latent = output_shape(bottleneck, features, "bottleneck")
    if latent != bottleneck.latent_shape:
        raise ShapeError(
            f"bottleneck: expected latents {shape_text(bottleneck.latent_shape)}, got {shape_text(latent)}"
        )
    raw = output_shape(decoder, (latent[0] + extra_channels, *latent[1:]), "decoder")
    needed = (head.raw_channels(input_shape[0]), *input_shape[1:])
    if raw != needed:
        raise ShapeError(
            f"{_last_layer(decoder, 'decoder')}: expected the output shape {shape_text(needed)} for the likelihood of "
            f"images {shape_text(input_shape)}, got {shape_text(raw)}"
        )
    if classifier is None:
        return None
    logits = output_shape(classifier, latent, "classifier")
    if len(logits) != 1:
        raise ShapeError(
            f"classifier: expected one logit per class, got {shape_text(logits)}. End it with a linear layer"
        )
    return logits[0]


def name_streams(model: Any) -> dict[str, str]:
    """Names the noise stream of every `ContextLayer` by its kind and its index among layers of that kind.

    Latents of the decoder are `latent 1`, `latent 2`, … below the bottleneck's, which is `latent`.

    Returns:
        The path of the layer of each stream that is no latent, such as `encoder.2`.
    """
    numbers: Counter[str] = Counter()
    inside = [module for module in model.decoder.modules() if isinstance(module, LatentModule)]
    below = {id(module) for module in inside}
    for number, latent in enumerate(inside, 1):
        latent.stream = f"{LATENT} {number}"
    places = dict[str, str]()
    for path, module in model.named_modules():
        if isinstance(module, ContextLayer) and id(module) not in below:
            kind = type(module).__name__.lower()
            module.stream = f"{kind} {numbers[kind]}"
            numbers[kind] += 1
            places[module.stream] = path
    return places
