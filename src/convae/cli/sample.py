"""`convae sample`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from convae.cli._engines import Engine, use_engine
from convae.cli._options import DataDir, Device, Model, OutputOptions, Seed, with_option_groups

if TYPE_CHECKING:
    from pathlib import Path

    from convae.model.vae import VAE

PANEL = "Look"
"""The heading under which the help lists the command."""


@dataclass(frozen=True)
class ClassOptions:
    """The classes of the samples."""

    label: Annotated[
        str | None, typer.Option(help="Only images of this class, by name or number.", show_default=False)
    ] = None
    labeled: Annotated[
        bool, typer.Option("--labeled", help="Images of every class, as a data set: LABEL/NUMBER.png.")
    ] = False
    confidence: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Keep images whose label has at least this probability.",
            show_default="0.95 with --label or --labeled, otherwise 0",
        ),
    ] = None


@dataclass(frozen=True)
class DrawingOptions:
    """How latents are drawn from the prior."""

    seed: Seed = 0
    temperature: Annotated[
        str,
        typer.Option(
            metavar="NUMBER[,NUMBER...]",
            help="Factor on the prior's standard deviation; one for each latent of a hierarchy, from the top.",
        ),
    ] = "1"
    truncation: Annotated[
        float | None, typer.Option(help="Resample latent values beyond this many standard deviations.")
    ] = None
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--prior-option",
            metavar="KEY=VALUE",
            help="Option of the model's prior, such as top_p=0.9; may be repeated.",
        ),
    ] = None


@with_option_groups
def sample(
    model: Model,
    output: OutputOptions,
    classes: ClassOptions,
    drawing: DrawingOptions,
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Number of images; per class with --labeled.", show_default="64, of a class 10"),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="A data set's name or a folder of images.", show_default=False)
    ] = None,
    data_dir: DataDir = None,
    engine: Engine = "torch",
    device: Device = "auto",
) -> None:
    """Draw samples from the prior, of any class or of one, as a sheet and as files in samples/.

    Where samples look worse than reconstructions, `convae prior` fits a prior to the trained model.

    A conditional model decodes the class of --label, and a prior fitted with labels draws latents of it. A model with a
    classifier keeps the images that it classifies with enough confidence. For other models, and with --data, one
    Gaussian per class is fitted to the latents of labeled images. Where labels are known, manifest.csv lists them.

    Example: `convae sample RUN --count 64 --seed 1 --out pictures`
    """
    from convae.cli._parsing import comma_separated, data_source
    from convae.cli._samples import SampleRequest, draw_samples, draws_from_gaussians, write_samples
    from convae.cli._screen import work_bar
    from convae.core.config import override
    from convae.latents import Session

    request = SampleRequest(
        count,
        classes.label,
        classes.labeled,
        classes.confidence,
        data is not None,
        drawing.seed,
        tuple(comma_separated(drawing.temperature, "--temperature", float)),
        drawing.truncation,
        override({}, drawing.option or []),
    )
    with work_bar() as bar:
        session = Session(
            model,
            data=None if data is None else data_source(data, "--data"),
            data_dir=data_dir,
            default_split="train",
            device=device,
            progress=bar,
        )
        if not draws_from_gaussians(session.model, request):
            _suggest_prior(session.model, model)
        encodes = data is not None or session.model.classifier is not None
        total = request.number * (max(1, len(session.class_names)) if classes.labeled else 1)
        use_engine(
            session,
            engine,
            ["encode", "decode"] if encodes else ["decode"],
            batch_size=min(256, total),
            count=total,
        )
        samples = draw_samples(session, request)
    write_samples(session.model, request, samples, output.out, force=output.force, show=output.show)


def _suggest_prior(model: VAE, path: Path) -> None:
    """Notes the command that fits a prior, if samples from the model's own are unlike its images."""
    from convae.core.notes import note
    from convae.core.trust import trust_options
    from convae.training.result import missing_prior

    if (missing := missing_prior(model)) is not None:
        name, reason = missing
        note(f"{reason}. Fit a prior to them with: convae prior {path} {name}{trust_options()}", "yellow")
