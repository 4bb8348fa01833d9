"""Decoding latents to images."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from convae.core.errors import DataError, ShapeError
from convae.core.types import Images, Latents
from convae.model.compatibility import check_labels
from convae.model.condition import Labels
from convae.model.inference import InferenceEngine
from convae.model.mode import evaluation_mode
from convae.model.vae import VAE


@torch.no_grad()
def decode(
    model: VAE,
    z: Latents,
    *,
    labels: Labels | None = None,
    levels: int | None = None,
    batch_size: int = 256,
    engine: InferenceEngine | None = None,
) -> Images:
    """The expected image of each latent, in [0, 1], on the CPU.

    Args:
        model: its mode is not changed.
        z: latents of any floating type.
        labels: class numbers, for a conditional model.
        levels: number of latents of a hierarchy, from the top, to take from `z`; the others are the means of their
            priors. By default all.
        batch_size: latents per batch.
        engine: computes all levels of a model; by default torch.

    Raises:
        ShapeError: the shape differs from that of the model.
        ConfigError: the model is conditional, and labels are missing or unknown.
        DataError: a latent is not finite.
    """
    found = list(iterate_decoded(model, z, labels=labels, levels=levels, batch_size=batch_size, engine=engine))
    return torch.cat(found) if found else torch.empty(0, *model.input_shape)


@torch.no_grad()
def iterate_decoded(
    model: VAE,
    z: Latents,
    *,
    labels: Labels | None = None,
    levels: int | None = None,
    batch_size: int = 256,
    engine: InferenceEngine | None = None,
) -> Iterator[Images]:
    """`decode` in batches, for more images than fit into memory."""
    if not z.is_floating_point():
        raise ShapeError(f"expected latents of floats, got {z.dtype}. Use model.decode_codes for code indices")
    wrong = (~z.flatten(1).isfinite().all(1)).nonzero()[:, 0] if z.numel() else z[:0]
    if len(wrong):
        raise DataError(f"{len(wrong)} of {len(z)} latents are not finite, the first is number {int(wrong[0])}")
    parameter = next(model.parameters())
    if labels is not None:
        check_labels(model, labels.numpy(), "the latents")
    for start in range(0, len(z), batch_size):
        here = slice(start, start + batch_size)
        part = z[here].to(parameter.device, parameter.dtype)
        known = None if labels is None else labels[here].to(parameter.device)
        if engine is not None and levels is None:
            images = engine.decode(part, known).cpu()
        else:
            with evaluation_mode(model):
                images = model.decode(part, known, levels=levels).mean.cpu()
        yield images
