"""`convae decode`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convae.cli._engines import Engine, use_engine
from convae.cli._large_images import LargeImageOptions
from convae.cli._options import BatchSize, Device, Force, Label, Model, with_option_groups
from convae.core.errors import ConfigError

if TYPE_CHECKING:
    from convae.model.vae import VAE

PANEL = "Use"
"""The heading under which the help lists the command."""


@with_option_groups
def decode(
    model: Model,
    latents: Annotated[
        Path,
        typer.Argument(
            help="A folder that convae encode wrote, or a file of latents or codes: .csv, .npy, .npz, ….",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Output folder.", show_default=False)],
    large: LargeImageOptions,
    label: Label = None,
    batch_size: BatchSize = 256,
    engine: Engine = "torch",
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Decode latents or codes to image files, named as the encoded images.

    Latents of another model are refused unless --force is given. A model and its run of `convae prior` decode each
    other's latents.

    Example: `convae decode RUN latents --out images`
    """
    import torch

    from convae.cli._files import image_paths, write_image
    from convae.cli._screen import work_bar, wrote
    from convae.core.file_sets import begin_file_set
    from convae.latents import Session, iterate_decodable, iterate_decoded
    from convae.latents import decode as decode_latents

    session = Session(model, label=label, size=large.image_size(), device=device)
    loaded = session.model
    _check_model(loaded, latents, force)
    # All of them are read before the first image is written.
    names = [name for part in iterate_decodable(latents, loaded) for name in part.names]
    if engine != "torch":
        first = next(iter(iterate_decodable(latents, loaded)))
        z, known = first.z[:batch_size], None if first.labels is None else first.labels[:batch_size]
        given = known if session.label is None else session.labels(len(z))
        use_engine(session, engine, ["decode"], large=large, z=z, labels=given, count=len(names))
    large.apply(loaded)
    paths = image_paths(loaded, out, names)
    begin_file_set(out, [str(path.relative_to(out)) for path in paths], force=force)
    done = 0
    with work_bar() as bar:
        for part in iterate_decodable(latents, loaded):
            labels = part.labels if session.label is None else torch.full((len(part.names),), session.label)
            if not done:
                own = None if labels is None else labels[:1]
                large.report(loaded, functools.partial(decode_latents, loaded, part.z[:1], labels=own), "image")
            decoded = iterate_decoded(loaded, part.z, labels=labels, batch_size=batch_size, engine=session.engine)
            for images in decoded:
                for image, path in zip(images, paths[done : done + len(images)], strict=True):
                    write_image(image, path)
                done += len(images)
                bar(done, len(paths), "decoding (images)")
    wrote(out)


def _check_model(model: VAE, latents: Path, force: bool) -> None:
    """Compares the model that latents come from, where that is known, with the one that decodes them."""
    from convae.cli._screen import notes
    from convae.latents import read_model_identity
    from convae.model.fingerprint import autoencoder_fingerprint

    origin = read_model_identity(latents)
    own = autoencoder_fingerprint(model)
    if origin is None or origin[1] == own:
        return
    text = (
        f"{latents}: latents of another model: '{origin[0]}' (SHA-256 {origin[1][:12]}…), "
        f"not '{model.name}' ({own[:12]}…)"
    )
    if not force:
        raise ConfigError(f"{text}: decode them with the model that encoded them, or --force")
    notes.print(text, soft_wrap=True, style="yellow")
