"""Slices and tiles of large images, for commands that encode and decode."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from convae.cli._parsing import byte_count, image_size
from convae.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from convae.model.vae import VAE


@dataclass(frozen=True)
class LargeImageOptions:
    """How large images are computed."""

    panel: ClassVar = "Large images"
    size: Annotated[
        str | None,
        typer.Option(
            help="Size of the images, such as 2048 or 1024x2048: others than the model's that fit its strides.",
            show_default="the model's",
        ),
    ] = None
    slices: Annotated[
        str | None,
        typer.Option(
            help="Exact, with less memory: a number of rows per slice, auto, or off.",
            show_default="auto: slices where an image takes more than --memory",
        ),
    ] = None
    tiles: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE[:OVERLAP]",
            help="Approximate: blend overlapping tiles, and print how far they are from the exact result.",
            show_default=False,
        ),
    ] = None
    memory: Annotated[
        str | None,
        typer.Option(help="Memory of slices and their feature maps, such as 4GiB.", show_default="a quarter"),
    ] = None

    @property
    def is_divided(self) -> bool:
        """Whether slices or tiles are asked for."""
        return (self.slices is not None and self.slices != "off") or self.tiles is not None or self.memory is not None

    def image_size(self) -> list[int] | int | None:
        """The sizes of the images; None for those of the model."""
        return None if self.size is None else image_size(self.size)

    def apply(self, model: VAE) -> None:
        """Sets slices or tiles of a model.

        Raises:
            ConfigError: an option cannot be read, two exclude each other, or the model does not support it.
        """
        memory = self._bytes()
        if self.tiles is not None:
            if self.slices is not None:
                raise ConfigError("--slices is exact and --tiles is approximate: give one of them")
            model.use_tiles(*_tile_numbers(self.tiles))
        elif self.slices is None:
            if {"encoder", "decoder"} <= set(model.networks):
                model.use_slices("auto", memory=memory)
        elif self.slices in ("auto", "off"):
            model.use_slices("auto" if self.slices == "auto" else None, memory=memory)
        elif self.slices.isascii() and self.slices.isdecimal():
            model.use_slices(int(self.slices), memory=memory)
        else:
            raise ConfigError(f"--slices: expected a number of rows, auto or off, got '{self.slices}'")

    def report(self, model: VAE, compute: Callable[[], Tensor], what: str) -> None:
        """Prints how far tiles are from the exact result; nothing without tiles.

        Args:
            model: to which the options were applied.
            compute: computes one image, or its latent.
            what: `image` or `latent`.
        """
        if self.tiles is None:
            return
        from convae.cli._screen import notes
        from convae.latents.tiling import measure_tiles

        size, overlap = _tile_numbers(self.tiles)
        found = measure_tiles(model, compute, size=size, overlap=overlap, memory=self._bytes())
        scale = f"PSNR {found.psnr:.1f} dB" if what == "image" else f"standard deviation of the latent {found.std:.3g}"
        notes.print(
            f"tiles of {size} with an overlap of {overlap} are approximate: the first {what} differs from the exact "
            f"one by {found.mean:.2g} on average and {found.largest:.2g} at most ({scale})",
            soft_wrap=True,
            style="yellow",
        )

    def _bytes(self) -> int | None:
        return None if self.memory is None else byte_count(self.memory)


def _tile_numbers(text: str) -> tuple[int, int]:
    """Size and overlap, 0 by default.

    Raises:
        ConfigError: the text is something else.
    """
    found = re.fullmatch(r"([1-9]\d{0,6})(?::(\d{1,7}))?", text)
    if found is None:
        raise ConfigError(f"--tiles: expected SIZE or SIZE:OVERLAP, such as 512:64, got '{text}'")
    return int(found[1]), int(found[2] or 0)
