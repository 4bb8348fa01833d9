"""`convae distill`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from convae.cli._options import LengthOptions, with_option_groups
from convae.core.errors import ConfigError

PANEL = "Start"
"""The heading under which the help lists the command."""


@dataclass(frozen=True)
class StudentOptions:
    """The parts to train."""

    panel: ClassVar = "Student"
    part: Annotated[
        list[str] | None,
        typer.Option(help="A part to train, decoder or encoder; may be given several times.", show_default="decoder"),
    ] = None
    decoder: Annotated[
        str | None,
        typer.Option(help="Its decoder: a preset, '{taesd: {width: 32}}' or a list of layers.", show_default="small"),
    ] = None
    encoder: Annotated[str | None, typer.Option(help="Its encoder, in the same forms.", show_default="small")] = None
    width: Annotated[
        int | None, typer.Option(min=1, help="Channels of a small part.", show_default="a tenth of the FLOPs")
    ] = None
    blocks: Annotated[int, typer.Option(min=1, help="Residual blocks of each stage of a small part.")] = 1


@dataclass(frozen=True)
class PlaceOptions:
    """The images, and the run folder."""

    panel: ClassVar = "Run"
    data: Annotated[str | None, typer.Option(help="Images instead of the training data of the model.")] = None
    data_dir: Annotated[Path | None, typer.Option(help="Folder that holds data sets.")] = None
    name: Annotated[str | None, typer.Option(help="Name of the run, and of its folder in runs/.")] = None
    out: Annotated[Path | None, typer.Option(help="The run folder, new or empty; otherwise a new one in runs/.")] = None

    def keys(self) -> dict[str, Any]:
        """Values by the path of their recipe key."""
        from convae.cli._parsing import data_source

        return {
            "name": self.name,
            "data.source": None if self.data is None else data_source(self.data, "--data"),
            "data.dir": None if self.data_dir is None else str(self.data_dir),
        }


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

    By default the student has the structure of TAESD and a tenth of the teacher's FLOPs. Its loss is the squared error
    to the reconstructions of the teacher: `objective.distillation.distance=absolute` changes it, and
    `objective.reconstruction=1` or `objective.perceptual.network=efficientnet-lite0` add terms of the images.

    Ctrl-C stops after the current step and saves; `convae train --resume RUN` continues.

    Example: `convae distill runs/mnist`

    `convae distill runs/flowers --width 32 --blocks 2 --epochs 30`
    """
    from convae.cli._screen import notes, work_bar, wrote
    from convae.core.trust import trust_options
    from convae.training import distill as train_student
    from convae.training.report import TrainingReport

    words = [word for word in arguments or [] if "=" not in word]
    overrides = [word for word in arguments or [] if word not in words]
    if len(words) != 1:
        raise ConfigError("give one model, such as: convae distill runs/mnist")
    parts: list[Any] = student.part or []
    given = {**place.keys(), **length.keys()}
    options = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    with work_bar() as bar:
        run = train_student(
            words[0],
            parts=parts,
            decoder=_network(student.decoder),
            encoder=_network(student.encoder),
            width=student.width,
            blocks=student.blocks,
            overrides=[*options, *overrides],
            out=place.out,
            callback=TrainingReport(bar),
            progress=bar,
        )
    if not run.is_main:
        return 130 if run.stopped and not run.out_of_time else 0
    if run.stopped:
        reason = "time is up" if run.out_of_time else "stopped and saved"
        notes.print(f"{reason}; continue with: convae train --resume {run.path}{trust_options()}", soft_wrap=True)
        if not run.out_of_time:
            return 130
    found = [row for row in run.metrics if row.get("step") == run.best_step and "psnr_to_teacher" in row]
    for row in found[-1:]:
        images = f", to the images {row['psnr_to_image']:.2f} dB" if "psnr_to_image" in row else ""
        notes.print(f"PSNR to the teacher {row['psnr_to_teacher']:.2f} dB{images}, step {run.best_step}")
    notes.print(f"try       convae reconstruct {run.path} 0 1 2 --out reconstructions{trust_options()}", soft_wrap=True)
    wrote(run.path)
    return 0


def _network(written: str | None) -> Any:
    """A network on the command line: the name of a preset, or YAML."""
    from convae.core.documents import parse_yaml

    return parse_yaml(written, "the network") if written and written[0] in "[{" else written
