"""The check of a quantizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from convae.core.context import Context
from convae.core.errors import ConfigError
from convae.core.posterior import CodePosterior
from convae.core.random import torch_generator
from convae.model.quantizers import QUANTIZERS
from convae.model.quantizers.base import Quantizer, build_quantizer
from convae.testing.entries import name_of, no_errors, require, unchanged
from convae.testing.models import check_model

_CHANNELS = 6


def check_quantizer(quantizer: str | type[Quantizer]) -> None:
    """Checks that a quantizer keeps its contract, in its `example`.

    Codes are int64 in the range of their level, do not depend on other images, and are the same in mixed precision;
    the code vectors are those that the codes embed to; `torch.export` traces both without branches on the data, for any
    batch and grid; evaluation changes nothing; a gradient reaches the values.
    Models with it, as the bottleneck and as a layer, pass what `check_layer` checks.

    Args:
        quantizer: the class, or the name of a registered one.

    Raises:
        AssertionError: it does not; the message says what is wrong.
    """
    name = name_of(QUANTIZERS, quantizer)
    where = f"quantizer {name}"
    kind = QUANTIZERS.get(name)
    entry: dict[str, Any] = {name: dict(kind.example)}
    with no_errors(where):
        made, written = _made(entry)
    for grid in ((), (5,), (4, 3), (2, 3, 2)):
        _check_codes(made, grid, f"{where} on a grid of {grid}")
    _check_export(made, where)
    _check_training(made, where)
    bottleneck = {"codes": {**written, "quantizer": entry}}
    check_model(_described(bottleneck, []), where)
    layer = [{"conv": {"channels": made.channels, "kernel": 1}}, {"quantize": {"quantizer": entry}}]
    check_model(_described({"gaussian": {"latent": 3}}, layer), f"{where} as a layer")


def _made(entry: dict[str, Any]) -> tuple[Quantizer, dict[str, int]]:
    """A quantizer in evaluation mode, and the argument `latent` that its bottleneck needs."""
    try:
        made, written = build_quantizer(entry, None), {}  # where its arguments decide
    except ConfigError:
        made, written = build_quantizer(entry, _CHANNELS), {"latent": _CHANNELS}
    with torch.no_grad():
        made.reset(torch_generator(0, "codes"))
    return made.eval(), written


def _check_codes(made: Quantizer, grid: tuple[int, ...], where: str) -> None:
    levels = len(made.codebook_sizes)
    values = torch.randn(4, made.channels, *grid, generator=torch_generator(0, "values"))
    with torch.no_grad(), unchanged(where, values):
        codes, context = made.nearest(values), Context()
        latent = made(values, context, "latent")
        posterior = context.posteriors["latent"]
    shape = (4, *grid) if levels == 1 else (4, levels, *grid)
    require(codes.dtype == torch.int64, f"{where}: codes are {codes.dtype}, need int64")
    require(codes.shape == shape, f"{where}: codes have the shape {tuple(codes.shape)}, need {shape}")
    require(torch.equal(codes[:1], made.nearest(values[:1])), f"{where}: codes depend on the other images")
    require(latent.shape == values.shape, f"{where}: gives the shape {tuple(latent.shape)}")
    assert isinstance(posterior, CodePosterior)
    require(torch.equal(posterior.codes, codes), f"{where}: `nearest` and `quantize` give different codes")
    for level, size in enumerate(made.codebook_sizes):
        own = posterior.codes_by_level[:, level]
        require(own.min() >= 0 and own.max() < size, f"{where}: codes of level {level} are not in [0, {size})")
    equal = torch.equal(made.embed_codes(codes).to(latent.dtype), latent)
    advice = "Write vectors + (values - values.detach()), which is exact"
    require(equal, f"{where}: `embed_codes` gives other code vectors than `quantize`. {advice}")
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        half = made.posterior(values.bfloat16())
    require(half.mean.dtype == torch.float32, f"{where}: in mixed precision its code vectors are {half.mean.dtype}")
    equal = torch.equal(half.codes, made.posterior(values.bfloat16().float()).codes)
    require(equal, f"{where}: in mixed precision it gives other codes")


class _Encode(nn.Module):
    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__()
        self.quantizer = quantizer

    def forward(self, values: Tensor) -> Tensor:
        """The codes of values."""
        return self.quantizer.nearest(values)


class _Decode(_Encode):
    def forward(self, values: Tensor) -> Tensor:
        """The code vectors of codes."""
        return self.quantizer.embed_codes(values)


def _check_export(made: Quantizer, where: str) -> None:
    values = torch.randn(3, made.channels, 4, 5, generator=torch_generator(0, "values"))
    others = torch.randn(2, made.channels, 3, 6, generator=torch_generator(0, "others"))
    batch, rows, columns = (torch.export.Dim(name, min=2, max=64) for name in ("batch", "rows", "columns"))
    for kind, given, other in (
        (_Encode, values, others),
        (_Decode, made.nearest(values), made.nearest(others)),
    ):
        axes = {0: batch, given.ndim - 2: rows, given.ndim - 1: columns}
        with torch.no_grad(), no_errors(f"{where}: torch.export of {kind.__name__.strip('_').lower()}"):
            program = torch.export.export(kind(made), (given,), dynamic_shapes={"values": axes})
            found, wanted = program.module()(other), kind(made)(other)
        require(torch.equal(found, wanted), f"{where}: gives different codes after torch.export")


def _check_training(made: Quantizer, where: str) -> None:
    values = torch.randn(6, made.channels, 4, 3, generator=torch_generator(0, "values")).requires_grad_()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    made(values, Context(), "latent")
    equal = all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    require(equal, f"{where}: evaluation changes it")
    context = Context()
    latent: Tensor = made.train()(values, context, "latent")
    missing = set(made.required_terms) - set(context.terms)
    require(not missing, f"{where}: does not report its required terms: {', '.join(missing)}")
    for name, cost in context.terms.items():
        require(cost.shape == (6,), f"{where}: term {name} has the shape {tuple(cost.shape)}, needs (batch,)")
        require(cost.isfinite().all(), f"{where}: term {name} is not finite")
    (gradient,) = torch.autograd.grad(latent.square().sum() + latent.sum(), values)
    require(gradient.isfinite().all() and gradient.any(), f"{where}: no finite gradient reaches the values")


def _described(bottleneck: Any, layers: list[Any]) -> dict[str, Any]:
    return {
        "input": [1, 8, 8],
        "encoder": [{"conv": {"channels": 4, "stride": 2}}, *layers],
        "bottleneck": bottleneck,
        "decoder": ["flatten", {"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
        "likelihood": "bernoulli",
    }
