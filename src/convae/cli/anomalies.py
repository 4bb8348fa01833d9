"""`convae anomalies`."""

from __future__ import annotations

from typing import Annotated

import typer

from convae.cli._options import BatchSize, Data, DataDir, Device, Force, Model, Out, Show, SplitOption


def anomalies(
    model: Model,
    out: Out,
    count: Annotated[int, typer.Option(min=1, help="How many images to show, the strangest first.")] = 8,
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = "test",
    batch_size: BatchSize = 256,
    device: Device = "auto",
    force: Force = False,
    show: Show = False,
) -> None:
    """Rank images by how badly the model explains them, and show where the strangest differ."""
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._screen import work_bar, wrote
    from convae.core.files import write_text
    from convae.latents import anomaly_scores, explain
    from convae.pictures.grid import compare
    from convae.pictures.heat import heat
    from convae.pictures.save import save

    sheet, table = new_files(out, ["anomalies.png", "anomalies.csv"], force)
    loaded = open_model(model, device)
    with work_bar() as bar:
        images = open_images(loaded, data, data_dir, split, bar)
        scores = anomaly_scores(loaded, images, batch_size=batch_size, progress=bar)
    order = scores.argsort(descending=True, stable=True)
    shown = explain(loaded, images, order[:count])
    rows = {"image": shown.images, "reconstruction": shown.reconstructions}
    if len(loaded.input_shape) > 2:  # the error of a signal is seen where its two lines part
        rows["error"] = heat(shown.errors)  # type: ignore[assignment]  # pictures take arrays as well
    captions = [f"{score:.0f} nats" for score in scores[order[:count]].tolist()]
    title = f"{loaded.name}: the strangest of {len(images):,} {images.source} images ({split})"
    save(compare(rows, captions=captions, title=title), sheet)
    lines = ["rank,name,negative ELBO (nats)"]
    for rank, index in enumerate(order.tolist(), start=1):
        name = images.key(index).replace('"', '""')
        lines.append(f'{rank},"{name}",{scores[index]:.4f}')
    write_text(table, "\n".join(lines) + "\n")
    wrote(sheet, show)
    wrote(table)
