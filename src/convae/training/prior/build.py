"""Building the task of fitting a prior."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch

from convae.core.allocator import keep_freed_memory
from convae.core.arguments import Named, keyword_parameters, parse_arguments, split_name
from convae.core.device import choose_device
from convae.core.errors import ConfigError
from convae.core.progress import Progress
from convae.core.random import torch_generator
from convae.data import DataSet, open_data_set
from convae.data.image_set import ImageSet
from convae.data.splits.given import GivenData
from convae.data.splits.labels import mask_labels
from convae.model.fingerprint import fingerprint
from convae.model.parts import build_prior
from convae.model.priors import PRIORS
from convae.model.priors.base import Prior
from convae.model.vae import VAE
from convae.training.distributed import Ranks
from convae.training.loop.numerics import choose_precision
from convae.training.prior.encodings import EncodedBatches, Encodings, encode_images
from convae.training.prior.task import PriorTask
from convae.training.recipe.plan import Plan, single_stage
from convae.training.recipe.schema import PriorRecipe, TrainingConfig
from convae.training.recipe.stages import default_length
from convae.training.recipe.start import start_from_copy
from convae.training.run_folder import RunFolder
from convae.training.vae.start import open_start

_UNUSED = (
    "accumulate",
    "sync_batch_norm",
    "shard",
    "checkpointing",
    "compile",
    "labeled",
    "augmentation",
    "temperature",
    "freeze",
    "cache_latents",
    "image_mean",
)
"""Options of training that fitting a prior does not have."""
_UNUSED_AT_ONCE = ("epochs", "steps", "minutes", "ema", "optimizer", "loggers")
"""Options of training that a prior which is computed without steps does not have."""
ENCODED_AT_ONCE = 256
"""Images per batch of the encoder."""


def build_prior_task(
    recipe: PriorRecipe,
    progress: Progress | None,
    ranks: Ranks,
    *,
    model: VAE | None,
    given: GivenData | None,
    folder: RunFolder | None = None,
) -> PriorTask:
    """Builds the task of a recipe, in each process: loads the model, encodes the images, and initializes the prior.

    Args:
        recipe: the recipe.
        progress: called during the preparation of the data and the encoding.
        ranks: the processes.
        model: the model, if it was passed as an object, or a model of the same modules.
        given: data passed as objects.
        folder: folder of a run that is resumed, with its copy of the model.

    Raises:
        ConfigError: the prior does not fit the latents of the model, or an option does not apply.
        ConvaeError: invalid data or model.
    """
    keep_freed_memory()
    _check_options(recipe, is_new=folder is None)
    frozen, sha256 = _open_model(recipe, model, folder)
    device, shown = ranks.device(choose_device(recipe.training.device)), progress if ranks.is_main else None
    start = recipe.start.model_copy(update={"sha256": sha256})
    training = recipe.training.model_copy(update={"precision": choose_precision(recipe.training.precision, device)})
    recipe = recipe.model_copy(update={"start": start, "training": training})
    latents = _check_prior(recipe.prior, frozen)  # before the data is opened
    recipe, data_set, split, held_out = ranks.local_main_first(partial(_open_data, recipe, frozen, shown, given))
    recipe = recipe.model_copy(update={"prior": _with_classes(recipe.prior, split, held_out)})
    frozen.to(device)

    def encode(images: ImageSet) -> Encodings:
        return encode_images(frozen, images, ENCODED_AT_ONCE, training.seed, shown, ranks, latents)

    encodings = _with_masked_labels(encode(split), training)
    validation = None if held_out is None else encode(held_out)
    part = (ranks.number, ranks.count)
    batches = EncodedBatches(encodings, training.batch_size, training.seed, split.classes, part)
    prior, entry, notes = _make_prior(recipe, frozen, encodings, ranks)
    frozen.replace_prior(prior.to(device), entry)
    if folder is None:
        recipe = recipe.model_copy(update={"training": default_length(recipe.training, batches.steps_per_epoch)})
    return PriorTask(
        recipe=recipe,
        model=frozen,
        plan=_plan(recipe.training, batches.steps_per_epoch, prior),
        batches=batches,
        validation=validation,
        images=split,
        data_set=data_set,
        device=device,
        sha256=sha256,
        ranks=ranks,
        chosen=tuple(notes),
    )


def _check_options(recipe: PriorRecipe, *, is_new: bool) -> None:
    """Checks that options which do not apply have their defaults.

    The recipe of a begun run has a length, also for a prior that is computed without steps.

    Raises:
        ConfigError: unknown prior, or an option does not have its default.
    """
    unused = dict.fromkeys(_UNUSED, "fitting a prior")
    prior, _ = split_name(recipe.prior, "prior")
    if is_new and PRIORS.get(prior).is_fitted_at_once:
        unused |= dict.fromkeys(_UNUSED_AT_ONCE, f"the prior {prior}, which is computed without steps")
    defaults = TrainingConfig()
    for name, what in unused.items():
        if getattr(recipe.training, name) != getattr(defaults, name):
            raise ConfigError(f"training.{name}: does not apply to {what}. Leave it out")


def _open_model(recipe: PriorRecipe, model: VAE | None, folder: RunFolder | None) -> tuple[VAE, str]:
    """The trained model in float32 and evaluation mode without gradients, and its SHA-256."""
    start = recipe.start
    if start.importer is not None or start.parts:
        raise ConfigError("start: a prior is fitted to a whole model of convae. Leave out importer, key and parts")
    if folder is not None and folder.start.exists():
        opened = open_start(start_from_copy(start, folder.start), held=model)
    else:
        opened = open_start(start, model)
    frozen = copy.deepcopy(opened.model).float().eval().requires_grad_(False)
    return frozen, fingerprint(opened.model)


def _check_prior(written: Named, model: VAE) -> list[str]:
    """Checks that a prior can be fitted to the latents of a model; returns the names of those that it covers.

    Raises:
        ConfigError: it does not fit, or has no parameters.
    """
    with torch.device("meta"):
        prior = build_prior(written, model.bottleneck, model.decoder)
        prior.bind(model.encode, model.input_shape)
    name, _ = split_name(written, "prior")
    if not any(True for _ in prior.parameters()):
        raise ConfigError(f"prior {name}: has no parameters to fit")
    return [each.stream for each in prior.latents]


def _open_data(
    recipe: PriorRecipe, model: VAE, progress: Progress | None, given: GivenData | None
) -> tuple[PriorRecipe, DataSet | GivenData, ImageSet, ImageSet | None]:
    """The recipe with the model's image shape, the data set, and the training and validation images."""
    channels, *size = model.input_shape
    if given is None:
        data = recipe.data.model_copy(update={"channels": channels, "size": tuple(size)})
        data_set: DataSet | GivenData = open_data_set(data, progress=progress)
        held_out = bool(data.validation)
    else:
        data, data_set = recipe.data, given.configure(recipe.data)
        held_out = given.has_validation()
        if given.shape != model.input_shape:
            raise ConfigError(f"data: images are {given.shape}, but the model takes {model.input_shape}")
    split = data_set.split("train")
    return recipe.model_copy(update={"data": data}), data_set, split, data_set.split("validation") if held_out else None


def _with_classes(written: Named, split: ImageSet, held_out: ImageSet | None) -> Named:
    """The prior with the number of classes of the labels, where it depends on labels and the recipe says none."""
    name, arguments = split_name(written, "prior")
    if "classes" not in keyword_parameters(PRIORS.get(name)) or "classes" in arguments or split.labels is None:
        return written
    largest = max(int(each.labels.max()) for each in (split, held_out) if each is not None and each.labels is not None)
    count = max(largest + 1, len(split.classes or ()))
    return {name: {**arguments, "classes": count}} if count else written


def _with_masked_labels(encodings: Encodings, options: TrainingConfig) -> Encodings:
    """Encodings with the labels that `training.labels` keeps."""
    if options.labels is None or encodings.labels is None:
        return encodings
    kept = mask_labels(encodings.labels.numpy(), options.labels, options.seed)
    return Encodings(encodings.mean, encodings.std, encodings.codes, torch.from_numpy(kept))


def _make_prior(recipe: PriorRecipe, model: VAE, encodings: Encodings, ranks: Ranks) -> tuple[Prior, Named, list[str]]:
    """The prior, fitted or with initial parameters, its final description, and notes."""
    name, _ = split_name(recipe.prior, "prior")
    if PRIORS.get(name).is_fitted_at_once:
        return _fit_at_once(recipe, model, encodings, ranks)
    prior = build_prior(recipe.prior, model.bottleneck, model.decoder)
    prior.bind(model.encode, model.input_shape)
    prior.reset(torch_generator(recipe.training.seed, "prior"))
    prior.prepare(encodings.mean, encodings.std)
    return prior, recipe.prior, []


def _fit_at_once(recipe: PriorRecipe, model: VAE, encodings: Encodings, ranks: Ranks) -> tuple[Prior, Named, list[str]]:
    """The fitted prior, its final description, and notes; the main process fits it."""
    name, arguments = split_name(recipe.prior, "prior")
    kind, seed = PRIORS.get(name), recipe.training.seed
    made: list[Prior] = []

    def fit() -> dict[str, Any]:
        noise = torch.randn(encodings.mean.shape, generator=torch_generator(seed, "fitted"))
        latents = encodings.mean + encodings.std * noise
        checked = parse_arguments(kind, arguments, f"prior {name}")
        prior, final = kind.fit(model.bottleneck, latents, encodings.labels, seed, checked)
        made.append(prior)
        return dict(final)

    final = ranks.broadcast(fit)
    tensors = ranks.broadcast_tensors(made[0].state_dict() if made else {})
    prior = made[0] if made else build_prior({name: final}, model.bottleneck, model.decoder)
    prior.load_state_dict(tensors)
    found = ", ".join(f"{key} {value}" for key, value in final.items())
    return prior, {name: final}, [f"fitted {name}: {found}"]


def _plan(options: TrainingConfig, per_epoch: int, prior: Prior) -> Plan:
    """The plan: a single stage."""
    steps = options.steps or (options.epochs or 1) * per_epoch
    return single_stage(steps, per_epoch, units={prior.loss_name: prior.loss_unit}, optimizer=options.optimizer)
