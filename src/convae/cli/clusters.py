"""`convae clusters`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from convae.cli._options import DataOptions, Label, Model, OutputOptions, Seed, open_session, with_option_groups
from convae.core.names import count_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from convae.latents import Agreement, Clusters, Session

PANEL = "Use"
"""The heading under which the help lists the command."""


@with_option_groups
def clusters(
    model: Model,
    output: OutputOptions,
    data: DataOptions,
    count: Annotated[str, typer.Option(help="Number of clusters; auto: 2 to 20, by silhouette.")] = "10",
    examples: Annotated[int, typer.Option(min=1, help="Images shown per cluster, nearest to its centroid.")] = 8,
    label: Label = None,
    seed: Seed = 0,
) -> None:
    """Cluster images by their latents, and draw each decoded centroid with its nearest examples.

    clusters.csv lists the cluster of each image. For labeled images, the agreement of clusters and labels is printed.
    A conditional model decodes a centroid as the most frequent class of its cluster.

    Example: `convae clusters RUN --count 10 --out pictures`
    """
    import torch

    from convae.cli._files import image_columns, new_files
    from convae.cli._parsing import cluster_count
    from convae.cli._screen import results, work_bar, wrote
    from convae.core.files import write_json
    from convae.latents import cluster, measure_agreement
    from convae.latents.tables import write_table

    number = cluster_count(count)
    names = ["clusters.png", "centroids.png", "clusters.json", "clusters.csv"]
    sheet, alone, facts, table = new_files(output.out, names, output.force)
    with work_bar() as bar:
        session = open_session(model, data, bar, label=label)
        images, encoding = session.images, session.encode()
    found = cluster(encoding.mean, number, examples=examples, seed=seed)
    total = len(found.centroids)
    labels = None
    if session.is_conditional and session.label is None:
        assert encoding.labels is not None  # a conditional model encodes labeled images only
        labels = torch.stack([encoding.labels[found.assigned == own].mode().values for own in range(total)])
    centroids = session.decode(found.centroids, labels, nearest=True)
    _draw(session, found, centroids, sheet, alone)
    matched = None if encoding.labels is None else measure_agreement(found.assigned, encoding.labels)
    write_json(facts, {**_facts(found, encoding.names, matched), "seed": seed})
    write_table(table, {**image_columns(images), "cluster": found.assigned.tolist()})
    line = [f"{count_text(len(images), 'image')} in {count_text(total, 'cluster')}"]
    line += [] if found.silhouette is None else [f"silhouette {found.silhouette:.3f}"]
    if matched is not None:
        rand, information = matched.adjusted_rand, matched.normalized_mutual_information
        matches = count_text(matched.images, "label")
        line.append(f"agreement with {matches}: adjusted Rand index {rand:.3f}, NMI {information:.3f}")
    results.print("; ".join(line), soft_wrap=True)
    wrote(sheet, output.show)
    for path in (alone, facts, table):
        wrote(path)


def _draw(session: Session, found: Clusters, centroids: Tensor, sheet: Path, alone: Path) -> None:
    """Draws each decoded centroid with its nearest images, and the centroids alone."""
    import torch

    from convae.latents import read_images
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    images = session.images
    cells: list[Tensor] = []
    for centroid, near in zip(centroids, found.nearest, strict=True):
        cells += [centroid, *read_images(images, near.tolist())]
    sizes = [count_text(size, "image") for size in found.sizes.tolist()]
    lengths = [1 + len(near) for near in found.nearest]
    heads = ["centroid", "nearest", *[""] * (max(lengths) - 2)]
    count = count_text(len(centroids), "cluster")
    text = f"{count} of {len(images):,} {images.source} images ({images.name}){session.label_text}"
    if session.is_conditional and session.label is None:
        text += ", each centroid decoded as the most frequent class of its cluster"
    titles = [f"{session.model.name}: {part}{text}" for part in ("", "centroids of ")]
    rows = grid(torch.stack(cells), row_labels=sizes, column_labels=heads, row_lengths=lengths, title=titles[0])
    save(rows, sheet)
    save(grid(centroids, title=titles[1]), alone)


def _facts(found: Clusters, names: Sequence[str], matched: Agreement | None) -> dict[str, Any]:
    """The content of clusters.json, without the seed."""
    from dataclasses import asdict

    return {
        "clusters": [
            {"size": size, "nearest": [names[index] for index in near.tolist()]}
            for size, near in zip(found.sizes.tolist(), found.nearest, strict=True)
        ],
        "silhouette": found.silhouette,
        "silhouettes_tried": {str(tried): silhouette for tried, silhouette in found.tried.items()},
        "agreement_with_labels": None if matched is None else asdict(matched),
        "cluster_of": dict(zip(names, found.assigned.tolist(), strict=True)),
    }
