"""Validation of a model's inputs, and their conversion to the dtype of its weights.

Images are floating-point tensors in [0, 1] of any dtype. Each call computes the minimum and maximum of the images;
`unchecked_values` turns this off where they are known to be in range.
"""

from __future__ import annotations

import contextlib
import functools
import math
import operator
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from convae.core.errors import ConfigError, ShapeError
from convae.core.memory import is_out_of_memory
from convae.core.names import count_text, shape_text
from convae.core.noise import CountedNoise
from convae.core.types import AnyLabels

Method = TypeVar("Method", bound=Callable[..., Any])
ROUNDING = 1e-4
"""How far a value may be outside [0, 1] by rounding."""


class _Depth(threading.local):
    value = 0


_UNCHECKED = _Depth()


@contextlib.contextmanager
def unchecked_values() -> Iterator[None]:
    """Turns off range checks of images and latents inside the block, in this thread.

    For training and evaluation, whose images were checked when they were stored.
    """
    _UNCHECKED.value += 1
    try:
        yield
    finally:
        _UNCHECKED.value -= 1


def is_transformed() -> bool:
    """Whether this call is traced, as by `torch.compile` and `torch.export`, or under a transform of `torch.func`."""
    return torch.compiler.is_compiling() or _under_torch_func()


def _under_torch_func() -> bool:
    return torch._C._functorch.peek_interpreter_stack() is not None  # noqa: SLF001  # torch offers no other


def checked_images(x: Any, dtype: torch.dtype | None, device: torch.device | None) -> Tensor:
    """Validates images and converts them to the model's dtype.

    Args:
        x: images, (batch, channel, *sizes).
        dtype: dtype of the model; None for any.
        device: device of the model; None for any.

    Raises:
        ShapeError: `x` is not a tensor of floats in [0, 1], or is on another device.
    """
    is_picture = "PIL" in type(x).__module__
    remedy = "convae.data.to_tensor(image)[None]" if is_picture else "torch.as_tensor(images)"
    images = _tensor(x, "images", "(batch, channel, *sizes)", remedy)
    if not images.is_floating_point():
        divisors = {torch.uint8: ". Divide 8-bit images by 255", torch.uint16: ". Divide 16-bit images by 65535"}
        raise ShapeError(f"images are floats in [0, 1], got {images.dtype}{divisors.get(images.dtype, '')}")
    images = _converted(images, dtype, device, "images")
    if _should_check_values(images):
        _require_unit_range(images)
    return images


def checked_latents(z: Any, dtype: torch.dtype | None, device: torch.device | None) -> Tensor:
    """Validates latents and converts them to the model's dtype.

    Raises:
        ShapeError: `z` is not a tensor of finite floats, or is on another device.
    """
    latents = _tensor(z, "latents", "(batch, *latent)", "torch.as_tensor(latents)")
    if not latents.is_floating_point():
        raise ShapeError(f"latents are floats, got {latents.dtype}. Use decode_codes for code indices")
    latents = _converted(latents, dtype, device, "latents")
    if _should_check_values(latents) and not bool(latents.isfinite().all()):
        raise ShapeError("latents contain NaN or infinity")
    return latents


def checked_codes(codes: Any, shape: tuple[int, ...], sizes: Sequence[int], device: torch.device) -> Tensor:
    """Validates code indices, (batch, *shape), of codebooks of these sizes, and converts them to int64.

    With several codebooks the first axis of `shape` counts them.

    Raises:
        ShapeError: `codes` is not an integer tensor of that shape, or is on another device.
        ConfigError: an index is out of range.
    """
    numbers = _tensor(codes, "codes", "(batch, *grid)", "torch.as_tensor(codes)")
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise ShapeError(f"codes are integers, got {numbers.dtype}")
    if numbers.ndim != len(shape) + 1 or (len(sizes) > 1 and numbers.shape[1] != len(sizes)):
        wanted = "×".join(map(str, ("batch", *shape)))
        raise ShapeError(f"codes are {wanted}, got {shape_text(numbers.shape) or 'a single number'}")
    numbers = _converted(numbers, torch.int64, device, "codes")
    if _should_check_values(numbers):
        for number, size in enumerate(sizes):
            level = numbers if len(sizes) == 1 else numbers[:, number]
            low, high = (int(end) for end in level.aminmax())
            if low < 0 or high >= size:
                place = f" of level {number}" if len(sizes) > 1 else ""
                raise ConfigError(f"codes{place} are numbers from 0 to {size - 1}, got {low if low < 0 else high}")
    return numbers


def checked_labels(labels: Any, count: int, classes: int, device: torch.device) -> Tensor:
    """Validates class numbers, one for each of `count` images, and converts them to int64.

    Raises:
        ConfigError: `labels` is not an integer tensor with one class number for each image.
    """
    if not isinstance(labels, Tensor):
        raise ConfigError(f"labels are a tensor (batch,), got {_kind(labels)}. Pass torch.as_tensor(labels)")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ConfigError(f"labels are integers, got {labels.dtype}")
    if labels.ndim != 1 or labels.shape[0] != count:
        got = labels.shape[0] if labels.ndim == 1 else shape_text(labels.shape) or "a single number"
        raise ConfigError(f"expected {count_text(count, 'label')}, one for each image or latent, got {got}")
    numbers: Tensor = labels.to(torch.int64)
    if numbers.device != device and not is_transformed():
        raise ConfigError(f"labels are on {numbers.device}, but the model is on {device}. Pass labels.to('{device}')")
    if _should_check_values(numbers):
        low, high = (int(end) for end in numbers.aminmax())
        if low < 0 or high >= classes:
            raise ConfigError(f"labels are class numbers from 0 to {classes - 1}, got {low if low < 0 else high}")
    return numbers


def tensor_or_none(labels: AnyLabels | None) -> Tensor | None:
    """Labels for the context of a pass: None where they are no tensor, which only a conditional model refuses."""
    return labels if isinstance(labels, Tensor) else None


def checked_sample_count(count: Any) -> int:
    """Validates a number of samples.

    Raises:
        ConfigError: it is not a positive integer.
    """
    try:
        number = operator.index(count)
    except TypeError:
        number = 0
    if number < 1 or isinstance(count, bool):
        raise ConfigError(f"the number of samples must be an integer of at least 1, got {count!r}")
    return number


def checked_generator(generator: Any) -> Any:
    """Validates a random generator, or a sequence with one for each image.

    Raises:
        ConfigError: it is something else, such as a seed.
    """
    known = generator is None or isinstance(generator, torch.Generator | CountedNoise)
    several = isinstance(generator, Sequence) and all(isinstance(own, torch.Generator) for own in generator)
    if not known and not (several and len(generator)):
        example = f"torch.Generator().manual_seed({generator})" if isinstance(generator, int) else "torch.Generator()"
        raise ConfigError(
            f"generator must be a torch.Generator, or one for each image, got {_kind(generator)}. Pass {example}"
        )
    return generator


def weights_type(module: nn.Module) -> tuple[torch.dtype | None, torch.device | None]:
    """Dtype and device of a module's floating-point weights; (None, None) without any."""
    tensors = (tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point())
    tensor = next(tensors, None)
    return (None, None) if tensor is None else (tensor.dtype, tensor.device)


def explain_mixed_types(method: Method) -> Method:
    """Wraps a method of a model: where its weights have several types, torch's error is replaced by one that says so.

    Raises:
        ConfigError: the method failed, and the weights have several types.
    """

    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if is_transformed():
            return method(*args, **kwargs)
        try:
            return method(*args, **kwargs)
        except RuntimeError as error:
            weights = {each.dtype: name for name, each in args[0].named_parameters() if each.is_floating_point()}
            if len(weights) < 2 or is_out_of_memory(error):
                raise
            found = ", ".join(f"{name} is {str(dtype).removeprefix('torch.')}" for dtype, name in weights.items())
            raise ConfigError(
                f"the weights of the model have several types: {found}. Convert all of it, such as with model.float()"
            ) from error

    return cast(Method, wrapped)


def _tensor(given: Any, what: str, shape: str, remedy: str) -> Tensor:
    if not isinstance(given, Tensor):
        raise ShapeError(f"{what} are a tensor {shape}, got {_kind(given)}. Pass {remedy}")
    if given.layout != torch.strided:
        raise ShapeError(f"{what} are a dense tensor, got {given.layout}. Pass {what}.to_dense()")
    return given


def _kind(given: Any) -> str:
    """The type of a value, with an article, for messages."""
    if "PIL" in type(given).__module__:
        return "a Pillow image"
    name = "NumPy array" if type(given).__module__ == "numpy" and hasattr(given, "shape") else type(given).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _converted(x: Tensor, dtype: torch.dtype | None, device: torch.device | None, what: str) -> Tensor:
    """Converts a tensor's dtype; refuses one on another device, since a hidden copy would cost time."""
    if device is not None and x.device != device and not is_transformed():
        raise ShapeError(f"{what} are on {x.device}, but the model is on {device}. Pass {what}.to('{device}')")
    return x if dtype is None or x.dtype == dtype else x.to(dtype)


def _should_check_values(x: Tensor) -> bool:
    """Whether the values of a tensor can and should be checked."""
    if is_transformed() or _UNCHECKED.value or type(x) not in (Tensor, nn.Parameter):
        return False
    return x.device.type != "meta" and x.numel() > 0


def _require_unit_range(x: Tensor) -> None:
    """Checks that images are in [0, 1], in one pass.

    Raises:
        ShapeError: a value is NaN or outside [0, 1].
    """
    low, high = (float(end) for end in x.detach().aminmax())
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return
    if not math.isfinite(low) or not math.isfinite(high):
        raise ShapeError(f"images must be floats in [0, 1], but contain {'NaN' if low != low else 'infinity'}")
    if low > -0.5 and high < 1.5:
        remedy = "images.clamp(0, 1)"
    elif low < 0:
        remedy = "(images + 1) / 2" if low >= -1 - ROUNDING and high <= 1 + ROUNDING else "them without normalization"
    else:
        remedy = f"images / {255 if high <= 255 else 65535 if high <= 65535 else 'their largest value'}"
    raise ShapeError(f"images are floats in [0, 1], got values from {low:g} to {high:g}. Pass {remedy}")
