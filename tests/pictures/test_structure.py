from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from convae.core.description import LayerKind
from convae.pictures.save import save
from convae.pictures.structure import draw_structure


@dataclass(frozen=True)
class Layer:
    part: str
    label: str
    kind: LayerKind
    shape: tuple[int, ...]
    parameters: int = 0
    receptive_field: tuple[float, ...] = ()


FEW = [
    Layer("encoder", "conv stride 2, padding keras", "resizing", (8, 16, 16), 224, (3, 3)),
    Layer("encoder", "relu", "parameter-free", (8, 16, 16), 0, (3, 3)),
    Layer("encoder", "flatten", "vector", (2048,), 0, (float("inf"), float("inf"))),
    Layer("bottleneck", "gaussian", "latent", (4,), 16392),
    Layer("decoder", "linear", "vector", (3072,), 15360),
    Layer("decoder", "unflatten", "parameter-free", (3, 16, 16)),
    Layer("decoder", "conv-transpose kernel 5×3, stride 2", "resizing", (3, 32, 32), 9),
]
BLOCK = "residual-block"
MANY = [
    *[Layer("encoder", BLOCK, "resizing", (64, size, size), 1_200_000, (7, 5)) for size in range(40, 20, -1)],
    *[Layer("encoder", BLOCK, "resizing", (64, 20, 20), 1_200_000, (9, 9))] * 3,
    Layer("bottleneck", "gaussian", "latent", (4, 20, 20)),
    *[Layer("decoder", BLOCK, "resizing", (64, size, size), 1_200_000) for size in range(21, 41)],
]
ALL = [
    Layer("condition", "10 classes with the image", "size-keeping", (11, 32, 32), 80),
    Layer("condition", "10 classes with the latent", "vector", (12,)),
    *FEW,
    Layer("classifier", "linear", "vector", (16,), 80),
    Layer("classifier", "silu", "vector", (16,)),
    Layer("classifier", "linear", "vector", (10,), 170),
]


def drawn(rows: Sequence[Layer]) -> Figure:
    return draw_structure(rows, input_shape=(3, 32, 32), title="a model")


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.axes[0].texts if text.get_text()]


def test_every_layer_has_its_numbers() -> None:
    written = [text.get_text() for text in texts(drawn(FEW))]
    for wanted in (
        *["a model", "conv stride 2, padding keras", "8×16×16  ·  224  ·  sees 3", "2048  ·  sees all", "linear"],
        *["gaussian bottleneck: latent 4  ·  16.4 k", "3072  ·  15.4 k", "unflatten", "image 3×32×32"],
        "conv-transpose kernel 5×3, stride 2",
    ):
        assert wanted in written


def test_equal_layers_in_a_row_are_one_line() -> None:
    written = [text.get_text() for text in texts(drawn(MANY))]
    assert "3 × residual-block" in written
    assert "64×20×20  ·  3.6 M  ·  sees 9" in written
    assert "64×40×40  ·  1.2 M  ·  sees 7×5" in written
    assert written.count("residual-block") == 40


def test_a_condition_is_drawn_on_both_sides_and_a_classifier_under_the_latent() -> None:
    labels = {text.get_text(): text.get_position() for text in texts(drawn(ALL))}
    (_, image), (_, first) = labels["10 classes with the image"], labels["conv stride 2, padding keras"]
    (_, latent), (_, top) = labels["10 classes with the latent"], labels["conv-transpose kernel 5×3, stride 2"]
    (_, bottleneck), (_, classes) = labels["gaussian bottleneck: latent 4  ·  16.4 k"], labels["class, one of 10"]
    assert image > first
    assert top > latent > bottleneck > labels["silu"][1] > classes


@pytest.mark.parametrize("rows", [FEW, MANY, ALL], ids=["few", "many", "all"])
def test_no_two_texts_overlap_and_none_leaves_the_picture(rows: Sequence[Layer]) -> None:
    figure = drawn(rows)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in texts(figure)]
    page = figure.bbox
    for place, box in enumerate(boxes):
        assert page.x0 <= box.x0 < box.x1 <= page.x1
        assert page.y0 <= box.y0 < box.y1 <= page.y1
        assert not any(box.overlaps(other) for other in boxes[:place])


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_equal_models_give_equal_files(suffix: str, tmp_path: Path) -> None:
    first, second = (save(drawn(FEW), tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
    assert first == second
    if suffix == ".png":
        with Image.open(tmp_path / f"a{suffix}") as picture:
            assert picture.width > 1500


def test_a_model_without_axes_is_drawn_too() -> None:
    rows = [
        Layer("encoder", "flatten", "vector", (4,)),
        Layer("bottleneck", "gaussian", "latent", (2,)),
        Layer("decoder", "linear", "vector", (4,)),
    ]
    assert texts(draw_structure(rows, input_shape=(1, 4), title="flat"))
