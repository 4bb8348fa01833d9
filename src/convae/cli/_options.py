"""Arguments and options that several commands share; each has one sentence of help, written here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Model = Annotated[Path, typer.Argument(help="An artifact folder or a run folder.", show_default=False)]
Data = Annotated[
    str | None, typer.Option("--data", help="A data set's name or a folder of images.", show_default=False)
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Where data sets lie on this machine.", show_default=False)
]
SplitOption = Annotated[
    Literal["train", "validation", "test", "all"] | None,
    typer.Option(
        "--split",
        help="Which part of the data set.",
        show_default="of the training data test, of other data all",
    ),
]
EncodeSplit = Annotated[
    Literal["train", "validation", "test", "all"] | None,
    typer.Option("--split", help="Which part of the data set.", show_default="all"),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything that is drawn.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for what is written.", show_default=False)]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Images at a time.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]
Score = Annotated[
    str, typer.Option("--score", help="What is high for strange images: elbo (turned), nll, reconstruction, kl, …")
]
Samples = Annotated[
    int | None,
    typer.Option(
        "--samples", min=1, help="Latents drawn for each image, for elbo and nll.", show_default="1, of nll 64"
    ),
]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="PACKAGE",
        help="A package outside convae whose code a saved model or a run may use; may be given several times.",
        show_default=False,
    ),
]
Show = Annotated[bool, typer.Option("--open", help="Show the picture when it is done.")]
Images = Annotated[
    list[str],
    typer.Argument(
        help="Image files, positions of images in the split, from 0 on, or their names.", show_default=False
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        "--label",
        help="Conditional models: draw as this class, by name or number, which is that of images without a label, too.",
        show_default=False,
    ),
]
ImageLabel = Annotated[
    str | None,
    typer.Option(
        "--label",
        help="Conditional models: the class of the images that have no label, by name or number.",
        show_default=False,
    ),
]


def samples_of(score: str, samples: int | None) -> dict[str, dict[str, Any]] | None:
    """`--samples` as an option of the metric that `--score` names."""
    return None if samples is None else {score: {"samples": samples}}
