"""Validation with fixed noise, and the diagnosis of collapse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from convae.core.code_usage import CodebookUsage, count_codes, short_name, summarize_usage
from convae.core.joint_posterior import split_posterior
from convae.core.output import Output
from convae.core.posterior import Posterior
from convae.core.random import torch_generator
from convae.core.types import MISSING_LABEL, Batch
from convae.data.batches import in_order
from convae.data.image_set import ImageSet
from convae.model.inputs import unchecked_values
from convae.model.vae import VAE
from convae.objective.schedules.base import Clocks
from convae.training.distributed import Ranks
from convae.training.recipe.stage_objective import StageObjective

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
LEAST_STEPS = 100
"""Steps before which no posterior is diagnosed: at first, all images have nearly the same."""


@dataclass(frozen=True)
class ValidationResult:
    """Validation metrics.

    Attributes:
        images: number of images.
        metrics: unweighted mean of each term, in its unit.
        kl: KL divergence of the posterior from the prior, nats per image; None of a deterministic posterior.
        kl_per_unit: KL divergence per latent unit of a vector, or channel of a map; None where it is no sum over them.
        active: number of active units; None where latents are codes.
        latent: number of latent units.
        codebooks: usage of each codebook; empty without one.
        accuracy: accuracy of the classifier on labeled images; None without a classifier or labels.
        kl_per_latent: KL divergence of each latent of a hierarchy by name, nats per image; None with one latent.
        term_parts: mean of each term by quantizer and level, such as `commitment/latent 1`, where there are several.
        measured: mean of what terms measure besides their values, such as `psnr_to_teacher`.
    """

    images: int
    metrics: dict[str, float]
    kl: float | None
    kl_per_unit: list[float] | None
    active: int | None
    latent: int
    codebooks: Sequence[CodebookUsage]
    accuracy: float | None
    kl_per_latent: dict[str, float] | None = None
    term_parts: dict[str, float] | None = None
    measured: dict[str, float] | None = None


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
    data_size: int,
) -> ValidationResult:
    """Validates a model, which stays in evaluation mode.

    Batches are distributed over the ranks, and the results are summed. Terms that depend on the number of images in the
    data take that of the training data, `data_size`.
    """
    precision = torch.float32 if device.type == "mps" else torch.float64
    model.eval()
    sums: _Sums = {}
    has_latent_codes = False
    labeled_fraction = None if split.labels is None else float((split.labels != MISSING_LABEL).mean())
    for number, found_batch in _turns(split, batch_size, device, ranks):
        # The loss is that of the training, and means over labeled images are those of the split, whatever their number
        # in each batch.
        batch = replace(found_batch, labeled_fraction=labeled_fraction, data_size=data_size)
        # The same noise in every epoch, so that metrics differ only by the model.
        noise = torch_generator(seed, "validation", number)
        with unchecked_values():
            output = model(batch.images, noise, batch.labels, samples=objective.samples)
            terms = objective(batch, output, clocks).terms
            measured = objective.measure(batch, output, clocks)
        has_latent_codes = any(part.is_discrete for part in split_posterior(output.posterior))
        found = _batch_sums(terms, output, batch, precision)
        found |= {("measured", name): own.to(precision).sum(0) for name, own in measured.items()}
        if number * batch_size >= len(split):
            found = {key: torch.zeros_like(own) for key, own in found.items()}
        sums = {key: sums[key] + own if sums else own for key, own in found.items()}
    by_kind = _over_ranks(sums, ranks)
    latent = {name: own / len(split) for name, own in by_kind["latent"].items()}
    right, labeled = (float(own) for own in by_kind["label"].values())
    latent_names = [name for name, _ in model.latent_layout.entries]
    per_latent = [round(value, 6) for value in latent["kl per latent"].tolist()]
    return ValidationResult(
        images=len(split),
        metrics={name: float(total) / len(split) for name, total in by_kind["term"].items()},
        kl=float(latent["kl"]) if latent["kl"].isfinite() else None,
        kl_per_unit=[round(part, 6) for part in latent["kl per unit"].tolist()] or None,
        active=None if has_latent_codes else int((latent["square"] - latent["mean"].square() > ACTIVE).sum()),
        latent=len(latent["mean"]),
        codebooks=summarize_usage(by_kind["codes"]),
        accuracy=right / labeled if labeled else None,
        kl_per_latent=dict(zip(latent_names, per_latent, strict=True)) if per_latent else None,
        term_parts={name: float(total) / len(split) for name, total in by_kind["part"].items()},
        measured={name: float(total) / len(split) for name, total in by_kind["measured"].items()},
    )


_Sums = dict[tuple[str, str], Tensor]
"""Sums over images, by kind and name."""


def _batch_sums(terms: Mapping[str, Tensor], output: Output, batch: Batch, precision: torch.dtype) -> _Sums:
    """What a batch adds to the sums."""
    batch = batch.repeated(output.samples)
    rows = {
        **{("latent", name): own for name, own in _latent_rows(output.posterior).items()},
        **{("label", name): own for name, own in _labeled_rows(output.logits, batch).items()},
        **{("part", name): own for name, own in _term_parts(terms, output).items()},
    }
    rows = {key: own.to(precision).unflatten(0, (-1, output.samples)).mean(1) for key, own in rows.items()}
    rows = {("term", name): own for name, own in terms.items()} | rows
    counts = {("codes", name): uses.to(precision) for name, uses in count_codes(output.codes).items()}
    return {key: row.to(precision).sum(0) for key, row in rows.items()} | counts


def _over_ranks(sums: _Sums, ranks: Ranks) -> dict[str, dict[str, Tensor]]:
    """The sums over all ranks, by kind and then by name."""
    message = ranks.add(torch.cat([own.flatten() for own in sums.values()]))
    totals = torch.split(message, [own.numel() for own in sums.values()])
    found: dict[str, dict[str, Tensor]] = {
        kind: {} for kind in ("term", "latent", "label", "part", "codes", "measured")
    }
    for (kind, name), total in zip(sums, totals, strict=True):
        found[kind][name] = total
    return found


def _turns(split: ImageSet, size: int, device: torch.device, ranks: Ranks) -> Iterator[tuple[int, Batch]]:
    """The batches of this process with their indices; each is like the split, for terms of whole batches.

    All processes must run the same number of forward passes of a sharded model: one without a batch repeats the first
    with an index beyond the last.
    """
    batches = -(-len(split) // size)
    numbers = range(ranks.number, batches, ranks.count)
    own = in_order(split, size, device, part=(ranks.number, ranks.count), is_spread=True)
    yield from zip(numbers, own, strict=True)
    if len(numbers) * ranks.count < batches:
        yield batches, next(in_order(split, size, device))


def _latent_rows(posterior: Posterior) -> dict[str, Tensor]:
    """Values of each image, (batch, value) each: means, their squares, KL divergences in all, by unit and by latent."""
    latents = split_posterior(posterior)
    mean = posterior.mean.flatten(1).double() if posterior.mean.device.type != "mps" else posterior.mean.flatten(1)
    values = [part.kl_values() for part in latents]
    known = [_per_unit(value) for value in values if value is not None]
    return {
        "mean": mean,
        "square": mean.square(),
        "kl": posterior.kl()[:, None],
        "kl per unit": torch.cat(known, 1) if len(known) == len(values) else mean[:, :0],
        "kl per latent": torch.stack([part.kl() for part in latents], 1) if len(latents) > 1 else mean[:, :0],
    }


def _labeled_rows(logits: Tensor | None, batch: Batch) -> dict[str, Tensor]:
    """Of each image, (batch,) each: whether the classifier is right, and whether the class is known."""
    if logits is None or batch.labels is None:
        return dict.fromkeys(("right", "known"), torch.zeros(len(batch), device=batch.images.device))
    return {"right": logits.argmax(1) == batch.labels, "known": batch.labels != MISSING_LABEL}


def _term_parts(terms: Mapping[str, Tensor], output: Output) -> dict[str, Tensor]:
    """Terms that several quantizers or levels report, (batch,) by term and codebook, such as `commitment/latent 1`."""
    parts = {term: own for term, own in output.term_parts.items() if term in terms and len(own) > 1}
    return {
        f"{term}/{short_name(name, output.codes)}": cost for term, own in parts.items() for name, cost in own.items()
    }


def _per_unit(values: Tensor) -> Tensor:
    """(batch, unit): the KL divergence of each latent value of a vector, or channel of a map, nats."""
    return values if values.ndim == 2 else values.flatten(2).sum(-1)


def collapse(found: ValidationResult, step: int) -> str | None:
    """A warning about the collapse of the posterior or of a codebook after a number of steps; None otherwise."""
    if found.images < LEAST_IMAGES:
        return None
    collapsed = [usage for usage in found.codebooks if _has_collapsed(usage)]
    if collapsed:
        return _codebook_collapse(collapsed)
    if step < LEAST_STEPS:
        return None
    has_information = (found.kl is None or found.kl >= COLLAPSED) and found.active != 0
    if has_information:
        idle = [name for name, kl in (found.kl_per_latent or {}).items() if kl < COLLAPSED]
        if not idle:
            return None
        return (
            f"posterior collapse of {', '.join(idle)}: a KL divergence below {COLLAPSED:g} nats per image. Set "
            "objective.kl.balance in the first stage, replace kl by free-bits, or take fewer latents"
        )
    says = (
        f"the KL divergence is only {found.kl:.2g} nats per image"
        if found.active and found.kl is not None
        else f"none of {found.latent} latent values is active"
    )
    return (
        f"posterior collapse: {says}, so that the latent says next to nothing of an image: lower objective.kl.weight, "
        "let it rise from 0 (weight: {linear: {epochs: 10}}), or replace kl by free-bits"
    )


def _has_collapsed(usage: CodebookUsage) -> bool:
    return usage.perplexity < max(COLLAPSED_BOOK * usage.size, LEAST_PERPLEXITY)


def _codebook_collapse(collapsed: Sequence[CodebookUsage]) -> str:
    first = collapsed[0]
    names = ", ".join(usage.name for usage in collapsed)
    return (
        f"codebook collapse{names and f' of {names}'}: {first.used} of {first.size} codes are in use, as variedly as "
        f"{first.perplexity:.1f} used evenly: raise dead_code_threshold of the quantizer (0.03 is usual), lower "
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
    row |= {**(found.term_parts or {}), **(found.measured or {})}
    for usage in found.codebooks:
        name = usage.name and f"/{usage.name}"
        row |= {f"perplexity{name}": usage.perplexity, f"codes_used{name}": usage.used}
    return {name: value for name, value in row.items() if value is not None}
