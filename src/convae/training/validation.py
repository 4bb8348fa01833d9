"""The figures of a model on images that it does not train on: exact means, the same noise every time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from convae.core.random import torch_generator
from convae.core.types import FactorisedLike, PosteriorLike
from convae.data import in_order
from convae.training.experiment import Experiment
from convae.training.labels import MISSING
from convae.training.stage_objective import Clocks, StageObjective

ACTIVE = 0.01
"""Variance of the posterior mean over the images above which a latent value is active (Burda et al. 2015)."""


@dataclass(frozen=True)
class Validated:
    """What was measured.

    Attributes:
        figures: the mean of each term, without its weight, in its own unit.
        kl: KL divergence of the posterior from the prior, nats per image.
        kl_per_unit: its parts, one for each latent value of a vector, or channel of a map; empty where it has none.
        active: latent values whose posterior mean varies over the images.
        latent: latent values.
        accuracy: share of the labelled images whose class the classifier names; None without one, or without labels.
    """

    figures: dict[str, float]
    kl: float
    kl_per_unit: list[float]
    active: int
    latent: int
    accuracy: float | None


class _Latents:
    """Sums over images of what the posteriors say."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._sums: list[Tensor] = []

    def add(self, posterior: PosteriorLike) -> None:
        mean = posterior.mean.flatten(1).to(self._dtype)
        parts = _parts(posterior) if isinstance(posterior, FactorisedLike) else mean[:, :0]
        rows = [mean, mean.square(), posterior.kl()[:, None], parts]
        sums = [row.to(self._dtype).sum(0) for row in rows]
        self._sums = [old + new for old, new in zip(self._sums, sums, strict=True)] if self._sums else sums

    def means(self, count: int) -> list[Tensor]:
        return [total / count for total in self._sums]


@torch.no_grad()
def validate(experiment: Experiment, objective: StageObjective, clocks: Clocks) -> Validated:
    """Passes all validation images through the model, which is left in evaluation mode."""
    split, options, device = experiment.validation, experiment.recipe.training, experiment.device
    assert split is not None  # nothing is validated without images
    precision = torch.float32 if device.type == "mps" else torch.float64
    experiment.model.eval()
    sums: dict[str, float] = {}
    latents = _Latents(precision)
    right = labelled = 0
    for number, batch in enumerate(in_order(split, options.batch_size, device)):
        # The same noise at every epoch, so that figures differ by the model alone.
        noise = torch_generator(options.seed, "validation", number)
        output = experiment.model(batch.images, noise)
        for name, term in objective(batch, output, clocks).terms.items():
            sums[name] = sums.get(name, 0.0) + float(term.to(precision).sum())
        latents.add(output.posterior)
        if output.logits is not None and batch.labels is not None:
            right += int((output.logits.argmax(1) == batch.labels).sum())
            labelled += int((batch.labels != MISSING).sum())
    first, second, kl, parts = latents.means(len(split))
    return Validated(
        figures={name: value / len(split) for name, value in sums.items()},
        kl=float(kl),
        kl_per_unit=[round(part, 6) for part in parts.tolist()],
        active=int((second - first.square() > ACTIVE).sum()),
        latent=len(first),
        accuracy=right / labelled if labelled else None,
    )


def _parts(posterior: FactorisedLike) -> Tensor:
    """(batch, unit): the divergence of each latent value of a vector, or channel of a map, nats."""
    values = posterior.kl_values()
    return values if values.ndim == 2 else values.flatten(2).sum(-1)
