"""`convae interpolate`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from convae.cli._options import DataOptions, Images, Label, Model, OutputOptions, open_session, with_option_groups

PANEL = "Look"
"""The heading under which the help lists the command."""


@with_option_groups
def interpolate(
    model: Model,
    images: Images,
    output: OutputOptions,
    data: DataOptions,
    steps: Annotated[int, typer.Option(min=2, help="Images per segment, including both ends.")] = 9,
    mode: Annotated[
        Literal["lerp", "slerp"] | None,
        typer.Option(help="Linear or spherical interpolation; spherical by default for latents on a sphere."),
    ] = None,
    label: Label = None,
) -> None:
    """Interpolate between the latents of two or more images: one row per segment, and an animation of the whole path.

    Example: `convae interpolate RUN cat.jpg dog.jpg --out pictures`
    """
    from itertools import pairwise

    import torch

    from convae.cli._files import new_files, short_name
    from convae.cli._screen import work_bar, wrote
    from convae.core.errors import ConfigError
    from convae.latents import interpolate as segments_between
    from convae.latents.quantized import nearest_paths
    from convae.pictures.animation import animate
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    if len(images) < 2:
        raise ConfigError(f"interpolation needs at least two images, got {len(images)}")
    still, moving = new_files(output.out, ["interpolation.png", "interpolation.webp"], output.force)
    with work_bar() as bar:
        session = open_session(model, data, bar, label=label)
        ends = session.encode_inputs(images)
    mode = mode or ("slerp" if session.model.bottleneck.is_spherical else "lerp")
    segments = segments_between(ends.z[:-1], ends.z[1:], steps, mode=mode)
    # A conditional model decodes each segment as the class of its first image.
    labels = None if ends.labels is None else ends.labels[:-1].repeat_interleave(steps)
    decoded = session.decode(nearest_paths(session.model, segments, [0, -1]).flatten(0, 1), labels)
    names = [short_name(word) for word in images]
    rows = [f"{name} → {following}" for name, following in pairwise(names)]
    what = f"{'linear' if mode == 'lerp' else 'spherical'} interpolation{session.label_text}"
    if session.model.bottleneck.codebook_sizes:
        what += ", quantized to the nearest codes"
    if labels is not None and session.label is None:
        what += ", each row decoded as the class of its first image"
    save(grid(decoded, row_labels=rows, title=f"{session.model.name}: {what}"), still)
    # The end of a segment and the beginning of the next are one image of the path.
    by_segment = decoded.view(*segments.shape[:2], *decoded.shape[1:])
    animate(torch.cat([by_segment[:, :-1].flatten(0, 1), by_segment[-1:, -1]]), moving)
    wrote(still)
    wrote(moving, output.show)
