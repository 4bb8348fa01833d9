"""`convae clusters`."""

from __future__ import annotations

from typing import Annotated

import typer

from convae.cli._options import Data, DataDir, Device, Force, Label, Model, Out, Seed, Show, SplitOption

PANEL = "Use"
"""Under which heading the help lists the command."""


def clusters(
    model: Model,
    out: Out,
    count: Annotated[str, typer.Option(help="How many clusters; auto: from 2 to 20, as the silhouette says.")] = "10",
    examples: Annotated[int, typer.Option(min=1, help="Images shown of each, those nearest to its centroid.")] = 8,
    label: Label = None,
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = None,
    seed: Seed = 0,
    device: Device = "auto",
    force: Force = False,
    show: Show = False,
) -> None:
    """Cluster images by their latents: centroids decoded, each beside its nearest examples.

    clusters.csv lists the cluster of each image. Where images have labels, how well the clusters match them is printed.
    A conditional model draws a centroid as the class that most images of its cluster have.

    Example: `convae clusters RUN --count 10 --out pictures`
    """
    from dataclasses import asdict

    import torch

    from convae.cli._classes import drawn_as, wanted_class
    from convae.cli._latents import cluster_count, images_at
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._screen import results, work_bar, wrote
    from convae.cli._tables import columns_of
    from convae.core.files import write_json
    from convae.latents import agreement, cluster, decode, encode, nearest_latents
    from convae.latents.formats import write_table
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    names = ["clusters.png", "centroids.png", "clusters.json", "clusters.csv"]
    asked = cluster_count(count)
    sheet, alone, facts, table = new_files(out, names, force)
    loaded = open_model(model, device)
    wanted = wanted_class(loaded, label)
    with work_bar() as bar:
        images = open_images(loaded, data, data_dir, split, bar, label=wanted)
        encoding = encode(loaded, images, progress=bar)
    found = cluster(encoding.mean, asked, examples=examples, seed=seed)
    number = len(found.centroids)
    kinds = None if wanted is None else torch.full((number,), wanted)
    if loaded.condition is not None and wanted is None:
        assert encoding.labels is not None  # `encode` has seen to it
        kinds = torch.stack([encoding.labels[found.assigned == own].mode().values for own in range(number)])
    centroids = decode(loaded, nearest_latents(loaded, found.centroids), labels=kinds)
    nothing = torch.ones_like(centroids[0])
    cells = []
    for centroid, near in zip(centroids, found.nearest, strict=True):
        shown = list(images_at(images, near.tolist()))
        cells += [centroid, *shown, *[nothing] * (examples - len(shown))]
    labels = [f"{size:,} images" for size in found.sizes.tolist()]
    heads = ["centroid", "nearest", *[""] * (examples - 1)]
    of = f"{number} clusters of {len(images):,} {images.source} images ({images.name}){drawn_as(loaded, wanted)}"
    save(grid(torch.stack(cells), row_labels=labels, column_labels=heads, title=f"{loaded.name}: {of}"), sheet)
    save(grid(centroids, title=f"{loaded.name}: centroids of {of}"), alone)
    described = [
        {"size": size, "nearest": [encoding.names[index] for index in near.tolist()]}
        for size, near in zip(found.sizes.tolist(), found.nearest, strict=True)
    ]
    members = dict(zip(encoding.names, found.assigned.tolist(), strict=True))
    matched = None if encoding.labels is None else agreement(found.assigned, encoding.labels)
    written = {
        "clusters": described,
        "seed": seed,
        "silhouette": found.silhouette,
        "silhouettes_tried": {str(tried): silhouette for tried, silhouette in found.tried.items()},
        "agreement_with_labels": None if matched is None else asdict(matched),
        "cluster_of": members,
    }
    write_json(facts, written)
    write_table(table, {**columns_of(images), "cluster": found.assigned.tolist()})
    said = [f"{len(images):,} images in {number} clusters"]
    said += [] if found.silhouette is None else [f"silhouette {found.silhouette:.3f}"]
    if matched is not None:
        rand, information = matched.adjusted_rand, matched.normalized_mutual_information
        said.append(f"against the labels of {matched.images:,}: adjusted Rand index {rand:.3f}, NMI {information:.3f}")
    results.print("; ".join(said), soft_wrap=True)
    wrote(sheet, show)
    wrote(alone)
    wrote(facts)
    wrote(table)
