"""`convae latents`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from convae.cli._options import AllDataOptions, BatchSize, MissingLabel, Model, open_session, with_option_groups

PANEL = "Use"
"""The heading under which the help lists the command."""


@with_option_groups
def latents(
    action: Annotated[  # noqa: ARG001  # the only one so far
        Literal["stats"], typer.Argument(help="What to do: stats measures their scale.", show_default=False)
    ],
    model: Model,
    data: AllDataOptions,
    label: MissingLabel = None,
    by: Annotated[
        Literal["channel", "all"],
        typer.Option("--by", help="A mean and deviation for each channel, or one factor for all channels."),
    ] = "channel",
    store: Annotated[bool, typer.Option("--store/--no-store", help="Store the scale in the artifact.")] = True,
    batch_size: BatchSize = 256,
) -> None:
    """Measure the scale of the latents for a generator, and store it in the artifact.

    A generator takes (z − mean) / std · factor. `convae export --to diffusers` writes it as latents_mean and
    latents_std, or as scaling_factor. Means and deviations are those of drawn latents, over images and positions.

    Example: `convae latents stats RUN --data photos/`
    """
    from convae.cli._screen import results, work_bar, wrote
    from convae.latents.scale import measure_latent_scale
    from convae.model.artifact import find, save

    with work_bar() as bar:
        session = open_session(model, data, bar, default_split="all", missing_label=label)
        scale = measure_latent_scale(
            session.model, session.images, by_channel=by == "channel", batch_size=batch_size, progress=bar
        )
    for number, (mean, std) in enumerate(zip(scale.mean, scale.std, strict=True)):
        results.print(f"channel {number}: mean {mean:.5g}, standard deviation {std:.5g}")
    if not scale.std:
        results.print(f"factor {scale.factor:.5g}")
    if store:
        path, own = find(model), session.model.to("cpu")
        own.provenance = own.provenance.model_copy(update={"latent_scale": scale})
        save(own, path)
        wrote(path)
