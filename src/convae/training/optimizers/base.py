"""Optimizers by name: those of convae, and any class of `torch.optim.Optimizer`.

An optimizer is called with groups of parameters, each with its `weight_decay`, and with the learning rate; all other
parameters of its constructor are options in a recipe. The trainer sets `lr` in each group before each step.

A step whose loss or gradients are not finite is skipped: an optimizer with torch's attribute
`_step_supports_amp_scaling`, as fused ones have, is called with `found_inf` and skips it on the device; others are not
called, for which the host waits for the device once per step.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from convae.core.arguments import Named, parse_arguments, split_name
from convae.core.errors import ConfigError
from convae.core.names import one_line, unknown_message
from convae.model.condition import Condition
from convae.training.optimizers import OPTIMIZERS

__all__ = ["build_optimizer", "parse_optimizer", "step_unless"]


def parse_optimizer(written: Named, where: str) -> tuple[type[Optimizer], dict[str, Any]]:
    """The class of an optimizer, and its options.

    Args:
        written: name, or name and options, as in a recipe.
        where: path of the optimizer in the recipe, for messages.

    Raises:
        ConfigError: unknown name or option, or the optimizer needs a closure.
        TrustError: the name comes from a run, and its package is not trusted.
    """
    name, given = split_name(written, f"{where}.name")
    try:
        kind: type[Optimizer] = OPTIMIZERS.get(name)
    except ConfigError as error:
        raise type(error)(f"{where}.name: {error}") from error
    first, *others = list(inspect.signature(kind).parameters.values())
    if _needs_closure(kind):
        raise ConfigError(f"{where}.name: {name} evaluates the loss several times in a step. Use adam, sgd or muon")
    if [each.name for each in others if each.kind is not each.KEYWORD_ONLY] == ["lr"]:
        return kind, parse_arguments(kind, given, f"{where}.name.{name}")
    # torch's own, whose options are not keyword-only.
    known = [each.name for each in others if each.name not in ("lr", "weight_decay")]
    for key in given:
        if key in (first.name, "lr", "weight_decay"):
            raise ConfigError(f"{where}.name.{name}.{key}: cannot be set here. Set {where}.lr or {where}.weight_decay")
        if key not in known:
            raise ConfigError(f"{where}.name.{name}: {unknown_message('option', key, known)}")
    return kind, given


def build_optimizer(
    written: Named, module: nn.Module, *, lr: float, weight_decay: float = 0.0, where: str = "optimizer"
) -> Optimizer:
    """The optimizer of the parameters of a module, without weight decay of biases, norms and scalars.

    Args:
        written: name, or name and options, as in a recipe.
        module: the module; frozen parameters are included, as a later stage may train them.
        lr: learning rate of the first step.
        weight_decay: weight decay of all tensors but those with one value for each channel.
        where: path of the optimizer in the recipe, for messages.

    Raises:
        ConfigError: unknown name or option, or one that the optimizer refuses.
    """
    kind: Any
    kind, options = parse_optimizer(written, where)
    try:
        made: Optimizer = kind(_groups(module, weight_decay), lr=lr, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}.name.{split_name(written, where)[0]}: {one_line(error)}") from error
    return made


def step_unless(optimizer: Optimizer, skipped: Tensor) -> None:
    """One step of an optimizer, unless `skipped`, a boolean scalar on its device."""
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        # The mechanism by which gradient scalers make fused optimizers skip a step without synchronization.
        optimizer.found_inf = skipped.float()  # type: ignore[attr-defined]  # of torch's fused optimizers only
        optimizer.step()
    elif not bool(skipped):
        optimizer.step()


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights of layers; other tensors, such as embeddings and codebooks; and values for each channel."""
    layers = (each for each in module.modules() if not isinstance(each, nn.Embedding | Condition))
    # By the convention of torch, which the layers of convae follow.
    weights = {id(layer.weight) for layer in layers if isinstance(getattr(layer, "weight", None), nn.Parameter)}
    kinds: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in module.parameters():
        has_axes = parameter.ndim > 1
        kinds.setdefault((has_axes and id(parameter) in weights, has_axes), []).append(parameter)
    return [
        {"params": found, "weight_decay": weight_decay if decays else 0.0, "are_matrices": are_matrices}
        for (are_matrices, decays), found in kinds.items()
    ]


def _needs_closure(kind: type[Optimizer]) -> bool:
    steps: Mapping[str, inspect.Parameter] = inspect.signature(kind.step).parameters
    return any(each.default is each.empty for name, each in steps.items() if name not in ("self", "args", "kwargs"))


def undecorated(name: str) -> Any:
    """A method of torch's optimizers without the decorator that keeps the compiler out of it, and imports it.

    That import takes a second or two.
    """
    method = getattr(Optimizer, name)
    return getattr(method, "__wrapped__", method)
