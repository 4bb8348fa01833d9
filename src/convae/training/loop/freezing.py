"""FrozenParts parts: weights that no gradient reaches, statistics that do not move."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from convae.core.errors import ConfigError
from convae.core.names import unknown_message


class FrozenParts:
    """The part of a model that a stage leaves as it is.

    A module all of whose parameters are frozen also stays in evaluation mode, so that batch-norm statistics do not
    move and nothing is dropped out in it.

    Args:
        model: the model.
        parts: names of its parts, such as `encoder`, or patterns of its parameters' names, such as `decoder.0.*`.
        where: the place in the recipe, for messages.

    Raises:
        ConfigError: a part or pattern names nothing, or nothing is left to train.
    """

    def __init__(self, model: nn.Module, parts: Sequence[str], where: str) -> None:
        self._model = model
        # A part without parameters may still have statistics that move.
        self._parts = [child for name, child in model.named_children() if name in parts]
        children = [name for name, _ in model.named_children()]
        names = [name for name, _ in model.named_parameters()]
        for part in parts:
            if part not in children and not any(fnmatchcase(name, part) for name in names):
                raise ConfigError(f"{where}: {unknown_message('part or pattern', part, children)}")
        patterns = [f"{part}.*" if part in children else part for part in parts]
        self.names = {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}
        if len(self.names) == len(names):
            raise ConfigError(f"{where}: freezes the whole model, so there is nothing to train")

    def apply(self) -> None:
        """Lets gradients reach what is not frozen, and only that."""
        for name, parameter in self._model.named_parameters():
            parameter.requires_grad_(name not in self.names)
            if name in self.names:
                parameter.grad = None

    def train(self) -> None:
        """Training mode for what is not frozen, evaluation mode for what is."""
        self._model.train()
        for module in self._model.modules():
            own = list(module.parameters())
            if own and not any(parameter.requires_grad for parameter in own):
                module.eval()
        for part in self._parts:
            part.eval()
