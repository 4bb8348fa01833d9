"""The task of training a VAE: one update, and one more for each term with a critic."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convae.core.names import count_text, shape_text
from convae.core.noise import CountedNoise
from convae.core.output import Output
from convae.core.progress import Progress
from convae.core.types import Batch
from convae.data import Batches, BatchSource, DataSet
from convae.data.image_set import ImageSet
from convae.data.splits.given import GivenData
from convae.model.adapters import adapter_names, load_plain_state, reset_adapters
from convae.model.artifact import save
from convae.model.layers.base.network import count_parameters
from convae.model.mode import evaluation_mode
from convae.model.summary import describe_flops
from convae.model.vae import VAE
from convae.objective.objective import Losses
from convae.objective.schedules.base import Clocks
from convae.objective.terms.base import Critic, LossInputs
from convae.training.distributed import Ranks
from convae.training.loop.health import not_finite
from convae.training.loop.task import Loss, SavedAs, Task, Update, Validation
from convae.training.recipe.plan import LearningRate, Plan, Stage
from convae.training.recipe.schema import Recipe, TrainingConfig
from convae.training.recipe.stage_objective import StageObjective, stage_objective
from convae.training.run_folder import RunFolder
from convae.training.sharding import gather_tensor, is_sharded, load_full_state
from convae.training.vae.architecture import build_model
from convae.training.vae.latent_cache import CachedPass, LatentCache, open_latent_cache, parts_before_latent
from convae.training.vae.output import draw_pictures, make_provenance
from convae.training.vae.start import Start, frozen_by_adapters, initial_weights
from convae.training.vae.validation import collapse, validate, validation_row

Pass = Callable[[Batch, CountedNoise, int], Output]
"""A pass of a batch through the model, with a number of latents for each image."""


@dataclass
class VAETask(Task):
    """Training of a VAE by a recipe.

    Attributes:
        recipe: the recipe, with the input shape and precision filled in.
        model: model with initial weights, on the device.
        plan: stages with objectives and learning rates.
        batches: training batches.
        validation: validation images; None without.
        data_set: the data set; None without training.
        device: device of the model.
        ranks: the processes.
        start: saved model from which a new run starts, in the main process; None for random weights.
        held: model of modules passed as an object; None if the recipe describes the model.
        teacher: trained model of terms of distillation, on the device; None without such terms.
        progress: called while latents are cached, in the main process.
        chosen: notes on options chosen from the data.
    """

    recipe: Recipe
    model: VAE
    plan: Plan
    batches: BatchSource
    validation: ImageSet | None
    data_set: DataSet | GivenData | None
    device: torch.device
    ranks: Ranks
    start: Start | None = None
    held: VAE | None = None
    teacher: VAE | None = None
    progress: Progress | None = None
    chosen: tuple[str, ...] = ()
    modules: dict[str, nn.Module] = field(init=False)
    options: TrainingConfig = field(init=False)
    title: str = field(init=False)

    def __post_init__(self) -> None:
        self.options, self.title = self.recipe.training, self.recipe.title
        self.modules = {"model": self.model}
        for stage in self.plan.stages:
            objective = stage_objective(stage).to(self.device)
            objective.bind(self.model.latent_shape, self.model.input_shape)
            if self.teacher is not None:
                objective.bind_teacher(self.teacher)
            for name, critic in objective.critics.items():
                if not any(module is critic for module in self.modules.values()):
                    # A stage that changes the options of a term has a new term and a new critic.
                    names = (name if number == 1 else f"{name} {number}" for number in itertools.count(1))
                    self.modules[next(each for each in names if each not in self.modules)] = critic.to(self.device)

    def updates(self, stage: Stage) -> list[Update]:
        """The update of the model, then those of the critics."""
        objective, run = stage_objective(stage), self._model_pass(stage)
        found = [Update("model", self.model, _model_loss(objective, run), stage.optimizer, stage.learning_rate)]
        for name, critic in objective.critics.items():
            settings, rate = stage.optimizer, stage.learning_rate
            if critic.optimizer:
                settings = settings.model_copy(update=dict(critic.optimizer))
                rate = LearningRate(settings, f"objective.{name}")
            found.append(Update(name, critic, self._critic_loss(name, critic, run), settings, rate))
        return found

    @property
    def metric_units(self) -> dict[str, str]:
        """Units of the metrics of discriminators."""
        critics = [found for stage in self.plan.stages for found in stage_objective(stage).critics.items()]
        return {f"{name}_{key}": unit for name, critic in critics for key, unit in critic.metric_units.items()}

    def _model_pass(self, stage: Stage) -> Pass:
        """The pass of a batch through the model, from the latents of the cache if the stage uses it."""
        model = self.model

        def run(part: Batch, noise: CountedNoise, samples: int) -> Output:
            found: Output = model(part.images, noise, part.labels, samples=samples)
            return found

        if not self.caches_latents(stage):
            return run
        return CachedPass(model, partial(self.ranks.local_main_first, self._open_cache))

    def frozen(self, stage: Stage) -> tuple[str, ...]:
        """Parts or parameters that are frozen in a stage; with adapters, all other parameters."""
        return (*stage.freeze, *frozen_by_adapters(self.recipe.adapters, self.model))

    def caches_latents(self, stage: Stage) -> bool:
        """Whether the latents of a stage are those of the cache: its encoder, bottleneck and condition are frozen."""
        parts = set(parts_before_latent(self.model))
        return self.options.cache_latents and isinstance(self.batches, Batches) and parts <= set(stage.freeze)

    def _open_cache(self) -> LatentCache:
        return open_latent_cache(self.model, self.images, self.options.precision, self.device, self.progress)

    def _critic_loss(self, name: str, critic: Critic, run: Pass) -> Loss:
        model = self.model

        def loss(part: Batch, noise: CountedNoise, clocks: Clocks) -> Losses:
            with evaluation_mode(model):  # also where the critic calls parts of the model again
                with torch.no_grad():
                    output = run(part, noise, 1)
                inputs = LossInputs(part.images, part.labels, output, clocks.training, value_weights=part.weights)
                values = critic.loss(inputs)
            metrics = {f"{name}_{key}": value for key, value in critic.metrics().items()}
            return Losses(values.mean(), {f"{name}_critic": values, **metrics})

        return loss

    def description(self) -> dict[str, Any]:
        """The recipe."""
        return self.recipe.model_dump(mode="json")

    @property
    def notes(self) -> list[str]:
        """Notes on data and model before the first step."""
        own = [*self.images.notes, *self.chosen]
        if self.model.classifier is not None and not self._has_term("classification"):
            own.append("the classifier is not trained: add objective.classification, or leave model.classifier out")
        return own

    @property
    def images(self) -> ImageSet:
        """The training images."""
        assert isinstance(self.batches, Batches)
        return self.batches.split

    def _has_term(self, name: str) -> bool:
        return any(name in stage.objective.units for stage in self.plan.stages)

    def summary(self) -> list[str]:
        """Lines on data and model."""
        split, model = self.images, self.model
        held_out = f", {len(self.validation):,} for validation" if self.validation is not None else ""
        count = count_parameters(model)
        size = f"{count / 1e6:.1f} M" if count >= 1_000_000 else f"{count:,}"
        lines = [
            f"data {split.source}: {count_text(len(split), 'training image')} {shape_text(split.shape)}{held_out}",
            f"model {model.name}: {size} parameters, latent {shape_text(model.latent_shape)}, "
            f"{type(model.head).__name__.lower()} likelihood",
        ]
        if self.recipe.adapters is not None:
            names = set(adapter_names(model))
            own = sum(each.numel() for name, each in model.named_parameters() if name in names)
            lines.append(
                f"adapters of rank {self.recipe.adapters.rank}: {own:,} trained parameters beside {count - own:,} "
                "frozen ones"
            )
        if self.teacher is not None:
            lines += [
                f"teacher {self.teacher.name}: {describe_flops(part, self.teacher, model)}"
                for part in ("encoder", "decoder")
                if part not in self.plan.stages[0].freeze and part in self.teacher.networks
            ]
        if split.skipped:
            path, reason = split.skipped[0]
            lines.append(
                f"left out {count_text(len(split.skipped), 'unreadable image')}, such as {path}: {reason} "
                f"(all are listed in {split.folder / 'skipped.csv'})"
            )
        return lines

    def snapshot(self) -> dict[str, dict[str, Tensor]]:
        """The initial weights of the critics; those of the model are recreated from the seed."""
        others = {name: module for name, module in self.modules.items() if module is not self.model}
        return {
            name: {key: value.cpu().clone() for key, value in each.state_dict().items()}
            for name, each in others.items()
        }

    def starts(self, folder: Path) -> list[str]:
        """Loads the saved model from which the recipe starts, if any."""
        return [] if self.recipe.start is None else self._load_initial(folder)

    def reset(self, folder: Path, initial: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
        """Resets the modules to their initial weights."""
        super().reset(folder, initial)
        return self._load_initial(folder)

    def _load_initial(self, folder: Path) -> list[str]:
        sentences: list[str | None] = []

        def read() -> dict[str, Tensor]:
            if not self.ranks.is_main:
                return {}
            tensors, sentence = initial_weights(self.recipe, folder, self.batches.batch_size, self.held)
            sentences.append(sentence)
            return tensors

        tensors = self.ranks.broadcast_tensors(self.ranks.run_on_all(read))
        if self.recipe.adapters is None:
            load_full_state(self.model, tensors)
        else:
            load_plain_state(self.model, tensors)
            reset_adapters(self.model, self.options.seed)
        return [sentence for sentence in sentences if sentence is not None]

    def starting_from(self, path: Path) -> VAETask:
        """The task whose recipe starts from the copy of its initial model at `path`; unchanged without `start`."""
        if self.recipe.start is None:
            return self
        own = self.recipe.start.model_copy(update={"model": path.absolute()})
        return replace(self, recipe=self.recipe.model_copy(update={"start": own}))

    def gathered(self) -> VAETask:
        """The task with a full model in the main process; every process must call it."""
        state = self.model.state_dict()
        if not any(map(is_sharded, state.values())):
            return self
        tensors: dict[str, Tensor] = {}
        for name, tensor in state.items():
            full = gather_tensor(tensor)
            if self.ranks.is_main:
                tensors[name] = full.cpu()
        if not self.ranks.is_main:
            return self
        model = build_model(self.recipe, self.held)
        model.load_state_dict(tensors)
        return replace(self, model=model.to(self.device))

    def validate(self, stage: Stage, clocks: Clocks, at_end: Clocks) -> Validation | None:
        """Validates on the held-out images."""
        if self.validation is None:
            return None
        options, goal = self.options, stage_objective(stage)
        found = validate(
            self.model,
            self.validation,
            goal,
            clocks,
            batch_size=options.batch_size,
            seed=options.seed,
            device=self.device,
            ranks=self.ranks,
            data_size=len(self.images),
        )
        judged = {"total": goal.total(found.metrics, at_end), **found.metrics}
        row = {"total": goal.total(found.metrics, clocks), **found.metrics, "total_at_end": judged["total"]}
        warnings = [collapse(found, clocks.training.step), *(critic.warning() for critic in goal.critics.values())]
        warning = next((each for each in warnings if each is not None), None)
        return Validation({**row, **validation_row(found)}, judged, found.metrics, warning)

    def draw(self, folder: Path, epoch: int) -> None:
        """Draws reconstructions, interpolations and samples."""
        split, options = self.validation or self.images, self.options
        draw_pictures(self.model, split, self.device, seed=options.seed, name=self.title, folder=folder, epoch=epoch)

    def save(self, path: Path, saved: SavedAs) -> None:
        """Saves the model as an artifact with its provenance, unless it has non-finite values."""
        # Non-finite values are reported elsewhere; the model saved before is kept.
        if not_finite(self.model) is not None:
            return
        splits = {} if self.data_set is None else self.data_set.split_facts
        is_frozen = all({"encoder", "bottleneck"} <= set(self.frozen(stage)) for stage in self.plan.stages)
        self.model.provenance = make_provenance(
            self.recipe, self.images, splits, saved, RunFolder(path.parent), has_frozen_encoder=is_frozen
        )
        save(self.model, path)


def _model_loss(objective: StageObjective, run: Pass) -> Loss:
    """The loss of the model, from the output of a pass."""
    samples = objective.samples

    def loss(part: Batch, noise: CountedNoise, clocks: Clocks) -> Losses:
        losses: Losses = objective(part, run(part, noise, samples), clocks)
        return losses

    return loss
