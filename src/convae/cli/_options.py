"""Arguments and options that several commands share; each has one sentence of help, written here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Model = Annotated[Path, typer.Argument(help="An artifact folder or a run folder.", show_default=False)]
Data = Annotated[
    str | None, typer.Option("--data", help="A data set's name or a folder of images.", show_default=False)
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Where data sets lie on this machine.", show_default=False)
]
SplitOption = Annotated[
    Literal["train", "validation", "test", "all"], typer.Option("--split", help="Which part of the data set.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything that is drawn.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for what is written.", show_default=False)]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Images at a time.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]
Show = Annotated[bool, typer.Option("--open", help="Show the picture when it is done.")]
Images = Annotated[
    list[str],
    typer.Argument(help="Image files, or positions of images in the split, from 0 on.", show_default=False),
]
Label = Annotated[
    str | None,
    typer.Option("--label", help="Conditional models: draw as this class, by name or number.", show_default=False),
]
