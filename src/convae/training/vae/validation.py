"""The figures of a model on images that it does not train on: exact means, the same noise every time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from convae.core.posterior import CodePosterior, Posterior
from convae.core.random import torch_generator
from convae.core.types import MISSING_LABEL, Batch
from convae.data import Split, in_order
from convae.model.inputs import unchecked_values
from convae.training.recipe.stage_objective import Clocks, StageObjective
from convae.training.vae.experiment import Experiment

ACTIVE = 0.01
"""Variance of the posterior mean over the images above which a latent value is active (Burda et al. 2015)."""


@dataclass(frozen=True)
class ValidationResult:
    """What was measured.

    Attributes:
        images: how many it was measured on.
        figures: the mean of each term, without its weight, in its own unit.
        kl: KL divergence of the posterior from the prior, nats per image.
        kl_per_unit: its parts, one for each latent value of a vector, or channel of a map; empty where it has none.
        active: latent values whose posterior mean varies over the images.
        latent: latent values.
        codes: entries of the code book that some image uses; None without a code book.
        perplexity: how many entries would be used as variedly if they were used evenly; None without a code book.
        entries: of the code book; None without one.
        accuracy: share of the labelled images whose class the classifier names; None without one, or without labels.
    """

    images: int
    figures: dict[str, float]
    kl: float
    kl_per_unit: list[float]
    active: int
    latent: int
    codes: int | None
    perplexity: float | None
    entries: int | None
    accuracy: float | None


@torch.no_grad()
def validate(experiment: Experiment, objective: StageObjective, clocks: Clocks) -> ValidationResult:
    """Passes all validation images through the model, which is left in evaluation mode.

    Processes that train together take the batches by turns, and sum what they find.
    """
    split, options, device = experiment.validation, experiment.recipe.training, experiment.device
    assert split is not None  # nothing is validated without images
    precision = torch.float32 if device.type == "mps" else torch.float64
    experiment.model.eval()
    sums: list[Tensor] = []
    names: list[str] = []
    for number, batch in _turns(experiment, split):
        # The same noise at every epoch, so that figures differ by the model alone.
        noise = torch_generator(options.seed, "validation", number)
        with unchecked_values():
            output = experiment.model(batch.images, noise, batch.labels)
            terms = objective(batch, output, clocks).terms
        names = list(terms)
        rows = [*terms.values(), *_latent_rows(output.posterior), *_labelled_rows(output.logits, batch)]
        found = [row.to(precision).sum(0) for row in rows]
        if number * options.batch_size >= len(split):
            found = [torch.zeros_like(own) for own in found]
        sums = [old + new for old, new in zip(sums, found, strict=True)] if sums else found
    lengths = [own.numel() for own in sums]
    totals = torch.split(experiment.ranks.add(torch.cat([own.flatten() for own in sums])), lengths)
    figures, latents = totals[: len(names)], totals[len(names) : -2]
    first, second, kl, parts, uses = (own / len(split) for own in latents)
    right, labelled = (float(own) for own in totals[-2:])
    return ValidationResult(
        images=len(split),
        figures={name: float(total) / len(split) for name, total in zip(names, figures, strict=True)},
        kl=float(kl),
        kl_per_unit=[round(part, 6) for part in parts.tolist()],
        active=int((second - first.square() > ACTIVE).sum()),
        latent=len(first),
        codes=int((uses > 0).sum()) if len(uses) else None,
        perplexity=_perplexity(uses) if len(uses) else None,
        entries=len(uses) or None,
        accuracy=right / labelled if labelled else None,
    )


def _turns(experiment: Experiment, split: Split) -> Iterator[tuple[int, Batch]]:
    """The batches of this process and their numbers.

    All processes pass as many through the model, which none could otherwise put together from its parts: one that has
    no batch left takes the first again, under a number beyond the last.
    """
    size, ranks, device = experiment.recipe.training.batch_size, experiment.ranks, experiment.device
    batches = -(-len(split) // size)
    numbers = range(ranks.number, batches, ranks.count)
    yield from zip(numbers, in_order(split, size, device, part=(ranks.number, ranks.count)), strict=True)
    if len(numbers) * ranks.count < batches:
        yield batches, next(in_order(split, size, device))


def _latent_rows(posterior: Posterior) -> list[Tensor]:
    """Figures of each image, (batch, values) each: means, their squares, the divergence, its parts, codes."""
    mean = posterior.mean.flatten(1).double() if posterior.mean.device.type != "mps" else posterior.mean.flatten(1)
    values = posterior.kl_values()
    parts = mean[:, :0] if values is None else _per_unit(values)
    uses = _uses(posterior) if isinstance(posterior, CodePosterior) else mean[:, :0]
    return [mean, mean.square(), posterior.kl()[:, None], parts, uses]


def _labelled_rows(logits: Tensor | None, batch: Batch) -> list[Tensor]:
    """Of each image, (batch,) each: whether its class was named, and whether its class is known."""
    if logits is None or batch.labels is None:
        return [torch.zeros(len(batch), device=batch.images.device)] * 2
    return [logits.argmax(1) == batch.labels, batch.labels != MISSING_LABEL]


def _uses(posterior: CodePosterior) -> Tensor:
    """(batch, entry): at how many places each entry of the code book is."""
    codes = posterior.codes.reshape(len(posterior.codes), -1)
    uses = torch.zeros(len(codes), posterior.codebook_size, device=codes.device)
    return uses.scatter_add_(1, codes, torch.ones_like(codes, dtype=uses.dtype))


def _perplexity(uses: Tensor) -> float:
    """How many entries would be as varied if they were used evenly: e to the entropy of their uses."""
    return float(torch.special.entr(uses / uses.sum()).sum().exp())


def _per_unit(values: Tensor) -> Tensor:
    """(batch, unit): the KL divergence of each latent value of a vector, or channel of a map, nats."""
    return values if values.ndim == 2 else values.flatten(2).sum(-1)
