"""Lists of layer codes, as in FlexVAE's structure files."""

from __future__ import annotations

import contextlib
import itertools
import json

from convae.core.arguments import arguments
from convae.core.errors import ConfigError
from convae.model.codes import write_code
from convae.model.description import Spec
from convae.model.layers import LAYERS
from convae.model.network import Network, shortest
from convae.model.vae import VAE


def codes(spec: Spec) -> str:
    """A model as JSON, its encoder and decoder as lists of layer codes; equal codes in a row become `N*CODE`.

    Raises:
        ConfigError: there is no code for a layer as it is; the message names it.
    """
    model = VAE(spec)
    stored = model.spec.model_dump(mode="json")
    stored["encoder"] = _coded(model.encoder, "encoder")
    stored["decoder"] = _coded(model.decoder, "decoder")
    return json.dumps(stored, indent=2, ensure_ascii=False) + "\n"


def _coded(network: Network, side: str) -> list[str]:
    """The codes of a list."""
    found = []
    shapes = [network.shape_in, *network.shapes]
    for item, shape in zip(network.items, shapes, strict=False):
        target = LAYERS.get(item.name)
        code = None
        with contextlib.suppress(ConfigError):  # a number that is too large for a code
            code = write_code(item.name, shortest(target, arguments(target, item.given, side)), shape)
        if code is None:
            raise ConfigError(f"{side} layer {item.place} ({item}): no layer code says this: use --as yaml")
        found.append(code)
    groups = ((code, len(list(group))) for code, group in itertools.groupby(found))
    return [code if times == 1 else f"{times}*{code}" for code, times in groups]
