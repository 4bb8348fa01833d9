"""Checkpoints of ImageVAE and ImageVAESemiSupervised."""

from __future__ import annotations

from convae.core.errors import ArtifactError
from convae.interop.base import Imported, filled, needed, side_of, unknown_left
from convae.model.description import Spec
from convae.model.spec import resolve
from convae.model.weights import State

NAME = "image-vae"
SIDES = (28, *range(1, 513))
"""Sides of the input that are tried: it is not in the file, and only a few solve to the kernels that are."""


def image_vae(state: State) -> Imported:
    """The `.pt` files of my_pytorch_kit by noahpy (github.com/noahpy/my_pytorch_kit); shapes decide the arguments.

    The file does not say the input's size: it is taken to be a square, 28×28 where that solves to the kernels of
    the file, or else the smallest that does. A classifier beside the decoder is left out.

    Raises:
        ArtifactError: the tensors are not those of an ImageVAE.
    """
    classifier = [key for key in state if key.startswith("classifier.")]
    layers = sum(key.startswith("encoder.conv.") and key.endswith(".bias") for key in state)
    names = {"encoder.affine": "bottleneck", "decoder.affine": "decoder.0"}
    names |= {f"encoder.conv.{2 * n}": f"encoder.{2 * n}" for n in range(layers)}
    names |= {f"decoder.conf.{2 * n}": f"decoder.{2 * n + 2}" for n in range(layers)}
    pairs = {f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in names.items() for part in ("weight", "bias")}
    slopes = {f"encoder.conv.{2 * n + 1}.weight": f"encoder.{2 * n + 1}.slope" for n in range(layers)}
    slopes |= {f"decoder.conf.{2 * n + 1}.weight": f"decoder.{2 * n + 3}.slope" for n in range(layers - 1)}
    needed(state, [*pairs, *slopes], NAME)
    unknown_left(state, [*pairs, *slopes, *classifier], NAME)
    if not layers or state["encoder.affine.weight"].ndim != 2 or state["decoder.affine.weight"].ndim != 2:
        raise ArtifactError(f"not the weights of {NAME}: it has convolutions and dense maps")
    spec = _spec(state, layers)
    tensors = {ours: state[theirs] for theirs, ours in pairs.items()}
    for theirs, ours in slopes.items():
        channels = state[theirs.replace(theirs.split(".")[2], str(int(theirs.split(".")[2]) - 1), 1)]
        width = channels.shape[0] if theirs.startswith("encoder") else channels.shape[1]
        # One slope for all channels there, one for each here.
        tensors[ours] = state[theirs].expand(width)
    notes = [f"the classifier ({len(classifier)} tensors) was left out"] if classifier else []
    return Imported(filled(spec.model_dump(), tensors, NAME), notes)


def _spec(state: State, layers: int) -> Spec:
    """The preset whose kernels are those of the file."""
    convs = [state[f"encoder.conv.{2 * n}.weight"] for n in range(layers)]
    if any(conv.ndim != 4 for conv in convs):
        raise ArtifactError(f"not the weights of {NAME}: its convolutions are over two axes")
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
        kernels = [item["conv"]["kernel"] for item in spec.encoder if isinstance(item, dict)]
        if kernels == [list(conv.shape[2:]) for conv in convs]:
            return spec
    raise ArtifactError(f"not the weights of {NAME}: no square input up to {SIDES[-1]} solves to its kernels")
