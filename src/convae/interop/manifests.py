"""JSON manifests of exported graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convae.core.names import class_names
from convae.core.version import VERSION
from convae.interop.graphs import TracedGraph
from convae.model.fingerprint import fingerprint
from convae.model.vae import VAE

FORMAT = 1


def build_manifest(facts: Mapping[str, Any], traced: TracedGraph) -> dict[str, Any]:
    """The manifest of an exported graph: facts about the model, and the inputs and outputs."""
    inputs = {
        name: {"shape": list(shape), "type": str(traced.examples[name].dtype).removeprefix("torch.")}
        for name, shape in traced.inputs.items()
    }
    return {
        **facts,
        "graph": traced.name,
        "inputs": inputs,
        "outputs": list(traced.outputs),
        "precision": "float32",
    }


def describe_model(model: VAE) -> dict[str, Any]:
    """The part of a manifest that is equal for all graphs of a model."""
    names = model.provenance.classes
    count = model.class_count or len(names or ())
    return {
        "format": FORMAT,
        "convae": VERSION,
        "model": model.name,
        "sha256": fingerprint(model),
        "image": {"shape": list(model.input_shape), "range": [0.0, 1.0], "normalization": None},
        "size_step": None if model.size_step is None else list(model.size_step),
        "latent_layout": [{"name": name, "shape": list(shape)} for name, shape in model.latent_layout.entries],
        "codebook_sizes": {each.stream: list(each.codebook_sizes) for each in model.latent_modules},
        "classes": list(class_names(range(count), names).values()),
        "is_conditional": model.condition is not None,
    }
