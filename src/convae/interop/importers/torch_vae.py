"""Checkpoints of torch-vae."""

from __future__ import annotations

import torch

from convae.core.errors import ArtifactError
from convae.core.names import count_text
from convae.interop.base import (
    ImportedModel,
    model_from_weights,
    require_known_tensors,
    require_tensors,
    square_side,
    unbounded_gaussian,
)
from convae.model.weights import State

NAME = "torch-vae"


def torch_vae(state: State) -> ImportedModel:
    """Imports `.pth` files of torch-vae by M. Enzweiler (github.com/menzHSE/torch-vae).

    Arguments of the preset follow from the shapes. The 1×1 shortcuts are not imported, as no output depends on them.

    Raises:
        ArtifactError: the tensors are not those of a torch-vae.
    """
    norms = ("weight", "bias", "running_mean", "running_var")
    pairs = {
        **{f"encoder.conv{n + 1}": (f"encoder.{3 * n}", norms[:2]) for n in range(3)},
        **{f"encoder.bn{n + 1}": (f"encoder.{3 * n + 1}", norms) for n in range(3)},
        "decoder.lin1": ("decoder.0", norms[:2]),
        **{f"decoder.conv{n + 1}": (f"decoder.{3 * n + 2}", norms[:2]) for n in range(3)},
        **{f"decoder.bn{n + 1}": (f"decoder.{3 * n + 3}", norms) for n in range(2)},
    }
    names = {f"{theirs}.{part}": f"{ours}.{part}" for theirs, (ours, parts) in pairs.items() for part in parts}
    heads = [f"encoder.{half}.{part}" for part in ("weight", "bias") for half in ("proj_mu", "proj_log_var")]
    axes = {key: 4 if ".conv" in key else 2 for key in [*names, *heads] if key.endswith("weight") and ".bn" not in key}
    require_tensors(state, {key: axes.get(key, 1) for key in [*names, *heads]}, NAME)
    shortcuts = [key for key in state if ".shortcut" in key]
    counters = [key for key in state if key.endswith("num_batches_tracked")]
    require_known_tensors(state, [*names, *heads, *shortcuts, *counters], NAME)
    first, last, mean = (state[f"encoder.{part}.weight"] for part in ("conv1", "conv3", "proj_mu"))
    if state[heads[1]].shape != mean.shape:
        raise ArtifactError(f"not the weights of {NAME}: expected equal shapes of mean and log-variance")
    side = 8 * square_side(mean.shape[1] // last.shape[0], NAME)
    spec = {
        "preset": NAME,
        "input": [first.shape[1], side, side],
        "latent": mean.shape[0],
        "max_filters": last.shape[0],
        "bottleneck": unbounded_gaussian(mean.shape[0]),
    }
    tensors = {ours: state[theirs] for theirs, ours in names.items()}
    tensors["bottleneck.weight"] = torch.cat([state[key] for key in heads[:2]])
    tensors["bottleneck.bias"] = torch.cat([state[key] for key in heads[2:]])
    notes = [f"left out {count_text(len(shortcuts), 'tensor')} of unused shortcut layers"] if shortcuts else []
    return ImportedModel(model_from_weights(spec, tensors, NAME), notes)
