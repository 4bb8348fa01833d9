"""`convae clusters`."""

from __future__ import annotations

from typing import Annotated

import typer

from convae.cli._options import Data, DataDir, Device, Force, Label, Model, Out, Seed, Show, SplitOption


def clusters(
    model: Model,
    out: Out,
    count: Annotated[int, typer.Option(min=1, help="How many clusters.")] = 10,
    examples: Annotated[int, typer.Option(min=1, help="Images shown of each, those nearest to its centroid.")] = 8,
    label: Label = None,
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = "test",
    seed: Seed = 0,
    device: Device = "auto",
    force: Force = False,
    show: Show = False,
) -> None:
    """Cluster images by their latents: centroids decoded, each beside its nearest examples.

    A conditional model draws a centroid as the class that most images of its cluster have.
    """
    import torch

    from convae.cli._classes import drawn_as, wanted_class
    from convae.cli._latents import images_at
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._screen import work_bar, wrote
    from convae.core.files import write_json
    from convae.latents import cluster, decode, encode
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    names = ["clusters.png", "centroids.png", "clusters.json"]
    sheet, alone, table = new_files(out, names, force)
    loaded = open_model(model, device)
    wanted = wanted_class(loaded, label)
    with work_bar() as bar:
        images = open_images(loaded, data, data_dir, split, bar)
        encoding = encode(loaded, images, progress=bar)
    found = cluster(encoding.mean, count, examples=examples, seed=seed)
    kinds = None if wanted is None else torch.full((count,), wanted)
    if loaded.condition is not None and wanted is None:
        assert encoding.labels is not None  # `encode` has seen to it
        kinds = torch.stack([encoding.labels[found.assigned == number].mode().values for number in range(count)])
    centroids = decode(loaded, found.centroids, labels=kinds)
    nothing = torch.ones_like(centroids[0])
    cells = []
    for centroid, near in zip(centroids, found.nearest, strict=True):
        shown = list(images_at(images, near.tolist()))
        cells += [centroid, *shown, *[nothing] * (examples - len(shown))]
    labels = [f"{size:,} images" for size in found.sizes.tolist()]
    heads = ["centroid", "nearest", *[""] * (examples - 1)]
    title = f"{loaded.name}: {count} clusters of {len(images):,} {images.source} images{drawn_as(loaded, wanted)}"
    save(grid(torch.stack(cells), row_labels=labels, column_labels=heads, title=title), sheet)
    save(grid(centroids, title=f"{loaded.name}: centroids of {count} clusters{drawn_as(loaded, wanted)}"), alone)
    described = [
        {"size": size, "nearest": [encoding.names[index] for index in near.tolist()]}
        for size, near in zip(found.sizes.tolist(), found.nearest, strict=True)
    ]
    members = dict(zip(encoding.names, found.assigned.tolist(), strict=True))
    write_json(table, {"clusters": described, "seed": seed, "cluster_of": members})
    wrote(sheet, show)
    wrote(alone)
    wrote(table)
