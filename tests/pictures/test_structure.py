from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from convae.pictures.save import save
from convae.pictures.structure import structure


@dataclass(frozen=True)
class Layer:
    part: str
    layer: str
    shape: tuple[int, ...]
    parameters: int = 0
    field: tuple[float, ...] = ()


FEW = [
    Layer("encoder", "conv {channels: 8, stride: 2, padding: keras}", (8, 16, 16), 224, (3, 3)),
    Layer("encoder", "relu", (8, 16, 16), 0, (3, 3)),
    Layer("encoder", "flatten", (2048,), 0, (float("inf"), float("inf"))),
    Layer("bottleneck", "gaussian", (4,), 16392),
    Layer("decoder", "linear {features: 3072}", (3072,), 15360),
    Layer("decoder", "unflatten {to: [3, 16, 16]}", (3, 16, 16)),
    Layer("decoder", "conv-transpose {channels: 3, kernel: [5, 3], stride: 2, output_padding: [0, 1]}", (3, 32, 32), 9),
]
BLOCK = "residual-block {channels: 64, norm: {group-norm: {groups: 8}}}"
MANY = [
    *[Layer("encoder", BLOCK, (64, size, size), 1_200_000, (7, 5)) for size in range(40, 20, -1)],
    *[Layer("encoder", BLOCK, (64, 20, 20), 1_200_000, (9, 9))] * 3,
    Layer("bottleneck", "gaussian", (4, 20, 20)),
    *[Layer("decoder", BLOCK, (64, size, size), 1_200_000) for size in range(21, 41)],
]
ALL = [
    Layer("condition", "10 classes with the image", (11, 32, 32), 80),
    Layer("condition", "10 classes with the latent", (12,)),
    *FEW,
    Layer("classifier", "linear {features: 16}", (16,), 80),
    Layer("classifier", "silu", (16,)),
    Layer("classifier", "linear {features: 10}", (10,), 170),
]


def drawn(rows: Sequence[Layer]) -> Figure:
    return structure(rows, input_shape=(3, 32, 32), title="a model")


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.axes[0].texts if text.get_text()]


def test_every_layer_is_told_with_its_figures() -> None:
    written = [text.get_text() for text in texts(drawn(FEW))]
    for wanted in (
        *["a model", "conv stride 2, padding keras", "8×16×16  ·  224  ·  sees 3", "2048  ·  sees all", "linear"],
        *["gaussian bottleneck: latent 4  ·  16.4 k", "3072  ·  15.4 k", "unflatten", "image 3×32×32"],
        "conv-transpose kernel 5×3, stride 2",
    ):
        assert wanted in written


def test_equal_layers_in_a_row_are_one_line_and_what_is_inside_them_is_left_out() -> None:
    written = [text.get_text() for text in texts(drawn(MANY))]
    assert "3 × residual-block" in written
    assert "64×20×20  ·  3.6 M  ·  sees 9" in written
    assert "64×40×40  ·  1.2 M  ·  sees 7×5" in written
    assert written.count("residual-block") == 40


def test_a_list_inside_a_layer_is_told_by_its_names() -> None:
    block = "residual {layers: [silu, {linear: {features: 4}}, silu, {conv: {channels: 4, kernel: [1, 3]}}, tanh]}"
    written = [text.get_text() for text in texts(drawn([Layer("encoder", block, (4,)), *FEW[3:]]))]
    assert "residual of silu, linear, silu, conv, tanh" in written


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
    rows = [Layer("encoder", "flatten", (4,)), Layer("bottleneck", "gaussian", (2,)), Layer("decoder", "linear", (4,))]
    assert texts(structure(rows, input_shape=(1, 4), title="flat"))
