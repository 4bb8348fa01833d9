"""Checkpoints of torch-vae."""

from __future__ import annotations

import torch

from convae.core.errors import ArtifactError
from convae.interop.base import Imported, filled, needed, side_of, unbounded, unknown_left
from convae.model.weights import State

NAME = "torch-vae"


def torch_vae(state: State) -> Imported:
    """The `.pth` files of torch-vae by M. Enzweiler (github.com/menzHSE/torch-vae); shapes decide the arguments.

    The 1×1 shortcuts in them belong to layers that no output depends on; they are left out.

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
    needed(state, {key: axes.get(key, 1) for key in [*names, *heads]}, NAME)
    shortcuts = [key for key in state if ".shortcut" in key]
    counters = [key for key in state if key.endswith("num_batches_tracked")]
    unknown_left(state, [*names, *heads, *shortcuts, *counters], NAME)
    first, last, mean = (state[f"encoder.{part}.weight"] for part in ("conv1", "conv3", "proj_mu"))
    if state[heads[1]].shape != mean.shape:
        raise ArtifactError(f"not the weights of {NAME}: its mean and its log-variance are maps of one shape")
    side = 8 * side_of(mean.shape[1] // last.shape[0], NAME)
    spec = {
        "preset": NAME,
        "input": [first.shape[1], side, side],
        "latent": mean.shape[0],
        "max_filters": last.shape[0],
        "bottleneck": unbounded(mean.shape[0]),
    }
    tensors = {ours: state[theirs] for theirs, ours in names.items()}
    tensors["bottleneck.weight"] = torch.cat([state[key] for key in heads[:2]])
    tensors["bottleneck.bias"] = torch.cat([state[key] for key in heads[2:]])
    notes = [f"{len(shortcuts)} tensors of unused shortcut layers were left out"] if shortcuts else []
    return Imported(filled(spec, tensors, NAME), notes)
