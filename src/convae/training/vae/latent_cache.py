"""Latents of a frozen encoder, computed once and kept in a memory map.

    cache/latents/KEY/
      values.bin    (images, *shape) float32, what the bottleneck draws latents from, such as mean and log-variance
      index.json    shape and source; written last

The key is a hash of the content of images and labels, the weights and the description of everything before the latent,
the precision, and the versions that rounding depends on. A change of any of them is another key, never a stale entry.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from convae.core.cache import cache_directory
from convae.core.checked_files import digest
from convae.core.errors import ConfigError
from convae.core.files import write_json, writing_errors
from convae.core.noise import CountedNoise
from convae.core.output import Output
from convae.core.progress import Progress
from convae.core.types import Batch, Shape
from convae.data import in_order
from convae.data.augment import AugmentConfig
from convae.data.image_set import ImageSet
from convae.model.fingerprint import module_classes
from convae.model.inputs import unchecked_values
from convae.model.vae import VAE
from convae.training.loop.numerics import StepPrecision
from convae.training.recipe.plan import Plan
from convae.training.recipe.schema import LabeledConfig, PrecisionName

FORMAT = 1
ENCODED_AT_ONCE = 128
"""Images per batch of the encoder."""
BEFORE_LATENT = ("encoder", "bottleneck", "condition")
"""Parts that a stage must freeze, so that its latents can be cached."""
INDEX, VALUES = "index.json", "values.bin"


class LatentCache:
    """What the bottleneck of a model draws the latents of images from, by the position of the image.

    Args:
        values: (images, *shape), read-only.
    """

    def __init__(self, values: NDArray[np.float32]) -> None:
        self.values = values

    def rows(self, indices: Tensor) -> Tensor:
        """(batch, *shape) of the images at `indices`, (batch,), on their device."""
        return torch.from_numpy(self.values[indices.cpu().numpy()]).to(indices.device)


class CachedPass:
    """A pass of a batch through the model from the cached latents of its images.

    The cache is opened at the first pass: only then the weights of a stage are those of a checkpoint or of the stage
    before.

    Args:
        model: the model.
        open_cache: opens the cache.
    """

    def __init__(self, model: VAE, open_cache: Callable[[], LatentCache]) -> None:
        self._model, self._open_cache = model, open_cache
        self._cache: LatentCache | None = None

    def __call__(self, part: Batch, noise: CountedNoise, samples: int) -> Output:
        """The output for the images of `part`, with a number of latents for each, drawn from `noise`."""
        if self._cache is None:
            self._cache = self._open_cache()
        return self._model.decode_head(self._cache.rows(part.indices), noise, part.labels, samples=samples)


def parts_before_latent(model: VAE) -> list[str]:
    """The parts of a model on which its latents depend."""
    own = [name for name, _ in model.named_children()]
    return [name for name in BEFORE_LATENT if name in own]


def check_cache(model: VAE, plan: Plan, split: ImageSet, labeled: LabeledConfig | None) -> None:
    """Checks that the latents of a stage can be cached.

    Raises:
        ConfigError: the encoder is trained in every stage, the images differ between epochs, those of a Dataset may
            change unnoticed, or the model has several latents or quantizers.
    """
    parts = parts_before_latent(model)
    if not any(set(parts) <= set(stage.freeze) for stage in plan.stages):
        names = ", ".join(parts)
        raise ConfigError(f"training.cache_latents: no stage freezes {names}. Set training.freeze: [{names}]")
    changing = {
        "data.augment": split.augment != AugmentConfig(),
        "data.binarize": split.binarize == "dynamic",
        "training.labeled.augment": labeled is not None and labeled.augment != AugmentConfig(),
    }
    if found := next((name for name, changes in changing.items() if changes), None):
        raise ConfigError(
            f"training.cache_latents: {found} changes the images in every epoch. Remove one of the two options"
        )
    if not split.is_hashed:
        raise ConfigError(
            "training.cache_latents: the images of a Dataset may change unnoticed. Pass an array, or leave the option "
            "out"
        )
    if not model.has_single_latent:
        raise ConfigError("training.cache_latents: the model has several latents or quantizers. Leave the option out")


def open_latent_cache(
    model: VAE, split: ImageSet, precision: PrecisionName, device: torch.device, progress: Progress | None = None
) -> LatentCache:
    """The latents of the training images under the present weights; computed first unless the cache has them.

    Args:
        model: the model, on the device.
        split: the images.
        precision: precision of the encoder, that of the training.
        device: of the model.
        progress: called with the number of encoded images.

    Raises:
        ConfigError: the model has several latents.
        OutputError: the cache cannot be written.
    """
    folder = cache_directory() / "latents" / _key(model, split, precision, device)
    with writing_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            shape = _shape(folder)
            if shape is None:
                shape = _build(folder, model, split, precision, device, progress)
            (folder / INDEX).touch()
    return LatentCache(np.memmap(folder / VALUES, np.float32, "r", shape=shape))


def _shape(folder: Path) -> Shape | None:
    """The shape of a complete entry; None otherwise."""
    try:
        shape = tuple(json.loads((folder / INDEX).read_text(encoding="utf-8"))["shape"])
        return shape if (folder / VALUES).stat().st_size == 4 * math.prod(shape) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@torch.no_grad()
def _build(
    folder: Path,
    model: VAE,
    split: ImageSet,
    precision: PrecisionName,
    device: torch.device,
    progress: Progress | None,
) -> Shape:
    """Encodes the images in order; the folder gets its name when it is complete."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    shape: Shape = ()
    done, computed = 0, StepPrecision(precision, device)
    with (partial / VALUES).open("wb") as file:
        for batch in in_order(split, ENCODED_AT_ONCE, device):
            with computed.compute(), unchecked_values():
                values = model.head_output(batch.images, batch.labels).float().cpu().contiguous()
            file.write(values.numpy().tobytes())
            done, shape = done + len(values), tuple(values.shape[1:])
            if progress is not None:
                progress(done, len(split), "encoding (images)")
    write_json(partial / INDEX, {"shape": [done, *shape], "source": split.source})
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return (done, *shape)


def _key(model: VAE, split: ImageSet, precision: PrecisionName, device: torch.device) -> str:
    """The hash of everything that the latents depend on."""
    weights = {
        name: digest(tensor.detach().cpu().contiguous())
        for name, tensor in model.state_dict().items()
        if name.partition(".")[0] in BEFORE_LATENT
    }
    # Activations, strides and the like of modules are in no weight.
    described: dict[str, Any] = {
        name: [kind, repr(model.get_submodule(name))]
        for name, kind in module_classes(model).items()
        if name in BEFORE_LATENT
    }
    if model.is_described:
        described = model.spec.model_dump(mode="json", include={"input", *BEFORE_LATENT})
    content = [
        [FORMAT, described, weights],
        [split.describe()["content_hash"], split.binarize, None if split.missing is None else repr(split.missing)],
        [precision, device.type, str(torch.__version__), torch.backends.cpu.get_cpu_capability()],
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
