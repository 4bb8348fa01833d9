"""`convae sample-labelled`."""

from __future__ import annotations

from typing import Annotated

import typer

from convae.cli._options import Data, DataDir, Device, Force, Model, Out, Seed, Show, SplitOption


def sample_labelled(
    model: Model,
    out: Out,
    count: Annotated[int, typer.Option(min=1, help="How many images of each class.")] = 10,
    label: Annotated[str | None, typer.Option(help="One class, by name or number; otherwise all.")] = None,
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = "train",
    seed: Seed = 0,
    device: Device = "auto",
    force: Force = False,
    show: Show = False,
) -> None:
    """Draw images of wanted classes as a labelled data set, one folder a class, and say how sure each label is.

    Each class is a Gaussian fitted to the latents of its images in the split.
    """
    import torch

    from convae.cli._latents import class_number, image_paths, write_image
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._screen import results, work_bar, wrote
    from convae.latents import classes, decode, encode
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    loaded = open_model(model, device)
    with work_bar() as bar:
        images = open_images(loaded, data, data_dir, split, bar)
        found = classes(encode(loaded, images, progress=bar))
    wanted = found.labels.tolist() if label is None else [class_number(images, label)]
    names = [images.classes[number] if images.classes else str(number) for number in wanted]
    digits = len(str(count - 1))
    files = [f"{name.replace('/', '-')}/{number:0{digits}}" for name in names for number in range(count)]
    paths = image_paths(out, files, two_axes=len(loaded.input_shape) == 3)
    sheet, *_ = new_files(out, ["samples.png", *(str(path.relative_to(out)) for path in paths)], force)
    z = torch.cat([found.draw(number, count, seed=seed) for number in wanted])
    drawn = decode(loaded, z)
    for image, path in zip(drawn, paths, strict=True):
        write_image(image, path)
    save(grid(drawn, columns=count, row_labels=names, title=f"{loaded.name}: samples of classes, seed {seed}"), sheet)
    with torch.no_grad():
        again = found.label(loaded.encode(drawn.to(next(loaded.parameters()).device)).mean.cpu())
    share = float((again == torch.tensor(wanted).repeat_interleave(count)).float().mean())
    results.print(f"{share:.1%} of the samples, encoded again, are of the class they were drawn for")
    wrote(sheet, show)
