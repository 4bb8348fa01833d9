"""Pictures of a card: reconstructions of several models side by side, and power spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from convae.data import Split
from convae.data.image_set import evenly_spaced
from convae.evaluation.card.card import Card
from convae.latents.error_maps import ErrorMaps, map_errors
from convae.model.inputs import unchecked_values
from convae.model.vae import VAE
from convae.pictures.grid import compare
from convae.pictures.heat import heat

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

SHOWN = 6
"""Number of images."""
ENLARGED, LEAST_CROP = 4, 16
"""Largest factor of the enlarged crops, and their smallest size in pixels, to which the factor is reduced."""
CLIPPED = 0.995
"""Fraction of the errors that the scale of the error maps covers."""


@unchecked_values()
def choose_error_maps(model: VAE, split: Split) -> ErrorMaps:
    """Reconstructions and error maps of evenly spaced images of a split, the same for every model."""
    return map_errors(model, split, torch.from_numpy(evenly_spaced(len(split), SHOWN)))


def draw_comparison(maps: Mapping[str, ErrorMaps], *, title: str | None = None) -> Image:
    """Images, the reconstructions of each model, error maps on a common scale, and enlarged crops.

    The crop of an image is where the sum of the squared errors of all models is largest. Signals and volumes have no
    crops, and signals are drawn over the originals instead of error maps.

    Args:
        maps: error maps of the same images by name of the model.
        title: title, to which the scale of the error maps is added.
    """
    first = next(iter(maps.values()))
    sizes = first.images.shape[2:]
    rows: dict[str, Any] = {"image": first.images}
    top = float(torch.quantile(torch.cat([own.errors.flatten()[:: _step(maps)] for own in maps.values()]), CLIPPED))
    for name, own in maps.items():
        rows[name] = own.reconstructions.clamp(0, 1)
        if len(sizes) > 1:
            rows[f"{name}: error"] = heat(own.errors, top=top)
    factor = min(ENLARGED, min(sizes) // LEAST_CROP)
    if len(sizes) == 2 and factor > 1:
        corners = _worst_corners(maps, factor)
        rows[f"image, {factor}×"] = _enlarged(first.images, corners, factor)
        for name, own in maps.items():
            rows[f"{name}, {factor}×"] = _enlarged(own.reconstructions.clamp(0, 1), corners, factor)
    scale = f"errors from 0 (black) to {top:.2g} (yellow)" if len(sizes) > 1 else ""
    return compare(rows, columns=SHOWN, title="; ".join(filter(None, [title, scale])))


def _step(maps: Mapping[str, ErrorMaps]) -> int:
    """Step between the errors whose quantile is taken: torch.quantile is limited to 16 million values."""
    return 1 + sum(own.errors.numel() for own in maps.values()) // 8_000_000


def _worst_corners(maps: Mapping[str, ErrorMaps], factor: int) -> list[tuple[int, int]]:
    """The upper left corner of the crop of each image."""
    total = torch.stack([own.errors.square() for own in maps.values()]).sum(0)
    height, width = (-(-size // factor) for size in total.shape[1:])
    sums = torch.nn.functional.avg_pool2d(total[:, None], (height, width), stride=1)[:, 0]
    return [divmod(int(each.flatten().argmax()), each.shape[1]) for each in sums]


def _enlarged(images: Tensor, corners: Sequence[tuple[int, int]], factor: int) -> Tensor:
    """Crops at some corners, enlarged to the size of the images without interpolation."""
    height, width = images.shape[2:]
    tall, wide = (-(-size // factor) for size in (height, width))
    pairs = zip(images, corners, strict=True)
    crops = torch.stack([image[:, top : top + tall, left : left + wide] for image, (top, left) in pairs])
    return crops.repeat_interleave(factor, 2).repeat_interleave(factor, 3)[:, :, :height, :width]


def draw_spectra(cards: Sequence[Card], names: Sequence[str]) -> Figure | None:
    """Power spectra of the images and of the latents of each card; None without any.

    Args:
        cards: the cards.
        names: what to call them.
    """
    lines: dict[str, dict[str, list[float]]] = {}
    for card, name in zip(cards, names, strict=True):
        if "image" in card.spectra:
            lines.setdefault("images", card.spectra["image"])
        if "latent" in card.spectra:
            lines[f"latents of {name}"] = card.spectra["latent"]
    if not lines:
        return None
    from convae.pictures.spectra import spectra

    return spectra(
        {name: (line["frequency"], line["power"]) for name, line in lines.items()},
        x_label="frequency (fraction of the Nyquist frequency)",
        y_label="power (mean of each channel: 1)",
    )
