"""The inference engine of commands that encode and decode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from convae.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from convae.cli._large_images import LargeImageOptions
    from convae.interop.graph_engine import ComputationName
    from convae.latents import Session

EngineName = Literal["auto", "torch", "onnx", "openvino"]
Engine = Annotated[
    EngineName,
    typer.Option("--engine", help="torch; onnx or openvino, exported; auto, the fastest in a trial of a second each."),
]


def use_engine(
    session: Session,
    name: EngineName,
    computations: Sequence[ComputationName],
    *,
    large: LargeImageOptions | None = None,
    images: Tensor | None = None,
    z: Tensor | None = None,
    labels: Tensor | None = None,
    batch_size: int = 256,
    count: int,
) -> None:
    """Sets the engine of a session, and prints which one it is, its speed, and its difference from torch.

    Args:
        session: with the model.
        name: the engine; nothing is done for `torch`, which a session has from the beginning.
        computations: what the command computes.
        large: options of large images, which only torch computes in slices and tiles.
        images: the first batch to encode; random images by default.
        z: the first batch to decode; random latents by default.
        labels: class numbers of that batch, for a conditional model.
        batch_size: of batches.
        count: number of images of the command.

    Raises:
        ConfigError: the engine cannot be used.
    """
    from convae.cli._screen import notes

    if name == "torch":
        return
    if large is not None and large.is_divided:
        if name != "auto":
            raise ConfigError(f"--engine {name} computes whole images: leave out --slices, --tiles and --memory")
        notes.print("engine torch: slices and tiles need it", soft_wrap=True)
        return
    from convae.interop import choose_engine

    choice = choose_engine(
        session.model,
        name,
        computations,
        images=images,
        z=z,
        labels=labels,
        batch_size=batch_size,
        count=count,
    )
    session.engine = choice.engine
    notes.print(choice.describe(), soft_wrap=True)


def require_torch(name: EngineName, what: str) -> None:
    """Checks that no other engine is named for a computation that only torch does.

    Args:
        name: the engine; `auto` is torch here.
        what: the option or the computation.

    Raises:
        ConfigError: another engine is named.
    """
    if name not in ("auto", "torch"):
        raise ConfigError(f"{what} needs torch: leave out --engine {name}")


def use_refinement(session: Session, steps: int, name: EngineName, large: LargeImageOptions) -> None:
    """Sets an engine of refined posteriors.

    Args:
        session: with the model.
        steps: for each image.
        name: the engine that was asked for.
        large: options of large images, of which gradients are computed as a whole.

    Raises:
        ConfigError: the options exclude each other, or the model has no posterior to refine.
    """
    from convae.latents.refinement import torch_engine

    require_torch(name, "--refine")
    if large.is_divided:
        raise ConfigError("--refine computes gradients of whole images: leave out --slices, --tiles and --memory")
    session.engine = torch_engine(session.model, steps)


def first_batch(session: Session, batch_size: int) -> tuple[Tensor, Tensor | None]:
    """The first images of a session, (batch, channel, *sizes) in [0, 1], and their labels."""
    import numpy as np
    import torch

    from convae.data import in_order

    positions = np.arange(min(batch_size, len(session.images)))
    batch = next(in_order(session.images, len(positions), torch.device("cpu"), positions))
    return batch.images, batch.labels
