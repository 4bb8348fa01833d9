"""Checkpoints of ImageVAE and ImageVAESemiSupervised."""

from __future__ import annotations

from convae.core.description import Spec
from convae.core.errors import ArtifactError
from convae.describe import resolve
from convae.interop.base import Imported, filled, needed, side_of, unbounded, unknown_left
from convae.model.weights import State

NAME = "image-vae"
SIDES = (28, *range(1, 513))
"""Sides of the input that are tried: it is not in the file, and only a few solve to the kernels that are."""


def image_vae(state: State) -> Imported:
    """The `.pt` files of my_pytorch_kit by noahpy (github.com/noahpy/my_pytorch_kit); shapes decide the arguments.

    The file does not say the input's size: it is taken to be a square, 28×28 where that solves to the kernels of
    the file, or else the smallest that does. The classifier of an ImageVAESemiSupervised is the model's, too.

    Raises:
        ArtifactError: the tensors are not those of an ImageVAE.
    """
    layers, dense = (
        sum(key.startswith(f"{part}.") and key.endswith(".bias") for key in state)
        for part in ("encoder.conv", "classifier")
    )
    names = {"encoder.affine": "bottleneck", "decoder.affine": "decoder.0"}
    names |= {f"encoder.conv.{2 * n}": f"encoder.{2 * n}" for n in range(layers)}
    names |= {f"decoder.conf.{2 * n}": f"decoder.{2 * n + 2}" for n in range(layers)}
    names |= {f"classifier.{2 * n}": f"classifier.{2 * n}" for n in range(dense)}
    pairs = {f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in names.items() for part in ("weight", "bias")}
    # Each activation's slope, behind the layer whose channels it is for.
    slopes = {f"encoder.conv.{2 * n + 1}": f"encoder.conv.{2 * n}" for n in range(layers)}
    slopes |= {f"decoder.conf.{2 * n + 1}": f"decoder.conf.{2 * n}" for n in range(layers - 1)}
    slopes |= {f"classifier.{2 * n + 1}": f"classifier.{2 * n}" for n in range(dense - 1)}
    axes = {key: 4 if ".con" in key else 2 for key in pairs if key.endswith("weight")}
    used = {key: axes.get(key, 1) for key in [*pairs, *(f"{slope}.weight" for slope in slopes)]}
    needed(state, used, NAME)
    unknown_left(state, used, NAME)
    if not layers:
        raise ArtifactError(f"not the weights of {NAME}: it has convolutions")
    spec = _spec(state, layers).model_dump()
    spec["bottleneck"] = unbounded(state["decoder.affine.weight"].shape[1])
    widths = [state[f"classifier.{2 * n}.weight"].shape[0] for n in range(dense)]
    if dense:
        spec["classifier"] = [layer for width in widths for layer in ({"linear": {"features": width}}, "prelu")][:-1]
    tensors = {ours: state[theirs] for theirs, ours in pairs.items()}
    for slope, behind in slopes.items():
        part, _, place = names[behind].rpartition(".")
        # One slope for all channels there, one for each here.
        tensors[f"{part}.{int(place) + 1}.slope"] = (
            state[f"{slope}.weight"].flatten()[:1].expand_as(state[f"{behind}.bias"])
        )
    notes = [f"it has a classifier of {widths[-1]} classes on its latent"] if dense else []
    return Imported(filled(spec, tensors, NAME), notes)


def _spec(state: State, layers: int) -> Spec:
    """The preset whose kernels are those of the file."""
    convs = [state[f"encoder.conv.{2 * n}.weight"] for n in range(layers)]
    inner = side_of(state["encoder.affine.weight"].shape[1] // convs[-1].shape[0], NAME)
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
    raise ArtifactError(f"not the weights of {NAME}: no square input up to {SIDES[-1]} solves to its kernels")
