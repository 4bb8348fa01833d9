"""`convae sample`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from convae.cli._options import Data, DataDir, Device, Force, Model, Out, Seed, Show

PANEL = "Look"
"""Under which heading the help lists the command."""


def sample(
    model: Model,
    out: Out,
    count: Annotated[
        int | None,
        typer.Option(min=1, help="How many images; of each class with --labelled.", show_default="64, of a class 10"),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Only images of this class, by name or number.", show_default=False)
    ] = None,
    labelled: Annotated[
        bool, typer.Option("--labelled", help="Images of every class, as a data set: LABEL/NUMBER.png.")
    ] = False,
    confidence: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Leave out images of whose label the model is less sure.",
            show_default="0.95 with --label or --labelled, otherwise 0",
        ),
    ] = None,
    from_: Annotated[
        Literal["prior", "fitted"],
        typer.Option("--from", help="The model's prior, or Gaussians fitted to the latents of the training images."),
    ] = "prior",
    data: Data = None,
    data_dir: DataDir = None,
    seed: Seed = 0,
    temperature: Annotated[float, typer.Option(min=0, help="Factor of the prior's standard deviation.")] = 1.0,
    truncation: Annotated[
        float | None, typer.Option(help="Draw latent values beyond this many standard deviations again.")
    ] = None,
    device: Device = "auto",
    force: Force = False,
    show: Show = False,
) -> None:
    """Draw images from the prior, of any class or of a wanted one: a sheet of all, and one file each in samples/.

    --from fitted draws from a mixture of Gaussians fitted to the latents of the training images, by the Bayesian
    information criterion: better samples where those latents are far from the prior (`aggregate-gap` of evaluate).

    A conditional model takes the label. A model with a classifier keeps the images of whose label it is sure. For other
    models a Gaussian for each class is fitted to the latents of labelled images, those that the model was trained on;
    with --data, one with a classifier draws from such Gaussians too. Where labels are known, manifest.csv lists them.

    Example: `convae sample RUN --count 64 --seed 1 --out pictures`
    """
    from convae.cli._models import open_model
    from convae.cli._samples import Wish, drawn, write
    from convae.cli._screen import work_bar

    wish = Wish(count, label, labelled, confidence, data, data_dir, seed, temperature, truncation, from_ == "fitted")
    loaded = open_model(model, device)
    with work_bar() as bar:
        samples = drawn(loaded, wish, bar)
    write(loaded, wish, samples, out, force=force, show=show)
