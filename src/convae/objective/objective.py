"""Training objective: the weighted sum of loss terms.

batch, output, moment ── every term ──> cost of each image ── mean × weight(moment) ──> total
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from convae.core.arguments import parse_arguments
from convae.core.errors import ConfigError, ConvaeError, ShapeError
from convae.core.output import Output
from convae.core.types import Batch, Shape
from convae.model.vae import VAE
from convae.objective.schedules.base import Moment, Schedule, build_schedule
from convae.objective.terms import TERMS
from convae.objective.terms._teacher import TeacherTerm
from convae.objective.terms.base import Critic, LossInputs, Term

START = Moment(0, 0.0, 0.0)
"""The start of training."""
WEIGHT = "weight"
"""Key of a term's weight in a recipe, next to the term's arguments."""


@dataclass(frozen=True)
class Losses:
    """The loss of a batch.

    Attributes:
        total: scalar, weighted sum of the terms' batch means, nats per image.
        terms: (batch,) of each term, in its unit, unweighted.
    """

    total: Tensor
    terms: dict[str, Tensor]


class Objective(nn.Module):
    """Weighted sum of loss terms.

    Args:
        terms: terms by name.
        weights: weight schedules by the same names.
    """

    def __init__(self, terms: Mapping[str, Term], weights: Mapping[str, Schedule]) -> None:
        super().__init__()
        self.terms = dict(terms)
        self._modules_of_terms = nn.ModuleList(terms.values())  # no ModuleDict: its keys cannot be dotted paths
        self.schedules = dict(weights)

    @property
    def units(self) -> dict[str, str]:
        """The unit of each term."""
        return {name: term.unit for name, term in self.terms.items()}

    @property
    def critics(self) -> dict[str, Critic]:
        """The networks that train beside the model, by the names of their terms."""
        return {name: term.critic for name, term in self.terms.items() if term.critic is not None}

    @property
    def samples(self) -> int:
        """Number of latents that the model must draw for each image, its argument `samples`; 1 for most objectives."""
        return max((term.samples_per_image or 1 for term in self.terms.values()), default=1)

    def bind(self, latent_shape: Shape, image_shape: Shape) -> None:
        """Prepares terms with a discriminator; needed before the first batch.

        Args:
            latent_shape: of the model, `model.latent_shape`.
            image_shape: of its images, `model.input_shape`.

        Raises:
            ShapeError: the images are too small for a discriminator; the message names the term.
        """
        for name, term in self.terms.items():
            try:
                term.bind(latent_shape, image_shape)
            except ConvaeError as error:
                raise type(error)(f"objective.{name}: {error}") from error

    @property
    def needs_teacher(self) -> bool:
        """Whether a term compares the model with a trained one."""
        return any(isinstance(term, TeacherTerm) for term in self.terms.values())

    def bind_teacher(self, teacher: VAE) -> None:
        """Gives terms of distillation the trained model; they need it before the first batch.

        Args:
            teacher: the trained model, which is frozen.

        Raises:
            ConfigError: its latents or its images are not those of the model; the message names the term.
        """
        for name, term in self.terms.items():
            if isinstance(term, TeacherTerm):
                try:
                    term.bind_teacher(teacher)
                except ConvaeError as error:
                    raise type(error)(f"objective.{name}: {error}") from error

    def weights(self, moment: Moment) -> dict[str, float]:
        """Each term's weight at a moment."""
        return {name: weight(moment) for name, weight in self.schedules.items()}

    def forward(
        self,
        batch: Batch | Tensor,
        output: Output,
        moment: Moment = START,
        critics: Mapping[str, Critic] | None = None,
    ) -> Losses:
        """The loss of a batch and the model's output for it.

        Terms are averaged over the latents of an image, if the model drew several.

        Args:
            batch: the images, with labels where a term needs them (`Batch.of(images, labels)`); or images alone.
            output: output of the model for these images.
            moment: progress of training, for schedules; by default the start.
            critics: networks that terms may use, by the names of their terms; by default those of this objective.

        Raises:
            ConfigError: the model or the data lacks what a term needs; the message names the term.
            ShapeError: the images are too small for a term.
        """
        inputs = replace(_inputs(batch, output, moment), critics=self.critics if critics is None else critics)
        terms: dict[str, Tensor] = {}
        weights = self.weights(moment)
        for name, term in self.terms.items():
            try:
                values = _require_costs(term(replace(inputs, weight=weights[name])), len(inputs.values))
                terms[name] = _per_image(values, output.samples)
            except ConvaeError as error:
                raise type(error)(f"objective.{name}: {error}") from error
        parts = [terms[name].mean() * weight for name, weight in weights.items()]
        return Losses(torch.stack(parts).sum(), terms)

    def measure(self, batch: Batch, output: Output, moment: Moment = START) -> dict[str, Tensor]:
        """What the terms measure besides their values, (batch,) each, for the log of the validation; see `forward`."""
        inputs = _inputs(batch, output, moment)
        found = {name: value for term in self.terms.values() for name, value in term.measure(inputs).items()}
        return {name: _per_image(value, output.samples) for name, value in found.items()}


def build_objective(written: Mapping[str, Mapping[str, Any] | float]) -> Objective:
    """Builds the objective of a recipe: term names, each with a weight and the term's arguments.

    A weight is a number or a schedule, 1 by default; a term with weight 0 is only logged. In your own training loop:
    `objective(images, model(images, samples=objective.samples)).total.backward()`.

    Args:
        written: the arguments of each term by its name, with `weight` among them; or just the weight.

    Raises:
        ConfigError: no terms, an unknown term, or wrong arguments.
    """
    if not written:
        raise ConfigError(f"objective: needs at least one term of {', '.join(TERMS.names())}")
    terms: dict[str, Term] = {}
    weights: dict[str, Schedule] = {}
    faults: list[ConvaeError] = []
    for name, options in written.items():
        given = options if isinstance(options, Mapping) else {WEIGHT: options}
        where = f"objective.{name}"
        try:
            terms[name] = _term(name, given, where)
            weights[name] = build_schedule(given.get(WEIGHT, 1.0), f"{where}.{WEIGHT}")
        except ConvaeError as error:
            faults.append(error)
    if faults:
        raise type(faults[0])("; ".join(map(str, faults))) from faults[0]
    return Objective(terms, weights)


def _inputs(batch: Batch | Tensor, output: Output, moment: Moment) -> LossInputs:
    """The inputs of the terms, with a row of images and labels for each latent."""
    if isinstance(batch, Tensor):
        batch = Batch.of(batch)
    if output.samples > 1:
        batch = batch.repeated(output.samples)
    return LossInputs(
        batch.images,
        batch.labels,
        output,
        moment,
        batch.labeled_fraction,
        batch.data_size,
        value_weights=batch.weights,
    )


def _require_costs(values: Tensor, rows: int) -> Tensor:
    """Returns the values of a term, which are one for each row of the batch; the mean of others would be wrong.

    Raises:
        ShapeError: they are not one value for each row of the batch.
    """
    found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
    if found != (rows,):
        raise ShapeError(f"must return one value for each image, of the shape ({rows},), got {found}")
    return values


def _per_image(values: Tensor, samples: int) -> Tensor:
    """(images × samples,) to the mean over the samples of each image, (images,)."""
    return values if samples == 1 else values.unflatten(0, (-1, samples)).mean(1)


def _term(name: str, options: Mapping[str, Any], where: str) -> Term:
    """Builds a term from its arguments, including its weight."""
    try:
        target = TERMS.get(name)
    except ConfigError as error:
        raise type(error)(f"{where}: {error}") from error
    checked = parse_arguments(target, options, where, beside=(WEIGHT,))
    try:
        made: Term = target(**checked)
    except ConvaeError as error:
        raise type(error)(f"{where}: {error}") from error
    return made
