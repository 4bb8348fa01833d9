"""What a training with adapters freezes."""

from __future__ import annotations

from convae.core.errors import ConfigError
from convae.model.adapters import adapter_names, add_adapters
from convae.model.vae import VAE
from convae.training.recipe.schema import AdapterConfig, Recipe


def adapt(model: VAE, recipe: Recipe) -> VAE:
    """The model with the adapters of the recipe, if it has any.

    Raises:
        ConfigError: the recipe has no `start`, shards the model, or names parts or weights that are not there.
    """
    options = recipe.adapters
    if options is None:
        return model
    if recipe.start is None:
        raise ConfigError("adapters: change trained weights. Set start (--start) to a trained model")
    if recipe.training.shard:
        raise ConfigError("adapters: do not apply to sharded models. Leave training.shard out")
    add_adapters(model, **dict(options), seed=recipe.training.seed)
    return model


def frozen_by_adapters(options: AdapterConfig | None, model: VAE) -> tuple[str, ...]:
    """The parts without adapters, and the other parameters of those with some; empty without adapters."""
    if options is None:
        return ()
    own = set(adapter_names(model))
    parts = [name for name, _ in model.named_children() if name not in options.parts]
    names = [name for name, _ in model.named_parameters()]
    return (*parts, *(name for name in names if name.partition(".")[0] in options.parts and name not in own))
