"""Checkpoints of ImageVAE and ImageVAESemiSupervised."""

from __future__ import annotations

from convae.core.description import Spec
from convae.core.errors import ArtifactError
from convae.core.names import count_text
from convae.describe import resolve
from convae.interop.base import (
    ImportedModel,
    model_from_weights,
    require_known_tensors,
    require_tensors,
    square_side,
    unbounded_gaussian,
)
from convae.model.weights import State

NAME = "image-vae"
SIDES = (28, *range(1, 513))
"""Input sides to try, in this order. The side is not in the checkpoint, and determines the kernels."""


def image_vae(state: State) -> ImportedModel:
    """Imports `.pt` files of my_pytorch_kit by noahpy (github.com/noahpy/my_pytorch_kit), with or without a classifier.

    Arguments of the preset follow from the shapes. The input size is not in the file: it is 28×28 if this leads to the
    kernels in the file, or else the smallest square that does.

    Raises:
        ArtifactError: the tensors are not those of an ImageVAE or ImageVAESemiSupervised.
    """
    convs, dense = (
        sum(key.startswith(f"{part}.") and key.endswith(".bias") for key in state)
        for part in ("encoder.conv", "classifier")
    )
    names = {"encoder.affine": "bottleneck", "decoder.affine": "decoder.0"}
    names |= {f"encoder.conv.{2 * n}": f"encoder.{2 * n}" for n in range(convs)}
    names |= {f"decoder.conf.{2 * n}": f"decoder.{2 * n + 2}" for n in range(convs)}
    names |= {f"classifier.{2 * n}": f"classifier.{2 * n}" for n in range(dense)}
    pairs = {f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in names.items() for part in ("weight", "bias")}
    # The slope of each PReLU, by the layer before it.
    slopes = {f"encoder.conv.{2 * n + 1}": f"encoder.conv.{2 * n}" for n in range(convs)}
    slopes |= {f"decoder.conf.{2 * n + 1}": f"decoder.conf.{2 * n}" for n in range(convs - 1)}
    slopes |= {f"classifier.{2 * n + 1}": f"classifier.{2 * n}" for n in range(dense - 1)}
    axes = {key: 4 if ".con" in key else 2 for key in pairs if key.endswith("weight")}
    ranks = {key: axes.get(key, 1) for key in [*pairs, *(f"{slope}.weight" for slope in slopes)]}
    require_tensors(state, ranks, NAME)
    require_known_tensors(state, ranks, NAME)
    if not convs:
        raise ArtifactError(f"not the weights of {NAME}: found no convolutions")
    spec = _find_spec(state, convs).model_dump()
    spec["bottleneck"] = unbounded_gaussian(state["decoder.affine.weight"].shape[1])
    widths = [state[f"classifier.{2 * n}.weight"].shape[0] for n in range(dense)]
    if dense:
        spec["classifier"] = [layer for width in widths for layer in ({"linear": {"features": width}}, "prelu")][:-1]
    tensors = {ours: state[theirs] for theirs, ours in pairs.items()}
    for slope, layer in slopes.items():
        part, _, index = names[layer].rpartition(".")
        # The original has one slope for all channels.
        tensors[f"{part}.{int(index) + 1}.slope"] = (
            state[f"{slope}.weight"].flatten()[:1].expand_as(state[f"{layer}.bias"])
        )
    notes = [f"with a classifier of {count_text(widths[-1], 'class')} on the latent"] if dense else []
    return ImportedModel(model_from_weights(spec, tensors, NAME), notes)


def _find_spec(state: State, layers: int) -> Spec:
    """The description whose kernels equal those of the checkpoint."""
    convs = [state[f"encoder.conv.{2 * n}.weight"] for n in range(layers)]
    inner = square_side(state["encoder.affine.weight"].shape[1] // convs[-1].shape[0], NAME)
    for side in SIDES:
        if side < inner:
            continue
        given = {
            "preset": NAME,
            "input": [convs[0].shape[1], side, side],
            "latent": state["decoder.affine.weight"].shape[1],
            "layers": layers,
            "features": [convs[-1].shape[0], inner, inner],
        }
        spec = resolve(given)
        kernels = [layer.arguments["kernel"] for layer in spec.encoder if layer.name == "conv"]
        if kernels == [list(conv.shape[2:]) for conv in convs]:
            return spec
    raise ArtifactError(f"not the weights of {NAME}: no square input with a side up to {SIDES[-1]} has its kernels")
