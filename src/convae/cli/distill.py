"""`convae distill`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import typer

from convae.cli._options import with_option_groups
from convae.cli._trainings import LengthOptions, PlaceOptions, finish, overrides_of
from convae.core.errors import ConfigError

PANEL = "Start"
"""The heading under which the help lists the command."""


@dataclass(frozen=True)
class StudentOptions:
    """The parts to train."""

    panel: ClassVar = "Student"
    decoder: Annotated[
        str | None,
        typer.Option(
            help="Its decoder: small, '{small: {width: 32, blocks: 2}}', a preset, or a list of layers.",
            show_default="small, unless there is an encoder",
        ),
    ] = None
    encoder: Annotated[
        str | None, typer.Option(help="Its encoder, in the same forms.", show_default="that of the teacher")
    ] = None


@with_option_groups
def distill(
    student: StudentOptions,
    length: LengthOptions,
    place: PlaceOptions,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL [key.path=value ...]",
            help="A run or an artifact, and options of a recipe.",
        ),
    ] = None,
) -> int:
    """Train a small decoder, or encoder, from the latents of a trained model, its teacher.

    All other parts of the model are taken over and stay as they are, so that latents and codes remain valid. The new
    run in runs/ holds an ordinary model. Latents are computed once and kept in the cache.

    A small student has the structure of TAESD and, unless you set its width, a tenth of the teacher's FLOPs. Its loss
    is the squared error to the reconstructions of the teacher: `objective.distillation.distance=absolute` changes it,
    and `objective.reconstruction=1` or `objective.perceptual.network=efficientnet-lite0` add terms of the images.

    Ctrl-C stops after the current step and saves; `convae train --resume RUN` continues.

    Example: `convae distill runs/mnist`

    `convae distill runs/flowers --decoder '{small: {width: 32}}' --epochs 30`
    """
    from convae.cli._screen import work_bar
    from convae.training import distill as train_student
    from convae.training.report import TrainingReport

    words = [word for word in arguments or [] if "=" not in word]
    overrides = [word for word in arguments or [] if word not in words]
    if len(words) != 1:
        raise ConfigError("give one model, such as: convae distill runs/mnist")
    with work_bar() as bar:
        run = train_student(
            words[0],
            decoder=_network(student.decoder),
            encoder=_network(student.encoder),
            overrides=[*overrides_of({**place.keys(), **length.keys()}), *overrides],
            out=place.out,
            callback=TrainingReport(bar),
            progress=bar,
        )
    return finish(run)


def _network(written: str | None) -> Any:
    """A network on the command line: the name of a preset, or YAML."""
    from convae.core.documents import parse_yaml

    return parse_yaml(written, "the network") if written and written[0] in "[{" else written
