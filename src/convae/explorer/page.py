"""The explorer: one HTML file that decodes in the browser, without a server or a network."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convae.core.errors import ConfigError
from convae.core.files import write_text
from convae.core.names import class_names, shape_text
from convae.core.notes import note
from convae.core.paths import local_path
from convae.core.random import numpy_generator
from convae.explorer.contents import Blob, Map, describe_points, most_points
from convae.explorer.lowering import lower
from convae.explorer.program import Program
from convae.interop.graphs import build_graph
from convae.latents import Session, encode
from convae.model.priors.standard_normal import StandardNormal
from convae.model.vae import VAE

LARGEST = 64 << 20
"""Bytes of weights that a page may hold: browsers read larger pages slowly."""
_SCRIPTS = ("kernel", "operations", "pictures", "remote", "animation", "latents", "plane", "selection", "page")


def write_page(session: Session, path: str | Path, *, projection: Map | None = None) -> Path:
    """Writes the explorer of a model, with the latents of the session's images.

    Args:
        session: a model with images.
        path: of the HTML file; replaced if it exists.
        projection: a map of the data points beside the planes of two axes, by t-SNE or UMAP; see
            `convae.latents.project`. A place on it is decoded from the nearest data points.

    Raises:
        ConfigError: the model is too large for a page, or has an operation that the page does not; there are too few
            images for the projection, or its package is not installed.
        DataError: the images are missing, damaged or empty.
        OutputError: the file cannot be written.
    """
    model = session.model
    weights = sum(tensor.numel() for tensor in model.state_dict().values()) * 4
    if weights > LARGEST:
        raise ConfigError(
            f"model '{model.name}' has {weights / 1e6:,.0f} MB of weights, and a page holds {LARGEST / 1e6:,.0f} MB. "
            "Use --serve, with which this computer decodes"
        )
    path = local_path(path)
    write_text(path, page_of(session, projection))
    return path


def page_of(session: Session, projection: Map | None, programs: Mapping[str, Any] | None = None) -> str:
    """The page as text.

    Args:
        session: a model with images.
        projection: of the map.
        programs: `encode` and `decode` of a server; without them, the page holds the weights.

    Raises:
        ConfigError: the model has an operation that the page does not; see `write_page`.
        DataError: the images are missing, damaged or empty.
    """
    blob = Blob()
    contents = _describe(session, blob, projection)
    contents |= _programs(session.model, blob) if programs is None else programs
    contents["blob"] = base64.b64encode(blob.content).decode()
    web = files("convae.explorer") / "web"
    script = "\n".join(_without_exports((web / f"{name}.js").read_text("utf-8")) for name in _SCRIPTS)
    page = (web / "page.html").read_text("utf-8")
    for mark, text in (
        ("/*CONNECT*/", "" if programs is None else "connect-src 'self'; "),
        ("/*STYLE*/", (web / "page.css").read_text("utf-8")),
        ("/*SCRIPT*/", script),
        ("/*DATA*/", _as_json(contents)),
    ):
        before, _, after = page.partition(mark)
        page = before + text + after
    return page


def _programs(model: VAE, blob: Blob) -> dict[str, Any]:
    """Decoder and encoder as programs of the page."""
    with _on_cpu(model):
        decoder, encoder = lower(build_graph(model, "decode")), _encoder(model)
    return {
        "decode": decoder.as_json(blob.content),
        "encode": None if encoder is None else encoder.as_json(blob.content),
    }


def _without_exports(script: str) -> str:
    """A script without the lines that only Node needs."""
    return "\n".join(
        line for line in script.splitlines() if not line.startswith(("if (typeof module", "if (typeof require"))
    )


def _as_json(value: Any) -> str:
    """JSON inside of a script element: no text of a user's, such as a class name, can end it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _describe(session: Session, blob: Blob, projection: Map | None) -> dict[str, Any]:
    """Everything that the page holds but the programs, and the vectors in `blob`."""
    model, images = session.model, session.images
    count = most_points(model.latent_layout.size)
    indices = np.arange(len(images))
    if len(images) > count:
        indices = np.sort(numpy_generator(0, "points").choice(len(images), count, replace=False))
    encoding = encode(model, images, indices=indices, progress=session.progress)
    classes = list(images.classes or class_names(range(model.class_count or 0), model.provenance.classes).values())
    prior = isinstance(model.prior, StandardNormal) and not model.is_hierarchical
    points = describe_points(model, encoding, blob, projection)
    return {
        "model": model.name,
        "facts": f"{shape_text(model.input_shape)} images, latent {shape_text(model.latent_shape)}; "
        f"{len(encoding):,} of {len(images):,} {images.source} images ({images.name})",
        "image_shape": list(model.input_shape),
        "latent_size": model.latent_layout.size,
        "classes": classes,
        "is_conditional": model.condition is not None,
        "label": session.label or 0,
        "is_standard_normal": prior,
        **points,
    }


@contextmanager
def _on_cpu(model: VAE) -> Iterator[None]:
    """Moves a model to the CPU inside the block."""
    device = next(model.parameters()).device
    model.to("cpu")
    try:
        yield
    finally:
        model.to(torch.device(device))


def _encoder(model: VAE) -> Program | None:
    """The encoder as a program; None where the page lacks an operation of it."""
    try:
        return lower(build_graph(model, "encode"))
    except ConfigError as error:
        note(f"the page takes no images of your own: {error}", "yellow")
        return None
