"""Contract tests of bottlenecks, likelihoods and presets."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import torch

import convae
from convae.core.errors import ShapeError
from convae.core.random import torch_generator
from convae.core.types import Shape
from convae.describe import resolve
from convae.interop.graphs import graph_names, trace_graph
from convae.model.bottlenecks import BOTTLENECKS
from convae.model.bottlenecks.base import Bottleneck
from convae.model.construct import construct
from convae.model.likelihoods import LIKELIHOODS
from convae.model.likelihoods.base import LikelihoodHead
from convae.model.presets import PRESETS
from convae.model.vae import VAE
from convae.testing.entries import name_of, no_errors, require, unchanged
from convae.testing.models import check_model, describe_decoder, describe_model, example_images

_FEATURES: Shape = (4, 4, 4)


def check_bottleneck(bottleneck: str | type[Bottleneck]) -> None:
    """Checks the contract of a bottleneck with its `example`; see `check_layer`. Covers `head_output` and `from_head`.

    Args:
        bottleneck: class or registered name.

    Raises:
        AssertionError: the contract is violated.
    """
    name = name_of(BOTTLENECKS, bottleneck)
    kind = BOTTLENECKS.get(name)
    entry = {name: dict(kind.example)}
    encoder: list[Any] = [{"conv": {"channels": _FEATURES[0], "stride": 2}}]
    try:
        latent: Shape = kind(_FEATURES, **kind.example).latent_shape
    except ShapeError:  # it takes vectors only
        encoder, latent = [*encoder, "flatten"], kind((math.prod(_FEATURES),), **kind.example).latent_shape
    spec = describe_model((1, 8, 8), encoder, entry, describe_decoder(latent, (1, 8, 8), 1), "bernoulli")
    check_model(spec, f"bottleneck {name}")
    with no_errors(f"bottleneck {name}"), torch.no_grad():
        model = convae.build(spec, seed=1).eval()
        images = example_images(model)
        whole = model(images, torch_generator(0, "draw"))
        halves = model.decode_head(model.head_output(images), torch_generator(0, "draw"))
    same = torch.allclose(whole.latent, halves.latent, rtol=1e-5, atol=1e-6)
    require(same, f"bottleneck {name}: from_head of head_output gives other latents than forward")


def check_likelihood(likelihood: str | type[LikelihoodHead]) -> None:
    """Checks the contract of a likelihood with its `example`; see `check_layer`.

    Covers `sample`, `log_prob` and `raw_for`.

    Args:
        likelihood: class of the head or registered name.

    Raises:
        AssertionError: the contract is violated.
    """
    name = name_of(LIKELIHOODS, likelihood)
    kind = LIKELIHOODS.get(name)
    shape: Shape = (2, 6, 5)
    raw = kind(**kind.example).raw_channels(shape[0])
    entry = {name: dict(kind.example)}
    spec = describe_model(shape, ["flatten"], {"gaussian": {"latent": 3}}, describe_decoder((3,), shape, raw), entry)
    check_model(spec, f"likelihood {name}")
    with no_errors(f"likelihood {name}"), torch.no_grad():
        model = convae.build(spec).eval()
        images = example_images(model)
        found = model(images).likelihood
        drawn = [found.sample(torch_generator(0, "draw")) for _ in range(2)]
        with unchanged(f"likelihood {name}, log_prob", images):
            density = found.log_prob(images)
            values = found.log_prob_values(images)
    found_shape = tuple(values.shape)
    require(values.shape == images.shape, f"likelihood {name}: log_prob_values has the shape {found_shape}")
    require(torch.equal(drawn[0], drawn[1]), f"likelihood {name}: sample is not deterministic for equal generators")
    for what, values in (("mean", found.mean), ("sample", drawn[0])):
        require(values.shape == (3, *shape), f"likelihood {name}: {what} has the shape {tuple(values.shape)}")
        inside = bool((values >= 0).all() and (values <= 1).all())
        require(inside, f"likelihood {name}: {what} has values outside [0, 1]")
        raws = model.head.raw_for(torch.tensor([0.2, 0.7]))
        starts = None if raws is None else model.head(raws.view(1, -1, 1, 1)).mean.flatten().tolist()
    near = starts is None or all(abs(mean - wanted) < 1e-3 for mean, wanted in zip(starts, (0.2, 0.7), strict=True))
    require(near, f"likelihood {name}: raw_for gives raw values whose means are {starts}, not [0.2, 0.7]")
    require(
        density.shape == (3,), f"likelihood {name}: log_prob must have the shape (batch,), got {tuple(density.shape)}"
    )
    _check_ends(model, f"likelihood {name}")


def _check_ends(model: VAE, where: str) -> None:
    """Checks images of zeros and ones, such as binary ones, whose densities may be infinite."""
    images = example_images(model)
    for value in (0.0, 1.0):
        # Not the output for these images: for zeros, that of a new model may be zero, at which a density may be finite.
        density = model(images).likelihood.log_prob(torch.full_like(images, value))
        density.sum().backward()
        gradients = [each.grad for each in model.parameters() if each.grad is not None]
        finite = bool(density.isfinite().all()) and all(bool(each.isfinite().all()) for each in gradients)
        require(finite, f"{where}: log_prob of images of the value {value:g} is not finite, or has no finite gradient")


<<<<<<< HEAD
=======
def check_prior(prior: str | type[Prior]) -> None:
    """Checks the contract of a prior with its `example`, over a Gaussian latent or a codebook.

    Its samples are latents or codes of the right shape and equal for equal generators; log_prob and loss are finite; a
    model with it can be described, saved, loaded and exported.

    Args:
        prior: class or registered name.

    Raises:
        AssertionError: the contract is violated.
    """
    name = name_of(PRIORS, prior)
    where = f"prior {name}"
    model = _with_prior({name: dict(PRIORS.get(name).example)}, where)
    with no_errors(where):
        _check_own_generators(model.prior, where)
        _check_prior_gradients(model, where)
        _check_density(model.prior, where)
    with no_errors(where), torch.no_grad():
        drawn = [model.prior.sample(3, torch_generator(0, "draw")) for _ in range(2)]
        images = [model.sample(3, torch_generator(0, "draw")) for _ in range(2)]
        latent = model(example_images(model)).latent
        density = model.prior.log_prob(latent)
        values = model.bottleneck.nearest_codes(latent) if model.prior.draws_codes else latent
        loss = model.prior.loss(values, torch.zeros(3, dtype=torch.int64), CountedNoise(0, ("loss",), 0, 3))
        labeled = model.prior.sample(3, torch_generator(0, "draw"), torch.zeros(3, dtype=torch.int64))
        check_stored_form(model, where)
        check_saved(model, where)
        check_summary(model, where)
        if "sample" in graph_names(model):
            trace_graph(model, "sample")
    shape = model.latent_shape[1:] if model.prior.draws_codes else model.latent_shape
    require(drawn[0].shape == (3, *shape), f"{where}: sample has the shape {tuple(drawn[0].shape)}")
    equal = torch.equal(*drawn) and torch.equal(*images)
    require(equal, f"{where}: sample is not deterministic for equal generators")
    require(density.shape == (3,), f"{where}: log_prob must have the shape (batch,), got {tuple(density.shape)}")
    require(density.isfinite().all(), f"{where}: log_prob is not finite")
    require(labeled.shape == drawn[0].shape, f"{where}: sample with labels has the shape {tuple(labeled.shape)}")
    sound = loss.shape == (3,) and bool(loss.isfinite().all())
    require(sound, f"{where}: loss must be finite values of the shape (batch,), got {loss}")


@torch.no_grad()
def _check_own_generators(prior: Prior, where: str) -> None:
    """Checks samples with a generator for each."""
    together = prior.sample(3, [torch_generator(0, "draw", index) for index in range(3)])
    alone = prior.sample(1, [torch_generator(0, "draw", 1)])
    same = together.dtype == alone.dtype and torch.allclose(together[1:2].double(), alone.double(), 1e-4, 1e-5)
    require(same, f"{where}: with one generator for each sample, a sample depends on others, or on another generator")


def _check_prior_gradients(model: VAE, where: str) -> None:
    """Checks that every parameter of a prior that is trained by gradients has one."""
    prior = model.prior
    if prior.is_fitted_at_once:
        return
    latent = model(example_images(model)).latent.detach()
    values = model.bottleneck.nearest_codes(latent) if prior.draws_codes else latent
    loss = prior.loss(values, torch.zeros(3, dtype=torch.int64), CountedNoise(0, ("loss",), 0, 3)).sum()
    if loss.requires_grad:
        loss.backward()
    for key, parameter in prior.named_parameters():
        gradient = parameter.grad
        require(gradient is not None and gradient.isfinite().all(), f"{where}: {key} receives no finite gradient")
    model.zero_grad()


@torch.no_grad()
def _check_density(prior: Prior, where: str) -> None:
    """Checks that `log_prob` is the log density of `sample`, over vectors.

    The mean of r(z) / p(z) over samples of p is 1 for any density r; here narrow Gaussians around some samples.
    """
    if prior.draws_codes or prior.is_spherical or len(prior.latent_shape) > 1:
        return
    z = prior.sample(_SAMPLES, torch_generator(0, "density")).double()
    centers, z, scale = z[:_CENTERS], z[_CENTERS:], 0.15 * z.std(0)
    around = torch.distributions.Normal(centers[:, None], scale).log_prob(z).sum(2).logsumexp(0) - math.log(_CENTERS)
    mass = float((around - prior.log_prob(z.to(prior.like.dtype)).double()).exp().mean())
    fits = _LEAST_MASS < mass < 1 / _LEAST_MASS
    require(
        fits, f"{where}: log_prob is not the log density of sample: it integrates to {1 / mass:.2g} or differs from it"
    )


def _with_prior(entry: dict[str, Any], where: str) -> VAE:
    """A model with the prior, over a Gaussian latent or, if it does not fit, over codes or a sphere."""
    faults = []
    for bottleneck in _BOTTLENECKS:
        latent: Shape = (3, 4, 4) if "vq" in bottleneck else (3,)
        encoder: list[Any] = [{"conv": {"channels": 4, "stride": 2}}]
        encoder += [] if "vq" in bottleneck else ["flatten"]
        spec = describe_model((1, 8, 8), encoder, bottleneck, describe_decoder(latent, (1, 8, 8), 1), "bernoulli")
        try:
            return convae.build({**spec, "prior": entry}).eval()
        except ConfigError as error:
            faults.append(str(error))
    raise AssertionError(f"{where}: does not work with any of the tested bottlenecks: {'; '.join(faults)}")


>>>>>>> c47ea99 (Import plug-ins with tensors that have values; check flows and priors for export)
def check_preset(preset: str | Callable[..., Any]) -> None:
    """Checks that a preset describes a model, and that the stored form describes the same model.

    Args:
        preset: function or registered name.

    Raises:
        AssertionError: the contract is violated.
    """
    name = name_of(PRESETS, preset)
    with no_errors(f"preset {name}"):
        model = construct(resolve({"preset": name}))
        again = construct(resolve(json.loads(json.dumps(model.spec.model_dump(mode="json")))))
    require(again.spec == model.spec, f"preset {name}: its stored form describes a different model")
    require(model.name == name.rpartition(":")[2], f"preset {name}: its model has the name {model.name}")
<<<<<<< HEAD
=======


def _check_shapes(name: str, kind: type[Layer], shape: Shape, *, must_fit: bool) -> None:
    where = f"layer {name} on {shape}"
    try:
        with feature_shapes({_FEATURE: shape} if "feature" in kind.example else {}):
            network = Network(shape, [{name: dict(kind.example)}], "layers")
    except ShapeError as error:
        require(not must_fit, f"{where}: {error}")
        return
    with no_errors(where):
        initialize(network, 0)
    x = torch.randn(2, *shape, generator=torch_generator(0, "layer"))
    with unchanged(where, x), torch.no_grad():
        found = tuple(network(x).shape[1:])
    _check_device(network, x, where)
    require(found == network.shape_out, f"{where}: states the output shape {network.shape_out}, but returns {found}")
    network.eval()
    alone, together = network(x[:1]), network(x)[:1]
    require(alone.isfinite().all(), f"{where}: its output is not finite")
    close = torch.allclose(alone, together, rtol=1e-4, atol=1e-5)
    require(close, f"{where}: in evaluation mode, the output of an image depends on other images of the batch")
    does_nothing = torch.equal(alone, x[:1]) and not list(network.parameters())
    require(does_nothing or not kind.only_in_training, f"{where}: only_in_training, but has parameters or acts")
    before = next(iter(network)).inverse(alone)
    inverts = before is None or torch.allclose(before, x[:1], rtol=1e-3, atol=1e-4)
    require(inverts, f"{where}: inverse of the output is not the input")
    field = network.receptive_field()
    fits = field is None or len(field.kernel) == len(shape) - 1
    require(fits, f"{where}: receptive_field must have one value per spatial axis")


def _check_device(network: Network, x: torch.Tensor, where: str) -> None:
    """Checks that a layer computes on the device of its input; the meta device stands for one."""
    try:
        copy_to_meta(network)(x.to("meta"))
    except RuntimeError as error:
        advice = "Make tensors on the device of the input: device=x.device"
        raise AssertionError(f"{where}: fails on another device ({one_line(error)}). {advice}") from error


def _check_slices(spec: dict[str, Any], subject: str) -> None:
    """Compares an image in slices of two rows with the whole image."""
    advice = "Define its receptive_field, or a larger one, or set over_positions = True"
    with no_errors(f"{subject}, in slices"), torch.no_grad():
        model = convae.build(spec).eval()
        x = example_images(model)
        whole = model(x)
        model.use_slices(2)
        try:
            sliced = model(x)
        except RuntimeError as error:
            raise AssertionError(f"{subject}: fails in slices ({one_line(error)}). {advice}") from error
    for found, expected in ((sliced.latent, whole.latent), (sliced.likelihood.mean, whole.likelihood.mean)):
        equal = torch.allclose(found, expected, rtol=1e-3, atol=1e-4)
        require(equal, f"{subject}: differs in slices. {advice}")


def _around_layer(name: str, kind: type[Layer]) -> dict[str, Any]:
    """A model with the example of a layer in its encoder."""
    shape = kind.example_shape
    image = shape if len(shape) > 1 else (1, shape[0])
    entry = {name: dict(kind.example)}
    if "feature" in kind.example:
        # It takes a feature of the encoder by name.
        encoder: list[Any] = [{"feature": {"name": _FEATURE}}, "flatten"]
        decoder = [{"linear": {"features": math.prod(image)}}, {"unflatten": {"to": list(image)}}, entry]
        return describe_model(image, encoder, {"gaussian": {"latent": 3}}, decoder, "bernoulli")
    encoder = [entry] if len(shape) > 1 else ["flatten", entry]
    after = Network(image, encoder, "encoder").shape_out
    encoder += ["flatten"] if len(after) > 1 else []
    return describe_model(
        image, encoder, {"gaussian": {"latent": 3}}, describe_decoder((3,), image, image[0]), "bernoulli"
    )
>>>>>>> c47ea99 (Import plug-ins with tensors that have values; check flows and priors for export)
