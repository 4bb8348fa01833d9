"""Building the task of a recipe: data, model, batches and plan, in this order, and compilation of the networks."""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convae.core.allocator import keep_freed_memory
from convae.core.device import choose_device
from convae.core.errors import ConfigError
from convae.core.names import shape_text
from convae.core.progress import Progress
from convae.data import Batches, DataConfig, DataSet, open_data_set
from convae.data.image_set import ImageSet
from convae.data.splits.given import GivenData
from convae.data.splits.labels import mask_labels
from convae.describe import resolve
from convae.model.compatibility import check_labels
from convae.model.layers.base import Network
from convae.model.layers.base.compiled import CompileMode
from convae.model.vae import VAE
from convae.training.distributed import Ranks
from convae.training.loop.numerics import StepPrecision, choose_precision
from convae.training.recipe.reading import with_default_length, with_default_likelihood
from convae.training.recipe.schema import Recipe, TrainingConfig
from convae.training.recipe.stages import stage_objective, with_steps
from convae.training.run_folder import RunFolder
from convae.training.sharding import shard
from convae.training.vae.checks import (
    check_data_labels,
    check_description,
    check_prior,
    check_stages,
    try_batch,
)
from convae.training.vae.latent_cache import check_cache
from convae.training.vae.start import Start, adapt, build_model, construct_model, input_shape, open_start, open_teacher
from convae.training.vae.task import VAETask

COMPILE_FROM = 2000
"""Steps from which `auto` compiles: compiling takes up to a minute or two."""
GRAPHS_UP_TO = 2**27
"""Values of all layers for a batch up to which CUDA graphs are recorded: launching larger kernels takes less time than
running them, and graphs keep the memory of activations to themselves."""
_CPP = ("c++", "g++", "clang++", "cl")


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
        check_cache(model, plan, split)
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
    model = build_model(recipe.model, options.seed, held).to(where)
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
    return Batches(split, options.batch_size, options.seed, labels=_labels(recipe, model, split), part=part)


def _labels(recipe: Recipe, model: VAE, split: ImageSet) -> NDArray[np.int64] | None:
    """The labels for training, if some are masked."""
    labels, kept = split.labels, recipe.training.labels
    check_labels(model, labels, split.source)
    if kept is not None and model.condition is not None:
        raise ConfigError("training.labels: a conditional model needs the label of every image")
    classes = None if model.classifier is None else model.class_count
    if labels is not None and classes is not None and labels.max() >= classes:
        raise ConfigError(f"model.classifier: knows {classes} classes, but the data has {labels.max() + 1}")
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


def compile_networks(
    model: VAE, options: TrainingConfig, device: torch.device, ranks: Ranks, *, steps: int, images: int, samples: int
) -> str | None:
    """Compiles encoder and decoder as `training.compile` says, and runs the compiled parts once.

    Args:
        model: model on its device, in training mode.
        options: options of the training.
        device: device of the model.
        ranks: the processes.
        steps: steps of the training.
        images: images in a step, over all processes.
        samples: latents of each image.

    Returns:
        A note on parts that are not compiled; None without one.

    Raises:
        ConfigError: `training.compile` is on, and compilation is not possible.
    """
    is_on = options.compile == "on"
    if options.compile == "off" or not (is_on or (device.type == "cuda" and steps >= COMPILE_FROM)):
        return None
    if (reason := _obstacle(options, device, ranks)) is not None:
        if is_on:
            raise ConfigError(f"training.compile: {reason}. Use off")
        return None
    images = max(1, images // ranks.count // options.accumulate)
    mode = _choose_mode(model, options, device, ranks, images * samples)
    compiled = model.use_compilation(mode)
    try:
        for side in compiled:
            network, is_decoder = model.networks[side], side == "decoder"
            x = torch.zeros(images * (samples if is_decoder else 1), *network.shape_in, device=device)
            if x.ndim == 4:
                x = x.contiguous(memory_format=torch.channels_last)
            # Images have no gradient; latents have.
            _run_once(network, options.precision, x.requires_grad_(is_decoder))
    except Exception as error:  # compilers raise errors of any type
        model.use_compilation(None)
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if is_on:
            raise ConfigError(f"training.compile: torch.compile failed ({reason}). Use off") from error
        return f"encoder and decoder are not compiled, as torch.compile failed ({reason})"
    left_out = [side for side in model.networks if side not in (*compiled, "classifier")]
    if is_on and left_out:
        return f"training.compile: not compiled: {' and '.join(left_out)}, with layers that use the forward context"
    return None


def _obstacle(options: TrainingConfig, device: torch.device, ranks: Ranks) -> str | None:
    """Why these options or this machine do not allow compilation; None if they do."""
    for name in ("shard", "checkpointing", "sync_batch_norm"):
        if getattr(options, name) and (name == "checkpointing" or ranks.count > 1):
            return f"cannot be combined with training.{name}"
    if device.type == "cuda":
        return None if importlib.util.find_spec("triton") else "needs Triton, which is not installed"
    if device.type == "cpu":
        has_compiler = "CXX" in os.environ or any(map(shutil.which, _CPP))
        return None if has_compiler else "needs a C++ compiler, and none was found"
    return f"is not available on {device.type}"


def _choose_mode(model: VAE, options: TrainingConfig, device: torch.device, ranks: Ranks, images: int) -> CompileMode:
    """With CUDA graphs where a step is short and its gradients are those of one backward pass."""
    values = images * sum(math.prod(shape) for shape in _layer_shapes(model))
    is_short = values <= GRAPHS_UP_TO and ranks.count == 1 and options.accumulate == 1
    return "reduce-overhead" if device.type == "cuda" and is_short else "default"


def _layer_shapes(model: VAE) -> Iterator[tuple[int, ...]]:
    """The output shapes of all layers of encoder and decoder, also of those inside of layers."""
    for side, network in model.networks.items():
        if side != "classifier":
            for module in network.modules():
                if isinstance(module, Network):
                    yield from module.shapes


def _run_once(network: Network, precision: str, x: torch.Tensor) -> None:
    """A forward and backward pass, which compiles both; statistics of the network are unchanged."""
    before = [buffer.clone() for buffer in network.buffers()]
    modes = {module: module.training for module in network.modules()}
    network.train()
    with StepPrecision(precision, x.device).compute():
        y = network(x)
    y.float().sum().backward()
    network.zero_grad(set_to_none=True)
    for module, mode in modes.items():
        module.training = mode
    for buffer, old in zip(network.buffers(), before, strict=True):
        buffer.data.copy_(old)
