"""Low-rank adapters: trained updates of frozen weights, which become part of the weights when a model is saved.

LoRA (Hu et al. 2021, arXiv:2106.09685): W + α / r · B A, with A of r rows and B of r columns. The kernel of a
convolution is a matrix of its output channels by its input channels and positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from convae.core.errors import ConfigError
from convae.core.names import unknown_message
from convae.core.precision import full_precision
from convae.core.random import torch_generator

_INNER = ".parametrizations."
"""Part of the names of an adapted weight and of its adapter, within a model."""
_ORIGINAL = ".original"
"""End of the name of a frozen weight with an adapter."""


class LowRankAdapter(nn.Module):
    """A low-rank update of a weight, zero at first; a parametrization of torch.

    Args:
        weight: (out, in, *kernel), of at least two axes; those after the first are the columns of the matrix.
        rank: rank of the update, limited by the sides of the matrix.
        scale: factor on the update.
    """

    def __init__(self, weight: Tensor, *, rank: int, scale: float) -> None:
        super().__init__()
        rows, columns = weight.shape[0], math.prod(weight.shape[1:])
        rank = min(rank, rows, columns)
        self.down = nn.Parameter(weight.new_zeros(rank, columns))
        self.up = nn.Parameter(weight.new_zeros(rows, rank))
        self.scale = scale

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Sets the update to zero, and its first factor to random values, from a generator of the CPU."""
        columns = self.down.shape[1]
        self.down.copy_((2 * torch.rand(self.down.shape, generator=generator) - 1) / math.sqrt(columns))
        self.up.zero_()

    def forward(self, weight: Tensor) -> Tensor:
        """The updated weight, of the same shape; in its precision under autocast too."""
        with full_precision(weight.device):
            return weight + (self.scale * (self.up @ self.down)).view_as(weight)


def add_adapters(
    model: nn.Module,
    *,
    rank: int,
    alpha: float | None = None,
    parts: Sequence[str] = ("decoder",),
    layers: Sequence[str] = (),
    seed: int = 0,
) -> list[str]:
    """Adds adapters to weights of a model: matrices and kernels of linear layers and convolutions.

    The result computes the same as before; freeze all parameters but those of `adapter_names`.

    Args:
        model: the model, changed in place.
        rank: rank of each update.
        alpha: the update is scaled by alpha / rank; by default 1.
        parts: parts of the model, such as `decoder`.
        layers: patterns of weight names, such as `decoder.3.*`; by default all weights of the parts.
        seed: seed of the initial values.

    Returns:
        The names of the adapted weights.

    Raises:
        ConfigError: unknown part, or no weight has such a name.
    """
    children = [name for name, _ in model.named_children()]
    for number, part in enumerate(parts):
        if part not in children:
            raise ConfigError(f"adapters.parts.{number}: {unknown_message('part', part, children)}")
    names = [
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1 and name.partition(".")[0] in parts and name.endswith("weight")
    ]
    for number, pattern in enumerate(layers):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(f"adapters.layers.{number}: {unknown_message('weight or pattern', pattern, names)}")
    chosen = [name for name in names if not layers or any(fnmatchcase(name, pattern) for pattern in layers)]
    if not chosen:
        raise ConfigError(f"adapters.parts: {', '.join(parts)} has no weights of linear layers or convolutions")
    for name in chosen:
        path, _, key = name.rpartition(".")
        module = model.get_submodule(path)
        weight = getattr(module, key)
        adapter = LowRankAdapter(weight, rank=rank, scale=(alpha or rank) / rank)
        parametrize.register_parametrization(module, key, adapter)
    reset_adapters(model, seed)
    return chosen


def reset_adapters(model: nn.Module, seed: int) -> None:
    """Sets the updates of all adapters of a model to zero, and the initial values of their factors."""
    for name, module in model.named_modules():
        if isinstance(module, LowRankAdapter):
            module.reset(torch_generator(seed, "adapters", name))


def adapter_names(model: nn.Module) -> list[str]:
    """The names of the parameters of all adapters of a model."""
    return [
        f"{name}.{key}"
        for name, module in model.named_modules()
        if isinstance(module, LowRankAdapter)
        for key, _ in module.named_parameters()
    ]


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a model with the updates of its adapters in the weights; that of a plain model is unchanged."""
    return dict(_merged(model))


def _merged(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    adapted = _adapted(model)
    for name, tensor in model.state_dict().items():
        path, inner, rest = name.partition(_INNER)
        key, _, part = rest.partition(".")
        if f"{path}{inner}{key}" not in adapted:  # other parametrizations, such as weight norm, stay as they are
            yield name, tensor
        elif f".{part}" == _ORIGINAL:
            with torch.no_grad():
                yield f"{path}.{key}", getattr(model.get_submodule(path), key)


def _adapted(model: nn.Module) -> set[str]:
    """The names of the parametrizations of the weights with adapters."""
    return {name.rpartition(".")[0] for name, module in model.named_modules() if isinstance(module, LowRankAdapter)}


def load_plain_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads the state dict of a plain model into one with adapters, which do not change.

    Args:
        model: the model, changed in place.
        state: tensors by name, as of `merged_state`.
    """
    own, names = model.state_dict(), dict[str, Tensor]()
    for name, tensor in state.items():
        path, _, key = name.rpartition(".")
        adapted = f"{path}{_INNER}{key}{_ORIGINAL}"
        names[adapted if adapted in own else name] = tensor
    model.load_state_dict({**own, **names})
