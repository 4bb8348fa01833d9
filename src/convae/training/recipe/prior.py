"""The recipe of a prior that is fitted to a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator

from convae.core.arguments import Named, split_name
from convae.core.config import Config, override, parse
from convae.core.documents import read_mapping
from convae.core.paths import check_name, safe_name
from convae.data import DataConfig
from convae.training.recipe.schema import StartConfig, TrainingConfig


class PriorRecipe(Config):
    """The recipe of `convae prior`: a trained model, the prior to fit, and how."""

    other_names: ClassVar[Mapping[str, str]] = {"learning_rate": "training.optimizer.lr", "model": "start.model"}

    name: Annotated[str, AfterValidator(check_name)] | None = None
    """Name of the run, and of its folder in `runs/`."""
    start: StartConfig
    """The trained model, which does not change."""
    prior: Named
    """The prior and its arguments, such as `{transformer: {layers: 4}}`."""
    data: DataConfig
    """The images whose latents the prior is fitted to; by default the training data of the model."""
    training: TrainingConfig = TrainingConfig()
    """Length, optimizer, precision and logging."""

    @property
    def title(self) -> str:
        """The name, or one made from the model and the prior."""
        model = (
            self.start.model.name if self.start.model.name not in ("model", "last") else self.start.model.parent.name
        )
        return self.name or safe_name(f"{model}-{split_name(self.prior, 'prior')[0]}")


FIELDS = {part for path in PriorRecipe.paths() for part in path.split(".")}
"""Every key of the recipe."""
_NAMED = {"prior", "source"}
"""Keys below which the keys are names of classes."""


def parse_prior_recipe(written: Mapping[str, Any], overrides: Sequence[str], where: str) -> PriorRecipe:
    """The checked recipe of a prior.

    Args:
        written: the recipe as a mapping.
        overrides: `key.path=value` each.
        where: for messages.

    Raises:
        ConfigError: every fault in one message, each with its path and the nearest valid name.
    """
    return parse(PriorRecipe, override(written, overrides, FIELDS, _NAMED), where)


def is_prior_recipe(path: Path) -> bool:
    """Whether the recipe of a run is that of a prior."""
    return path.is_file() and "prior" in read_mapping(path)
