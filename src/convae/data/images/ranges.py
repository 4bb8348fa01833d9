"""The range of image values, and their mapping to [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import AfterValidator

from convae.core.errors import DataError
from convae.data.images.pixels import ROUNDING, Kind, Pixels, as_kind

if TYPE_CHECKING:
    from convae.data.images.headers import Header

DIM = 0.5
"""If all images of a type use less than this fraction of its range, the range is probably wrong."""
_SLIVER = {8: 1 / 16, 16: 0.26, 32: 1 / 16}
"""As `DIM`, for single images, by bit depth; of 16 bits, cameras use 10 to 14."""
_FEW = 15
"""Values up to this number are counts or classes, such as masks; larger ones use a number of bits."""


def _ascending(value: tuple[float, float]) -> tuple[float, float]:
    if not (math.isfinite(value[0]) and math.isfinite(value[1]) and value[0] < value[1]):
        raise ValueError("must be two ascending numbers, such as [0, 4095]")
    return value


ValueRange = Annotated[tuple[float, float], AfterValidator(_ascending)]
"""The values mapped to 0 and 1."""


class Facts(NamedTuple):
    """Facts about an original image, before its conversion for the store.

    Attributes:
        bits: bit depth of the file.
        low, high: smallest and largest value in the file, without alpha.
        bottom, top: the values mapped to 0 and 1.
        left_out: number of unused pages of the file.
        transparent: whether the image has transparency.
    """

    bits: int
    low: float
    high: float
    bottom: float
    top: float
    left_out: int = 0
    transparent: bool = False


def common_kind(kinds: set[Kind], channels: set[int]) -> Kind:
    """The type in which images of several types are stored: the widest for gray images, the narrowest for colors."""
    order: list[Kind] = ["uint8", "uint16", "float32"]
    choose = min if channels - {1} else max
    return order[choose(order.index(kind) for kind in kinds)]


def raw_values(image: Image.Image | NDArray[Any]) -> Image.Image | NDArray[Any]:
    """Converts a gray Pillow image of more than 8 bits to an array (height, width, 1); others are unchanged."""
    if isinstance(image, Image.Image) and (image.mode in {"I", "F"} or image.mode.startswith("I;16")):
        return np.array(image)[..., None]
    return image


def measure(pixels: Image.Image | NDArray[Any], header: Header | None, span: tuple[float, float] | None) -> Facts:
    """The facts about an image from a source.

    Args:
        pixels: result of `raw_values`.
        header: header of its file; None if the type of the values is sufficient.
        span: the configured range.
    """
    bits = pixels.dtype.itemsize * 8 if isinstance(pixels, np.ndarray) else 8
    bits, transparent = (bits, False) if header is None else (header.bits, header.transparent)
    low, high = _extremes(pixels)
    if _was_cut(pixels, bits):
        low, high = low * 257, high * 257
    bottom, top = _span(pixels, bits, span)
    return Facts(bits, low, high, bottom, top, 0, transparent)


def spread(
    pixels: Image.Image | NDArray[Any], bits: int | None, span: tuple[float, float] | None, kind: Kind
) -> Image.Image | Pixels:
    """Rescales the values of an image to the range of a type.

    Args:
        pixels: result of `raw_values`.
        bits: bit depth of the file; None for that of the type.
        span: the values mapped to 0 and 1; by default the range of the type. An image of a narrower type keeps the
            range of its type.
        kind: the resulting type.

    Raises:
        DataError: values outside of the range, or the type has no range.
    """
    bits = bits or (pixels.dtype.itemsize * 8 if isinstance(pixels, np.ndarray) else 8)
    bottom, top = _span(pixels, bits, span)
    if isinstance(pixels, Image.Image):
        if (bottom, top) == _own(pixels, 8) or (span is None and _was_cut(pixels, bits)):
            return pixels
        image = (
            pixels
            if pixels.mode in {"L", "RGB"}
            else pixels.convert("L" if len(pixels.getbands()) == 1 and pixels.mode != "P" else "RGB")
        )
        values: NDArray[Any] = np.array(image).reshape(image.height, image.width, -1)
        pixels = values.astype(np.uint16) * np.uint16(257) if _was_cut(image, bits) else values
    if pixels.dtype == np.bool_ or (pixels.dtype in (np.uint8, np.uint16) and (bottom, top) == _own(pixels, 16)):
        return as_kind(np.ascontiguousarray(pixels), kind)
    low, high = pixels.min(), pixels.max()
    slack = ROUNDING * (top - bottom) if np.issubdtype(pixels.dtype, np.floating) else 0
    if not (low >= bottom - slack and high <= top + slack):
        if np.isnan(low) or np.isnan(high):
            raise DataError("contains NaN")
        remedy = (
            "Set the option `range` of the source, such as range: [-1, 1]"
            if span is None
            else "Widen the option `range` of the source"
        )
        raise DataError(f"contains values from {low:.9g} to {high:.9g}, outside of [{bottom:g}, {top:g}]. {remedy}")
    scaled = pixels if (bottom, top) == (0, 1) else (pixels.astype(np.float64) - bottom) / (top - bottom)
    return as_kind(np.ascontiguousarray(scaled, np.float32), kind)


def _was_cut(pixels: Image.Image | NDArray[Any], bits: int) -> bool:
    """Whether Pillow truncated colors to 8 bits."""
    return isinstance(pixels, Image.Image) and bits > 8  # a byte


def _own(pixels: Image.Image | NDArray[Any], bits: int) -> tuple[float, float]:
    """The range of the type of an image."""
    if isinstance(pixels, Image.Image):
        return (0, 65535) if _was_cut(pixels, bits) else (0, 255)
    if pixels.dtype == np.bool_ or np.issubdtype(pixels.dtype, np.floating):
        return (0, 1)
    if pixels.dtype == np.uint8:
        return (0, 255)
    if pixels.dtype in (np.int8, np.int16):
        return (0, int(np.iinfo(pixels.dtype).max))
    return (0, 2**bits - 1 if 8 < bits < 16 else 65535)


def _span(pixels: Image.Image | NDArray[Any], bits: int, span: tuple[float, float] | None) -> tuple[float, float]:
    """The values mapped to 0 and 1."""
    own = _own(pixels, bits)
    if span is None:
        return own
    small = isinstance(pixels, Image.Image) or pixels.dtype in (np.uint8, np.uint16)
    return own if small and span[1] > own[1] else span


def _extremes(pixels: Image.Image | NDArray[Any]) -> tuple[float, float]:
    """The smallest and largest value, without alpha."""
    if isinstance(pixels, np.ndarray):
        return float(pixels.min()), float(pixels.max())
    image = pixels.convert("RGB") if pixels.mode in {"P", "PA"} else pixels
    found: Any = image.getextrema()
    if len(image.getbands()) == 1:
        found = (found,)
    bands = [extremes for band, extremes in zip(image.getbands(), found, strict=True) if band not in {"A", "a"}]
    return float(min(low for low, _ in bands)), float(max(high for _, high in bands))


def range_notes(facts: NDArray[Any], source: str, kind: Kind, key: Callable[[int], str]) -> list[str]:
    """Notes on the values of images for the user, one sentence each.

    Covers images that use a small part of the range, several bit depths, reduced bit depths, and unused pages.

    Args:
        facts: (images,) records of `FACTS`.
        source: name of the data set.
        kind: the type of the stored values.
        key: the name of an image by its position.
    """
    notes: list[str] = []
    kinds = {
        (bits, bottom, top): (facts["bits"] == bits) & (facts["bottom"] == bottom) & (facts["top"] == top)
        for bits, bottom, top in np.unique(facts[["bits", "bottom", "top"]]).tolist()
    }
    for (bits, bottom, top), chosen in kinds.items():
        found = _slivers(facts["low"], facts["high"], chosen, bits, bottom, top)
        if found.any():
            notes.append(_sliver_note(facts, source, key, found, int(chosen.sum()), (bits, bottom, top)))
    depths = {int(bits): int((facts["bits"] == bits).sum()) for bits in np.unique(facts["bits"])}
    if len(depths) > 1:
        listed = ", ".join(f"{count:,} of {bits} bits" for bits, count in depths.items())
        notes.append(f"images of several bit depths, each scaled by its own range: {listed}")
    stored = 8 * np.dtype(kind).itemsize
    needed = np.where(facts["top"] <= 1, facts["bits"], np.log2(facts["top"] - facts["bottom"] + 1))
    cut = (needed > stored) & (facts["bits"] > stored)
    if cut.any() and kind != "float32":
        notes.append(
            f"{_count(cut)} more than {stored} bits per value and are stored with {stored}, such as"
            f" {key(int(cut.argmax()))}"
        )
    left_out = facts["left_out"]
    if left_out.any():
        of, first = int(left_out.sum()) + len(facts), key(int((left_out > 0).argmax()))
        has_pages = source.partition(" ")[0] != "hugging-face"
        remedy = (
            "use the option `pages: all`, volume or channels" if has_pages else "use a `folder` source with the files"
        )
        notes.append(
            f"{int(left_out.sum()):,} of {of:,} pages are unused: only the first page of multi-page files, such as"
            f" {first}, is read; to read all, {remedy}"
        )
    return notes


def _slivers(
    low: NDArray[np.float64], high: NDArray[np.float64], chosen: NDArray[np.bool_], bits: int, bottom: float, top: float
) -> NDArray[np.bool_]:
    """Which images of a type use a small part of its range: all of them, or single ones."""
    reach = high[chosen].max() - low[chosen].min()
    given = top not in {1, 255, 65535, 2**bits - 1}
    if bits == 1 or reach == 0 or given:
        return np.zeros_like(chosen)
    if reach < DIM * (top - bottom):
        return chosen
    limit = _SLIVER.get(bits, _SLIVER[16]) * (top - bottom)
    found = chosen & (high - bottom <= limit)
    return found if (high > low)[found].any() else np.zeros_like(chosen)


def _sliver_note(
    facts: NDArray[Any],
    source: str,
    key: Callable[[int], str],
    found: NDArray[np.bool_],
    of: int,
    own_range: tuple[int, float, float],
) -> str:
    bits, bottom, top = own_range
    low, high = float(facts["low"][found].min()), float(facts["high"][found].max())
    count = int(found.sum())
    which = f"all {count:,}" if count == of == len(facts) else f"{count:,} of {len(facts):,}"
    first = key(int((found & (facts["high"] > facts["low"])).argmax()))
    ending = "" if count < of or low <= bottom else f"{low:g} to "
    given = f"{{{source.partition(' ')[0]}: {{path: ..., range: {list(_suggested(low, high, top))}}}}}"
    return (
        f"{which} images have {bits} bits per value, but values {ending or 'up to '}{high:g} of {top:g} only, such as"
        f" {first}. To rescale them, set the range of the source, as in {given}"
    )


def _suggested(low: float, high: float, top: float) -> tuple[float, float]:
    """The range of the values, rounded up to a number of bits for integers."""
    if top <= 1:
        return (0 if low < high / 2 else math.floor(low * 100) / 100), math.ceil(high * 100) / 100
    whole = int(high) if high <= _FEW else 2 ** math.ceil(math.log2(high + 1)) - 1
    return (0 if low < high / 2 else int(low)), (whole if whole < top else int(high))


def _count(found: NDArray[np.bool_]) -> str:
    count = int(found.sum())
    return f"all {count:,} images have" if count == len(found) else f"{count:,} of {len(found):,} images have"


FACTS = np.dtype(
    [
        ("bits", "u1"),
        ("low", "f8"),
        ("high", "f8"),
        ("bottom", "f8"),
        ("top", "f8"),
        ("left_out", "i4"),
        ("transparent", "?"),
    ]
)
"""Record type of `Facts` in the store."""


def fact_array(facts: Sequence[Sequence[Any]]) -> NDArray[Any]:
    """(images,) records of `FACTS`."""
    return np.array([tuple(each) for each in facts], FACTS)
