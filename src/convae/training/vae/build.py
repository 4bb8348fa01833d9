"""Building the task of a recipe: data, model, batches and plan, in this order."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convae.core.allocator import keep_freed_memory
from convae.core.device import choose_device
from convae.core.errors import ConfigError
from convae.core.names import count_text, shape_text
from convae.core.progress import Progress
from convae.data import Batches, DataConfig, DataSet, LabeledDraws, open_data_set
from convae.data.image_set import ImageSet
from convae.data.splits.given import GivenData
from convae.data.splits.labels import mask_labels
from convae.describe import resolve
from convae.model.compatibility import check_labels
from convae.model.vae import VAE
from convae.training.distributed import Ranks
from convae.training.loop.numerics import choose_precision
from convae.training.recipe.reading import with_default_length, with_default_likelihood
from convae.training.recipe.schema import Recipe
from convae.training.recipe.stage_objective import stage_objective
from convae.training.recipe.stages import with_steps
from convae.training.run_folder import RunFolder
from convae.training.sharding import shard
from convae.training.vae.architecture import build_model, construct_model, input_shape, with_image_mean
from convae.training.vae.checks import (
    check_data_labels,
    check_description,
    check_prior,
    check_stages,
    try_batch,
)
from convae.training.vae.compilation import compile_networks
from convae.training.vae.latent_cache import check_cache
from convae.training.vae.start import Start, adapt, open_start, open_teacher
from convae.training.vae.task import VAETask


def build_task(
    recipe: Recipe,
    progress: Progress | None = None,
    ranks: Ranks | None = None,
    *,
    start: VAE | None = None,
    given: GivenData | None = None,
    held: VAE | None = None,
    folder: RunFolder | None = None,
) -> VAETask:
    """Builds the task of a recipe, in each process.

    Args:
        recipe: the recipe.
        progress: called during the preparation of the data.
        ranks: the processes; by default a single one.
        start: model of `start`, if it was passed as an object.
        given: data passed as objects.
        held: model of modules passed as an object; None if the recipe describes the model.
        folder: folder of a run that is resumed, with its copy of the model of `start`; None for a new run.

    Raises:
        ConvaeError: invalid recipe, data or model of `start`.
    """
    ranks, is_new = ranks or Ranks(), folder is None
    keep_freed_memory()
    where = ranks.device(choose_device(recipe.training.device))
    outline = check_description(recipe := _with_precision(recipe, where), held)
    started, chosen_by_data = list[Start](), list[str]()
    if recipe.start is not None and is_new:
        recipe = ranks.broadcast(partial(_started, recipe, start, started, held))
    progress = progress if ranks.is_main else None
    recipe, data_set, split, validation = ranks.local_main_first(partial(_read_data, recipe, progress, given))
    if is_new:
        recipe = with_default_likelihood(recipe, split, chosen_by_data)
        recipe = ranks.broadcast(partial(with_image_mean, recipe, split, held))
    model = build_training_model(recipe, where, held)
    check_prior(model)
    ranks.run_on_all(lambda: [each.tensors(construct_model(recipe.model, held)) for each in started])
    batches = _batches(recipe, model, split, ranks)
    check_data_labels(model, started, split, validation)
    if is_new:
        recipe = with_default_length(recipe, batches.steps_per_epoch, chosen_by_data)
    plan = with_steps(outline, recipe, batches.steps_per_epoch)
    check_stages(recipe, model, plan, chosen_by_data if is_new else [])
    if recipe.training.cache_latents:
        check_cache(model, plan, split, recipe.training.labeled)
    teacher = ranks.run_on_all(partial(open_teacher, recipe, plan, where, folder, given=start, held=held))
    made = VAETask(
        recipe=recipe,
        model=model,
        plan=plan,
        batches=batches,
        validation=validation,
        data_set=data_set,
        device=where,
        ranks=ranks,
        start=next(iter(started), None),
        held=held,
        teacher=teacher,
        progress=progress,
        chosen=tuple(chosen_by_data),
    )
    try_batch(made)
    _prepare_networks(made)
    return made


def _prepare_networks(made: VAETask) -> None:
    """Compiles or shards the networks of a task, as its options say."""
    options = made.options
    note = compile_networks(
        made.model,
        options,
        made.device,
        made.ranks,
        steps=made.plan.total_steps([0]),
        images=made.batches.batch_size,
        samples=stage_objective(made.plan.stages[0]).samples,
    )
    made.chosen += () if note is None else (note,)
    if options.shard and made.ranks.count > 1:
        shard(made.model, made.device)


def _with_precision(recipe: Recipe, where: torch.device) -> Recipe:
    """The recipe with the precision for its device."""
    precision = choose_precision(recipe.training.precision, where)
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"precision": precision})})


def _started(recipe: Recipe, given: VAE | None, started: list[Start], held: VAE | None) -> Recipe:
    """The recipe completed from the model of `start`, which is added to `started`."""
    assert recipe.start is not None
    start = open_start(recipe.start, given, held)
    started.append(start)
    model = dict(recipe.model)
    if not start.parts and not {"input", "encode"} & set(model):
        model["input"] = list(start.model.input_shape)
    if "input" in model:
        start.tensors(construct_model(model, held))  # errors are reported before the data is prepared
    written = recipe.start.model_copy(update={"sha256": start.sha256})
    return recipe.model_copy(update={"model": model, "start": written})


def build_training_model(recipe: Recipe, where: torch.device, held: VAE | None = None) -> VAE:
    """The model of a recipe on its device, with its memory layout and options for training."""
    options = recipe.training
    model = build_model(recipe, held).to(where)
    model.use_checkpointing(options.checkpointing)
    adapt(model, recipe)
    layouts = {3: torch.channels_last, 4: torch.channels_last_3d}
    # Sharded parameters must be contiguous.
    if len(model.input_shape) in layouts and not options.shard:
        model.to(memory_format=layouts[len(model.input_shape)])  # type: ignore[call-overload]  # missing in torch's stub
    return model


def _batches(recipe: Recipe, model: VAE, split: ImageSet, ranks: Ranks) -> Batches:
    """The training batches of this process."""
    options, part = recipe.training, (ranks.number, ranks.count)
    labels, draws = _labels(recipe, model, split), None
    if (labeled := options.labeled) is not None:
        known = split.labels if labels is None else labels
        if known is None or not (known >= 0).any():
            raise ConfigError("training.labeled: no training image has a label. Leave it out")
        draws = LabeledDraws(known, labeled.fraction, labeled.augment, options.seed)
    return Batches(split, options.batch_size, options.seed, labels=labels, part=part, draws=draws)


def _labels(recipe: Recipe, model: VAE, split: ImageSet) -> NDArray[np.int64] | None:
    """The labels for training, if some are masked."""
    labels, kept = split.labels, recipe.training.labels
    check_labels(model, labels, split.source)
    if kept is not None and model.condition is not None:
        raise ConfigError("training.labels: a conditional model needs the label of every image")
    classes = None if model.classifier is None else model.class_count
    if labels is not None and classes is not None and labels.max() >= classes:
        raise ConfigError(
            f"model.classifier: knows {count_text(classes, 'class')}, but the data has {labels.max() + 1}"
        )
    if kept is None:
        return None
    if labels is None:
        raise ConfigError("training.labels: the data has no labels")
    known = int((labels >= 0).sum())
    if isinstance(kept, int) and kept > known:
        raise ConfigError(
            f"training.labels: {kept:,} are to be kept, but only {known:,} training images have a label: leave it out "
            "to keep all"
        )
    return mask_labels(labels, kept, recipe.training.seed)


def _read_data(
    recipe: Recipe, progress: Progress | None, given: GivenData | None
) -> tuple[Recipe, DataSet | GivenData, ImageSet, ImageSet | None]:
    """The recipe with matching shapes of data and model, the data set, and the training and validation images.

    A model with an `input` determines the size of the images. Otherwise images keep their size or, if they differ in
    size, are resized to that of the preset. One process on each host decodes the images first, the others
    find them decoded.
    """
    data, model = recipe.data, dict(recipe.model)

    def open_(config: DataConfig, **fallback: Any) -> DataSet | GivenData:
        return open_data_set(config, progress=progress, **fallback) if given is None else given.configure(config)

    if "input" in model:
        wanted = input_shape(model)
        data = data.model_copy(update={"size": data.size or wanted[1:], "channels": data.channels or wanted[0]})
        data_set = open_(data)
        split = data_set.split("train")
        if split.shape != wanted:
            raise ConfigError(f"model.input is {shape_text(wanted)}, but the images are {shape_text(split.shape)}")
    else:
        preset = resolve(model).input if "preset" in model else None
        size, channels = (preset[1:], preset[0]) if preset else (None, None)
        data_set = open_(data, size=size, channels=channels)
        split = data_set.split("train")
        # The input of an arch_def has channels last.
        model["input"] = [*split.shape[1:], split.shape[0]] if "encode" in model else list(split.shape)
    if "preset" not in model:
        model.setdefault("name", recipe.title)
    data = data.model_copy(update={"size": split.shape[1:], "channels": split.shape[0]})
    recipe = recipe.model_copy(update={"name": recipe.title, "model": model, "data": data})
    held_out = bool(data.validation) if given is None else given.has_validation()
    return recipe, data_set, split, data_set.split("validation") if held_out else None
