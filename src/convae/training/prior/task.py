"""The task of fitting a prior to the latents of a frozen model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convae.core.arguments import split_name
from convae.core.names import class_names, count_text, shape_text
from convae.core.noise import CountedNoise
from convae.core.posterior import LOG_TWO_PI
from convae.core.random import torch_generator
from convae.core.types import Batch
from convae.data import DataSet
from convae.data.image_set import ImageSet
from convae.data.splits.given import GivenData
from convae.model.artifact import save
from convae.model.layers.base.network import count_parameters
from convae.model.priors.base import Prior
from convae.model.provenance import SplitFacts, TrainingFacts
from convae.model.vae import VAE
from convae.objective.objective import Losses
from convae.objective.schedules.base import Clocks
from convae.pictures.grid import grid
from convae.pictures.save import save as save_picture
from convae.training.distributed import Ranks
from convae.training.loop.health import not_finite
from convae.training.loop.task import SavedAs, Task, Update, Validation
from convae.training.prior.encodings import EncodedBatches, Encodings
from convae.training.recipe.plan import Plan, Stage
from convae.training.recipe.schema import PriorRecipe, TrainingConfig

SAMPLED = 64
"""Number of samples in a picture."""
NLL_IMAGES = 256
"""Validation images for −log p(z) of a prior whose loss is another."""
PER_CLASS, MOST_CLASSES = 8, 20
"""Samples of each class in a picture, and the largest number of classes."""


@dataclass
class PriorTask(Task):
    """Fits the prior of a model to encodings of images; all other parts of the model are frozen.

    Attributes:
        recipe: the recipe with every option.
        model: the frozen model with the prior, on the device.
        plan: a single stage.
        batches: encodings of the training images.
        validation: encodings of the validation images; None without.
        images: the training images, for the record.
        data_set: the data set.
        device: device of the model.
        sha256: SHA-256 of the model with its former prior.
        ranks: the processes.
        chosen: notes on the fit.
    """

    recipe: PriorRecipe
    model: VAE
    plan: Plan
    batches: EncodedBatches
    validation: Encodings | None
    images: ImageSet
    data_set: DataSet | GivenData
    device: torch.device
    sha256: str
    ranks: Ranks = field(default_factory=Ranks)
    chosen: tuple[str, ...] = ()
    modules: dict[str, nn.Module] = field(init=False)
    options: TrainingConfig = field(init=False)
    title: str = field(init=False)

    def __post_init__(self) -> None:
        self.options, self.title = self.recipe.training, self.recipe.title
        self.modules = {"prior": self.model.prior}

    @property
    def prior(self) -> Prior:
        """The prior."""
        return self.model.prior

    def updates(self, stage: Stage) -> list[Update]:
        """The update of the prior."""

        def loss(part: Batch, noise: CountedNoise, _: Clocks) -> Losses:
            values = self._loss(part, noise)
            return Losses(values.mean(), {self.prior.loss_name: values})

        return [Update("prior", self.prior, loss, stage.optimizer, stage.learning_rate)]

    def _loss(self, part: Batch, noise: CountedNoise) -> Tensor:
        """(batch,) the loss of encodings."""
        values = part.images
        if self.prior.draws_codes:
            values = values.long().view(len(values), *self.prior.code_shape)
        return self.prior.loss(values, part.labels, noise)

    def description(self) -> dict[str, Any]:
        """The recipe."""
        return self.recipe.model_dump(mode="json")

    @property
    def notes(self) -> list[str]:
        """Notes on the data, and the loss of the standard normal or uniform prior to compare with."""
        where = "training" if self.validation is None else "validation"
        name = "uniform-codes" if self.prior.draws_codes else "standard-normal"
        return [*self.images.notes, *self.chosen, f"−log p(z) of {name}: {self.baseline:.2f} nats per {where} image"]

    @property
    def baseline(self) -> float:
        """−log p(z) of the standard normal prior, or of uniform codes, nats per image."""
        encodings = self.validation or self.batches.encodings
        if encodings.codes is not None:
            nats = [sum(map(math.log, each.codebook_sizes)) for each in self.prior.latents]
            positions = [math.prod(each.latent_shape[1:]) for each in self.prior.latents]
            return sum(one * count for one, count in zip(nats, positions, strict=True))
        squares = encodings.mean.double().square() + encodings.std.double().square()
        return float(0.5 * (squares + LOG_TWO_PI).flatten(1).sum(1).mean())

    def summary(self) -> list[str]:
        """Lines on the model, the data and the prior."""
        held_out = f", {len(self.validation):,} for validation" if self.validation is not None else ""
        name, _ = split_name(self.recipe.prior, "prior")
        classes = f", {count_text(self.prior.classes, 'class')}" if self.prior.classes else ""
        return [
            f"data {self.images.source}: {len(self.images):,} training images{held_out}",
            f"model {self.model.name}: latent {shape_text(self.model.bottleneck.latent_shape)}, frozen",
            f"prior {name}: {count_parameters(self.prior):,} parameters{classes}",
        ]

    @torch.no_grad()
    def validate(self, stage: Stage | None, clocks: Clocks | None, at_end: Clocks | None) -> Validation | None:
        """The loss on the validation images, with the same noise in every epoch."""
        if self.validation is None:
            return None
        self.prior.eval()
        part = (self.ranks.number, self.ranks.count)
        total = 0.0
        for batch, noise in self.validation.in_order(self.options.batch_size, self.options.seed, self.device, part):
            total += float(self._loss(batch, noise).double().sum())
        mean = sum(self.ranks.gather(total)) / len(self.validation)
        metrics = {"total": mean, self.prior.loss_name: mean}
        if self.prior.loss_unit != "nats":
            batch = self.validation.sample(NLL_IMAGES, self.options.seed, self.device)
            metrics["nll"] = float(-self.prior.log_prob(batch.images).double().mean())
        return Validation(metrics, dict(metrics), {self.prior.loss_name: mean})

    @torch.no_grad()
    def draw(self, folder: Path, epoch: int) -> None:
        """Draws samples from the prior; of each class, where it depends on labels."""
        classes = min(self.prior.classes, MOST_CLASSES)
        labels, rows = None, None
        if classes:
            labels = torch.arange(classes, device=self.device).repeat_interleave(PER_CLASS)
            names = class_names(range(self.prior.classes), self.batches.classes)
            rows = [names[number] for number in range(classes)]
        self.prior.eval()
        count = SAMPLED if labels is None else len(labels)
        images = self.model.sample(count, torch_generator(self.options.seed, "pictures"), labels)
        title = f"{self.title}: samples, epoch {epoch}"
        sheet = grid(images.cpu(), columns=PER_CLASS, row_labels=rows, title=title)
        save_picture(sheet, folder / f"epoch-{epoch:04d}-samples.png")

    def save(self, path: Path, saved: SavedAs) -> None:
        """Saves the model with the prior, unless it has non-finite values."""
        if not_finite(self.model) is not None:
            return
        model, recipe = self.model, self.recipe
        facts = TrainingFacts(
            recipe=recipe.title,
            data=SplitFacts(**self.images.describe()),
            step=saved.step,
            which=saved.which,
            validation=saved.metrics,
            start=self.sha256,
        )
        update: dict[str, Any] = {"prior": facts}
        knows_classes = model.condition is not None or model.classifier is not None
        if self.prior.classes and self.batches.classes and not knows_classes:
            update["classes"] = self.batches.classes  # whose numbers are those of the prior
        model.provenance = model.provenance.model_copy(update=update)
        save(model, path)
