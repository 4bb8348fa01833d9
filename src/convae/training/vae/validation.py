"""Validation with fixed noise, and pictures of a training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convae.core.code_usage import CodeUsage, count_codes, summarize_usage
from convae.core.names import class_names
from convae.core.posterior import Posterior, split_posterior
from convae.core.random import torch_generator
from convae.core.types import MISSING_LABEL, Batch
from convae.data.batches import ImageSet, evenly_spaced, in_order
from convae.model.inputs import unchecked_values
from convae.model.vae import VAE
from convae.objective.schedules.base import Clocks
from convae.pictures.grid import grid, pairs
from convae.pictures.save import save
from convae.training.distributed.ranks import Ranks
from convae.training.recipe.objectives import StageObjective

ACTIVE = 0.01
"""Variance of the posterior mean over images above which a latent unit is active (Burda et al. 2015)."""

COLLAPSED = 0.1
"""KL divergence in nats per image below which a posterior has collapsed."""
COLLAPSED_BOOK = 0.05
"""Perplexity relative to the size of the codebook below which it has collapsed."""
LEAST_PERPLEXITY = 1.5
"""Perplexity below which a small codebook has collapsed."""
LEAST_IMAGES = 50
"""Least number of validation images for the diagnosis of collapse."""


@dataclass(frozen=True)
class ValidationResult:
    """Validation metrics.

    Attributes:
        images: number of images.
        metrics: unweighted mean of each term, in its unit.
        kl: KL divergence of the posterior from the prior, nats per image.
        kl_per_unit: KL divergence per latent unit of a vector, or channel of a map; None with a codebook.
        active: number of active units; None with a codebook.
        latent: number of latent units.
        codebooks: usage of each codebook; empty without one.
        kl_per_latent: KL divergence of each latent of a hierarchy by name, nats per image; None with one latent.
        accuracy: accuracy of the classifier on labeled images; None without a classifier or labels.
    """

    images: int
    metrics: dict[str, float]
    kl: float
    kl_per_unit: list[float] | None
    active: int | None
    latent: int
    codebooks: Sequence[CodeUsage]
    accuracy: float | None
    kl_per_latent: dict[str, float] | None = None


@torch.no_grad()
def validate(
    model: VAE,
    split: ImageSet,
    objective: StageObjective,
    clocks: Clocks,
    *,
    batch_size: int,
    seed: int,
    device: torch.device,
    ranks: Ranks,
) -> ValidationResult:
    """Validates a model, which stays in evaluation mode.

    Batches are distributed over the ranks, and the results are summed.
    """
    precision = torch.float32 if device.type == "mps" else torch.float64
    model.eval()
    sums: list[Tensor] = []
    latent_names = [name for name, _ in model.latent_layout.entries]
    names, codes = list[str](), dict[str, Tensor]()
    for number, batch in _turns(split, batch_size, device, ranks):
        # The same noise in every epoch, so that metrics differ only by the model.
        noise = torch_generator(seed, "validation", number)
        with unchecked_values():
            output = model(batch.images, noise, batch.labels)
            terms = objective(batch, output, clocks).terms
        names = list(terms)
        rows = [*terms.values(), *_latent_rows(output.posterior), *_labeled_rows(output.logits, batch)]
        codes = count_codes(output.posterior)
        found = [*(row.to(precision).sum(0) for row in rows), *(uses.to(precision) for uses in codes.values())]
        if number * batch_size >= len(split):
            found = [torch.zeros_like(own) for own in found]
        sums = [old + new for old, new in zip(sums, found, strict=True)] if sums else found
    lengths = [own.numel() for own in sums]
    totals = torch.split(ranks.add(torch.cat([own.flatten() for own in sums])), lengths)
    figures, rest = totals[: len(names)], totals[len(names) :]
    first, second, kl, parts, each = (own / len(split) for own in rest[:5])
    right, labeled = (float(own) for own in rest[5:7])
    codebooks = summarize_usage(dict(zip(codes, rest[7:], strict=True)))
    return ValidationResult(
        images=len(split),
        metrics={name: float(total) / len(split) for name, total in zip(names, figures, strict=True)},
        kl=float(kl),
        kl_per_unit=[round(part, 6) for part in parts.tolist()] if len(parts) else None,
        active=None if codebooks else int((second - first.square() > ACTIVE).sum()),
        latent=len(first),
        codebooks=codebooks,
        accuracy=right / labeled if labeled else None,
        kl_per_latent={name: round(value, 6) for name, value in zip(latent_names, each.tolist(), strict=True)}
        if len(each)
        else None,
    )


def _turns(split: ImageSet, size: int, device: torch.device, ranks: Ranks) -> Iterator[tuple[int, Batch]]:
    """The batches of this process with their indices.

    All processes must run the same number of forward passes of a sharded model: one without a batch repeats the first
    with an index beyond the last.
    """
    batches = -(-len(split) // size)
    numbers = range(ranks.number, batches, ranks.count)
    yield from zip(numbers, in_order(split, size, device, part=(ranks.number, ranks.count)), strict=True)
    if len(numbers) * ranks.count < batches:
        yield batches, next(in_order(split, size, device))


def _latent_rows(posterior: Posterior) -> list[Tensor]:
    """Figures of each image, (batch, values) each: means, their squares, the divergence, its parts, per latent."""
    latents = split_posterior(posterior)
    mean = posterior.mean.flatten(1).double() if posterior.mean.device.type != "mps" else posterior.mean.flatten(1)
    values = [part.kl_values() for part in latents]
    known = [_per_unit(value) for value in values if value is not None]
    parts = torch.cat(known, 1) if len(known) == len(values) else mean[:, :0]
    each = torch.stack([part.kl() for part in latents], 1) if len(latents) > 1 else mean[:, :0]
    return [mean, mean.square(), posterior.kl()[:, None], parts, each]


def _labeled_rows(logits: Tensor | None, batch: Batch) -> list[Tensor]:
    """Of each image, (batch,) each: whether its class was named, and whether its class is known."""
    if logits is None or batch.labels is None:
        return [torch.zeros(len(batch), device=batch.images.device)] * 2
    return [logits.argmax(1) == batch.labels, batch.labels != MISSING_LABEL]


def _per_unit(values: Tensor) -> Tensor:
    """(batch, unit): the KL divergence of each latent value of a vector, or channel of a map, nats."""
    return values if values.ndim == 2 else values.flatten(2).sum(-1)


def collapse(found: ValidationResult) -> str | None:
    """A warning about the collapse of the posterior or of a codebook; None otherwise."""
    if found.images < LEAST_IMAGES:
        return None
    if found.codebooks:
        return next((_codebook_collapse(usage) for usage in found.codebooks if _has_collapsed(usage)), None)
    if found.kl >= COLLAPSED and found.active:
        idle = [name for name, kl in (found.kl_per_latent or {}).items() if kl < COLLAPSED]
        if not idle:
            return None
        return (
            f"posterior collapse of {', '.join(idle)}: a KL divergence below {COLLAPSED:g} nats per image. Set "
            "objective.kl.balance in the first stage, replace kl by free-bits, or take fewer latents"
        )
    says = (
        f"the KL divergence is only {found.kl:.2g} nats per image"
        if found.active
        else f"none of {found.latent} latent values is active"
    )
    return (
        f"posterior collapse: {says}, so that the latent says next to nothing of an image: lower objective.kl.weight, "
        "let it rise from 0 (weight: {linear: {epochs: 10}}), or replace kl by free-bits"
    )


def _has_collapsed(usage: CodeUsage) -> bool:
    return usage.perplexity < max(COLLAPSED_BOOK * usage.size, LEAST_PERPLEXITY)


def _codebook_collapse(usage: CodeUsage) -> str:
    name = usage.name and f" of {usage.name}"
    return (
        f"codebook collapse{name}: {usage.used} of {usage.size} codes are in use, as variedly as "
        f"{usage.perplexity:.1f} used evenly: raise dead_code_threshold of the quantizer (0.03 is usual), lower "
        "objective.commitment.weight or the learning rate, or take fewer codes"
    )


def validation_row(found: ValidationResult) -> dict[str, Any]:
    """Metrics of the bottleneck for the log."""
    row: dict[str, Any] = {
        "accuracy": found.accuracy,
        "active_units": found.active,
        "kl_per_unit": found.kl_per_unit,
        "kl_per_latent": found.kl_per_latent,
    }
    for usage in found.codebooks:
        name = usage.name and f"/{usage.name}"
        row |= {f"perplexity{name}": usage.perplexity, f"codes_used{name}": usage.used}
    return {name: value for name, value in row.items() if value is not None}


SHOWN = 16
"""Number of reconstructions in a picture."""
SAMPLED = 64
"""Number of samples in a picture."""
WAYS = 4
"""Number of interpolations in a picture."""
WAY_STEPS = 9
"""Number of images per interpolation, including both ends."""


@torch.no_grad()
def draw_pictures(
    model: VAE, split: ImageSet, device: torch.device, *, seed: int, name: str, folder: Path, epoch: int
) -> None:
    """Saves pictures of reconstructions, interpolations between images, and samples from the prior.

    Args:
        model: the model.
        split: images for reconstructions.
        device: device of the model.
        seed: seed of the samples.
        name: name of the run, for titles.
        folder: folder of the PNG files.
        epoch: epoch, for names and titles.

    Raises:
        DataError: the model returns non-finite values.
    """
    model.eval()
    batch = next(in_order(split, SHOWN, device, evenly_spaced(len(split), SHOWN)))
    latents = model.encode(batch.images, batch.labels).mean
    decoded = model.decode(latents, batch.labels).mean
    generator = torch_generator(seed, "pictures")
    sampled = model.sample(SAMPLED, generator)
    title = f"{name}: {split.name} images, epoch {epoch}"
    save(pairs(batch.images.cpu(), decoded.cpu(), title=title), folder / f"epoch-{epoch:04d}-reconstructions.png")
    captions = _captions(model, split.classes)
    sheet = grid(sampled.cpu(), captions=captions, title=f"{name}: samples, epoch {epoch}")
    save(sheet, folder / f"epoch-{epoch:04d}-samples.png")
    ways = min(WAYS, len(latents) // 2)
    if ways:
        ends = latents[: 2 * ways].reshape(ways, 2, *latents.shape[1:])
        shares = torch.linspace(0, 1, WAY_STEPS, device=latents.device)
        way = torch.stack([torch.lerp(ends[:, 0], ends[:, 1], share) for share in shares], dim=1)
        # A conditional model decodes the path as the class of its first image, so that its end is not an image.
        kinds = None if batch.labels is None else batch.labels[: 2 * ways : 2].repeat_interleave(WAY_STEPS)
        # The decoder was trained on codes only, so latents between two codes are quantized.
        between = model.decode(model.quantize(way.flatten(0, 1)), kinds).mean
        title = f"{name}: from one {split.name} image to another, epoch {epoch}"
        if model.condition is not None:
            title = f"{name}: from {split.name} images towards others, drawn as their own class, epoch {epoch}"
        save(grid(between.cpu(), columns=WAY_STEPS, title=title), folder / f"epoch-{epoch:04d}-interpolations.png")


def _captions(model: VAE, names: tuple[str, ...] | None) -> list[str] | None:
    """The classes of the samples of a conditional model, in turn."""
    if model.condition is None:
        return None
    classes = model.condition.classes
    words = class_names(range(classes), names)
    return [words[number % classes] for number in range(SAMPLED)]
