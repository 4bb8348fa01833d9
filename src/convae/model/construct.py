"""Building a model from a validated description, on the meta device."""

from __future__ import annotations

import contextlib
from functools import partial

from torch import nn

from convae.core.arguments import parse_arguments
from convae.core.description import Spec
from convae.core.device import on_meta
from convae.core.errors import ConfigError, ShapeError
from convae.core.types import Shape
from convae.model.bottlenecks.base import Bottleneck
from convae.model.condition import Condition
from convae.model.layers.base.features import feature_shapes
from convae.model.layers.base.network import Network, count_parameters, error_context
from convae.model.likelihoods import LIKELIHOODS
from convae.model.parts import build_bottleneck, build_part, build_prior
from convae.model.vae import VAE

DECODER_INIT_SCALE = 0.3
"""Factor on the decoder's last weight, so that reconstructions begin near plain gray, yet with features of both signs:
torch-vae on MNIST ended three epochs at 108.5 validation nats with this, 110.6 with 1 and 114.5 with 0.1, while the
last bias was 0."""


def construct(spec: Spec) -> VAE:
    """Builds the VAE of a validated description, with parameters on the meta device.

    Raises:
        ConfigError: unknown layers or wrong arguments, or more parameters than `max_parameters`.
        ShapeError: a layer does not accept its input shape, or the decoder's output does not match the images.
    """
    with on_meta(), feature_shapes():
        condition = None
        if spec.condition is not None:
            with error_context("condition"):
                condition = Condition(**parse_arguments(Condition, spec.condition, "condition"))
        encoder, bottleneck, decoder = _construct_parts(spec, 0 if condition is None else condition.channels, [])
        latent: Shape = bottleneck.latent_shape
        model = VAE(
            encoder,
            bottleneck,
            decoder,
            build_part(LIKELIHOODS, spec.likelihood, "likelihood"),
            input_shape=spec.input,
            prior=None if spec.prior is None else build_prior(spec.prior, bottleneck, decoder),
            classifier=None if spec.classifier is None else Network(latent, spec.classifier, "model.classifier"),
            condition=condition,
            name=spec.name,
        )
    if count_parameters(model) > spec.max_parameters:
        raise ConfigError(
            f"model '{spec.name}' has {count_parameters(model):,} parameters, more than {spec.max_parameters:,}. "
            "Raise max_parameters in its description if this is intended"
        )
    model.described_by(spec, partial(_with_input, spec))
    return model


def construct_latents(spec: Spec) -> list[nn.Module]:
    """The encoder, the bottleneck and the decoder of a description, which has another input shape than its images.

    On the meta device, in this order and without those from the first on that does not accept the input shape.

    Raises:
        ConfigError: unknown layers or wrong arguments.
    """
    built: list[nn.Module] = []
    with on_meta(), feature_shapes(), contextlib.suppress(ShapeError):
        _construct_parts(spec, 0, built)
    return built


def _construct_parts(spec: Spec, more: int, built: list[nn.Module]) -> tuple[Network, Bottleneck, Network]:
    """The encoder, the bottleneck and the decoder, with `more` channels of a condition; each is added to `built`."""
    encoder = Network((spec.input[0] + more, *spec.input[1:]), spec.encoder, "model.encoder")
    built.append(encoder)
    bottleneck = build_bottleneck(spec.bottleneck, encoder.shape_out)
    built.append(bottleneck)
    latent = bottleneck.latent_shape
    decoder = Network((latent[0] + more, *latent[1:]), spec.decoder, "model.decoder", init_scale=DECODER_INIT_SCALE)
    built.append(decoder)
    return encoder, bottleneck, decoder


def _with_input(spec: Spec, shape: Shape) -> VAE:
    """The model of a description for images of another shape."""
    return construct(spec.model_copy(update={"input": shape}))
