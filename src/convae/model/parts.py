"""What stands around encoder and decoder, made of its description on the meta device, and written down again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import nn

from convae.core.arguments import Named, drop_defaults, parse_arguments, split_name
from convae.core.context import call_module
from convae.core.description import Spec, to_plain
from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.registry import canonical_name
from convae.core.types import Shape
from convae.model.bottlenecks import BOTTLENECKS
from convae.model.bottlenecks.base import Bottleneck
from convae.model.condition import Condition
from convae.model.inputs import weights_type
from convae.model.layers.base import ContextLayer
from convae.model.layers.base.network import Network, error_context
from convae.model.likelihoods import LIKELIHOODS
from convae.model.likelihoods.base import LikelihoodHead
from convae.model.mode import evaluation_mode
from convae.model.priors import PRIORS


def build_part(registry: Any, written: Named, kind: str, *args: Any) -> Any:
    """A bottleneck, a likelihood head or a prior, from its name and arguments as a person wrote them.

    Args:
        registry: of its kind.
        written: its name, or a mapping of the name to its arguments.
        kind: of it, for messages.
        args: positional arguments of its constructor, such as the shape that reaches it.
    """
    name, given = split_name(written, kind)
    target = registry.get(name)
    checked = parse_arguments(target, given, f"{kind} {name}")
    with error_context(f"{kind} {name}", *(arg for arg in args if isinstance(arg, tuple))):
        return target(*args, **checked)


def output_shape(module: nn.Module, shape: Shape, where: str) -> Shape:
    """The shape, without the batch, that a module makes of `shape`: its own word, or that of two images of zeros.

    Raises:
        ShapeError: the module cannot take the shape.
    """
    if isinstance(module, Network) and module.shape_in == shape:
        return module.shape_out
    dtype, device = weights_type(module)
    with error_context(where, shape), torch.no_grad(), evaluation_mode(module):
        images = torch.zeros(2, *shape, dtype=dtype, device=device)
        return tuple(call_module(module, images, None).shape[1:])


def _last_layer(module: nn.Module, side: str) -> str:
    """The last layer of a side of the model as the user wrote it, for messages."""
    if not isinstance(module, Network):
        return side
    return f"{side} {module.specs[-1].location if module.specs else 'layer list is empty and'}"


def check_shapes(
    input_shape: Shape,
    encoder: nn.Module,
    bottleneck: Bottleneck,
    decoder: nn.Module,
    head: LikelihoodHead,
    classifier: nn.Module | None,
    extra_channels: int,
) -> int | None:
    """Checks that the parts of a model fit each other and the images; the number of logits of its classifier.

    Args:
        input_shape: (channels, *sizes) of the images.
        encoder: of the model; so are the others.
        bottleneck: made for the encoder's features.
        decoder: of latents to raw values.
        head: of raw values to a likelihood.
        classifier: of latents; None without one.
        extra_channels: that a condition adds to images and latents.

    Raises:
        ShapeError: a part cannot take the shape that reaches it, or the decoder's output does not fit the images.
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
            f"{_last_layer(decoder, 'decoder')} gives {shape_text(raw)}, but the input {shape_text(input_shape)} "
            f"with this likelihood needs {shape_text(needed)}"
        )
    if classifier is None:
        return None
    logits = output_shape(classifier, latent, "classifier")
    if len(logits) != 1:
        raise ShapeError(f"classifier gives {shape_text(logits)}: end it with a value for each class")
    return logits[0]


def name_streams(model: nn.Module) -> None:
    """Names the noise of every layer that sees the context: its kind and its number among those of its kind."""
    numbers: Counter[str] = Counter()
    for module in model.modules():
        if isinstance(module, ContextLayer):
            kind = type(module).__name__.lower()
            module.stream = f"{kind} {numbers[kind]}"
            numbers[kind] += 1


def stored_spec(model: Any, described: Spec) -> Spec:
    """The description of a model in its stored form: presets and repeats written out."""
    prior = None if described.prior is None else stored_entry(PRIORS, described.prior, "prior")
    return described.model_copy(
        update={
            "name": model.name,
            "encoder": model.encoder.canonical(),
            "bottleneck": stored_entry(BOTTLENECKS, described.bottleneck, "bottleneck"),
            "decoder": model.decoder.canonical(),
            "likelihood": stored_entry(LIKELIHOODS, described.likelihood, "likelihood"),
            "prior": prior,
            "classifier": None if model.classifier is None else model.classifier.canonical(),
            "condition": None if model.condition is None else stored_condition(model.condition),
        }
    )


def stored_condition(condition: Condition) -> dict[str, Any]:
    """A condition in its one stored form."""
    return drop_defaults(Condition, {"classes": condition.classes, "channels": condition.channels})


def stored_entry(registry: Any, written: Named, kind: str) -> dict[str, dict[str, Any]]:
    """A bottleneck or a likelihood in its one stored form."""
    name, given = split_name(written, kind)
    target = registry.get(name)
    return {canonical_name(name): to_plain(drop_defaults(target, parse_arguments(target, given, kind)))}


SWITCHES = {"training", "checkpointing", "rows"}
"""What may be set on a module without changing what its description says."""
Layout = dict[str, tuple[type[nn.Module], dict[str, Any]]]


def layout(model: nn.Module) -> Layout:
    """The type of each module inside a model, and the plain values that it was set to."""
    found: Layout = {}
    for name, module in model.named_modules():
        values = {
            key: value
            for key, value in vars(module).items()
            if not key.startswith("_") and key not in SWITCHES and isinstance(value, bool | int | float | str | tuple)
        }
        found[name] = (type(module), values if name else {})
    return found


def first_change(before: Layout, after: Layout) -> str | None:
    """Where two layouts differ first, in words; None where they do not.

    A module whose class was derived from its own is the same: sharding and hooks do that.
    """
    for name in [*before, *after]:
        if name not in after:
            return f"'{name}' was removed"
        if name not in before:
            return f"'{name}' ({after[name][0].__name__}) was added"
        (kind, values), (new_kind, new_values) = before[name], after[name]
        if not issubclass(new_kind, kind):
            return f"'{name}' was exchanged for {new_kind.__name__}"
        for key in values.keys() | new_values.keys():
            if values.get(key) != new_values.get(key):
                return f"{name}.{key} was set to {new_values.get(key)!r}"
    return None
