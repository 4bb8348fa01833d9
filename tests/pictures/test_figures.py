from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from convae.core.errors import ConvaeError, DataError, ShapeError
from convae.pictures.curves import curves
from convae.pictures.heat import heat
from convae.pictures.histograms import histograms
from convae.pictures.save import encoded, save
from convae.pictures.scatter import scatter
from convae.pictures.strips import strips

STEPS = np.arange(60)
RANDOM = np.random.default_rng(0)
POINTS = RANDOM.normal(size=(500, 2))
LONG = "a title which goes on and on, so that no line of the usual width could ever hold all the words that it has"


def line(x: object, y: object, **options: object) -> Figure:
    return curves({"loss": {"train": (x, y)}}, x_label="step", **options)  # type: ignore[dict-item, arg-type]


FIGURES: dict[str, Callable[[], Figure]] = {
    "curves": lambda: curves(
        {
            "loss": {"train": (STEPS, STEPS * 2.0), "validation": (STEPS, STEPS * 3.0)},
            "PSNR": {"validation": (STEPS, STEPS / 3)},
            "KL": {"β = 1, a label with many words": (STEPS, STEPS / 3)},
        },
        x_label="step",
        units={"loss": "nats per image", "PSNR": "dB"},
        logarithmic=["loss"],
        stages=[(0, "warm-up"), (3, "the decoder alone"), (4, "everything"), (59, "the end of it")],
        title=LONG,
    ),
    "one point": lambda: line([1], [100.0]),
    "nothing finite": lambda: line([1, 2], [np.nan, np.inf], logarithmic=["loss"]),
    "scatter": lambda: scatter(POINTS, np.arange(500) % 10, x_label="latent 1", y_label="latent 2", title=LONG),
    "one dot": lambda: scatter([[1.0, 2.0]], x_label="latent 1", y_label="latent 2"),
    "thirty classes": lambda: scatter(POINTS, np.arange(500) % 30, x_label="latent 1", y_label="latent 2"),
    "density": lambda: scatter(np.tile(POINTS, (50, 1)), np.arange(25_000) % 3, x_label="a", y_label="b"),
    "plain density": lambda: scatter(np.tile(POINTS, (50, 1)), x_label="a", y_label="b"),
    "one place": lambda: scatter(np.ones((30_000, 2)), x_label="a", y_label="b"),
    "histograms": lambda: histograms({"MNIST": POINTS[:, 0], "another set": [2.0]}, x_label="score (nats)", title=LONG),
    "equal values": lambda: histograms({"a": [1.0, 1.0]}, x_label="score (nats)"),
}


@cache
def png(name: str) -> bytes:
    """A figure's file, as it was first."""
    return encoded(FIGURES[name](), ".png")


@pytest.mark.parametrize("name", FIGURES)
def test_figures_keep_their_ink_on_the_page_and_their_bytes(name: str, tmp_path: Path) -> None:
    assert save(FIGURES[name](), tmp_path / "again.png").read_bytes() == png(name)
    page = np.asarray(Image.open(tmp_path / "again.png").convert("L"))
    border = np.concatenate([page[:3].ravel(), page[-3:].ravel(), page[:, :3].ravel(), page[:, -3:].ravel()])
    assert (border == 255).all()
    assert (page < 128).sum() > 500


def test_svg_bytes_depend_on_the_content_alone(tmp_path: Path) -> None:
    first, second = (save(FIGURES["curves"](), tmp_path / place) for place in ("a.svg", "b.svg"))
    assert first.read_bytes() == second.read_bytes()
    assert b"<svg" in first.read_bytes()


def test_the_users_settings_neither_change_the_look_nor_are_changed(tmp_path: Path) -> None:
    plain = png("curves")
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 30, "axes.facecolor": "black"}):
        settings = dict(mpl.rcParams)
        assert save(FIGURES["curves"](), tmp_path / "own.png").read_bytes() == plain
        assert dict(mpl.rcParams) == settings


def test_threads_may_draw_at_the_same_time(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda place: save(FIGURES["one point"](), tmp_path / f"{place}.png"), range(5)))
    assert {path.read_bytes() for path in paths} == {png("one point")}


def test_train_and_validation_keep_their_colors_whatever_stands_beside_them() -> None:
    few = curves({"loss": {"train": (STEPS, STEPS)}}, x_label="step")
    many = curves(
        {"loss": {"test": (STEPS, STEPS), "validation": (STEPS, STEPS), "train": (STEPS, STEPS)}}, x_label="step"
    )
    colors = [drawn.get_color() for drawn in many.axes[0].get_lines() if len(drawn.get_xdata()) > 0]  # type: ignore[arg-type]
    assert len(set(colors)) == 3
    assert few.axes[0].get_lines()[0].get_color() == colors[-1]


def test_a_long_line_is_thinned_and_keeps_its_peak_and_its_gap() -> None:
    y = np.sin(np.arange(100_000) / 500)
    y[70_123] = 50
    y[20_000:30_000] = np.nan
    drawn = line(np.arange(100_000), y).axes[0].get_lines()[0]
    x, shown = np.asarray(drawn.get_xdata()), np.asarray(drawn.get_ydata())
    assert len(x) < 4000
    assert shown[x == 70_123] == 50
    assert np.isnan(shown[(x >= 20_000) & (x < 30_000)]).all()
    assert np.isnan(shown).any()
    assert (x[0], x[-1]) == (0, 99_999)


def test_a_point_between_gaps_is_a_dot() -> None:
    dots = line([1, 2, 3, 4, 5], [1, 2, np.nan, 4, np.nan]).axes[0].get_lines()[1]
    assert np.asarray(dots.get_xdata()).tolist() == [4]


def test_a_logarithmic_panel_leaves_out_what_it_cannot_show() -> None:
    axes = line([1, 2, 3], [10, -1, 1], logarithmic=["loss"]).axes[0]
    assert axes.get_yscale() == "log"
    assert np.isnan(np.asarray(axes.get_lines()[0].get_ydata())).tolist() == [False, True, False]
    assert {"1", "10"} <= {label.get_text() for label in axes.get_yticklabels()}


def test_units_and_names_are_on_the_axes() -> None:
    axes = FIGURES["curves"]().axes
    assert [place.get_title() for place in axes] == ["loss", "PSNR", "KL"]
    assert [place.get_ylabel() for place in axes] == ["nats per image", "dB", ""]
    assert {text.get_text() for text in axes[0].texts} == {
        "warm-up",
        "the decoder alone",
        "everything",
        "the end of it",
    }


def test_names_of_neighboring_stages_do_not_overlap() -> None:
    figure = FIGURES["curves"]()
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(box.overlaps(other) for box in boxes for other in boxes if box is not other)


def test_ten_classes_have_ten_colors_and_markers() -> None:
    legend = FIGURES["scatter"]().legends[0]
    looks = [(handle.get_color(), handle.get_marker()) for handle in legend.legend_handles]  # type: ignore[union-attr]
    assert len({color for color, _ in looks}) == len({marker for _, marker in looks}) == 10


@pytest.mark.parametrize("name", ["scatter", "curves", "histograms"])
def test_neither_title_nor_data_touch_the_legend(name: str) -> None:
    figure = FIGURES[name]()
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    (title,) = (text.get_window_extent() for text in figure.texts if text.get_text() == figure.get_suptitle())
    assert not box.overlaps(title)
    assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)
    assert title.x1 < figure.bbox.x1


def test_classes_can_have_names() -> None:
    figure = scatter(POINTS, np.arange(500) % 2, names={1: "boot"}, x_label="a", y_label="b")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0", "boot"]


@pytest.mark.parametrize(("classes", "least"), [(10, 5), (30, 2)])
def test_the_names_of_classes_lie_inside_and_off_each_other(classes: int, least: int) -> None:
    words = {number: f"a long name {number}" for number in range(30)}
    which = np.arange(500) % classes
    points = POINTS + 12 * np.stack([np.cos(which), np.sin(2 * which)], axis=1)
    figure = scatter(points, which, names=words, x_label="a", y_label="b")
    figure.draw_without_rendering()
    inside = figure.axes[0].get_window_extent()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_visible()]
    assert len(boxes) >= least
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes)
    assert all(inside.y0 <= box.y0 and box.y1 <= inside.y1 for box in boxes)


def test_only_classes_that_lie_apart_are_named_in_the_plane() -> None:
    which = np.arange(500) % 3
    figure = scatter(POINTS + 30 * (which == 2)[:, None], which, x_label="a", y_label="b")
    assert [text.get_text() for text in figure.axes[0].texts if text.get_visible()] == ["2"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0", "1", "2"]


def test_strips_show_every_class_of_one_value() -> None:
    figure = strips(POINTS[:, 0], np.arange(500) % 2, names={0: "cat", 1: "dog"}, x_label="latent value 0")
    above, below = figure.axes
    assert [text.get_text() for text in below.get_yticklabels()] == ["cat", "dog"]
    assert sum(patch.get_data().values.sum() for patch in above.patches if not patch.get_fill()) == 500  # type: ignore[attr-defined]
    assert sum(len(np.asarray(points.get_offsets())) for points in below.collections) == 500


def test_strips_list_every_class_beside_the_plots() -> None:
    figure = strips(POINTS[:, 0], np.arange(500) % 3, names={0: "_cat", 1: "dog", 2: "w " * 99}, x_label="a")
    figure.draw_without_rendering()
    legend = figure.legends[0]
    names = [text.get_text() for text in legend.get_texts()]
    assert (names[0].strip(), names[1]) == ("_cat", "dog")
    assert len(names[2]) <= 40
    assert not any(legend.get_window_extent().overlaps(axes.get_window_extent()) for axes in figure.axes)


def test_a_long_name_leaves_the_points_most_of_the_figure() -> None:
    name = "a name of a class that is longer than any that was ever thought of, and then some more"
    figure = scatter(POINTS, np.arange(500) % 2, names={0: name}, x_label="a", y_label="b")
    figure.draw_without_rendering()
    assert figure.axes[0].get_window_extent().width > 0.5 * figure.bbox.width
    (first, _) = (text.get_text() for text in figure.legends[0].get_texts())
    assert (first[:20], first[-9:]) == (name[:20], name[-9:])


def test_each_set_of_a_histogram_adds_up_to_one() -> None:
    axes = histograms({"few": POINTS[:7, 0], "many": POINTS[:, 1]}, x_label="score (nats)").axes[0]
    fractions = {patch.get_label(): patch.get_data().values.sum() for patch in axes.patches}  # type: ignore[attr-defined]
    assert fractions["few (n = 7)"] == pytest.approx(1)
    assert fractions["many (n = 500)"] == pytest.approx(1)


def test_heat_rises_from_black_to_bright() -> None:
    colors = heat(np.linspace(0, 2, 30).reshape(1, 5, 6), top=1.0)
    assert colors.shape == (1, 3, 5, 6)
    brightness = colors.sum(axis=1).ravel()
    assert brightness[0] < 0.1
    assert (np.diff(brightness) >= 0).all()
    assert brightness[-1] == brightness[15] > 2
    assert heat(np.zeros((1, 2, 2))).max() < 0.1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: curves({}, x_label="step"), DataError, "at least one panel"),
        (lambda: curves({"a": {}}, x_label="step"), DataError, "at least one line"),
        (lambda: line([1, 2], [1]), DataError, "panel 'loss', line 'train'.*same length"),
        (lambda: scatter(np.ones((3, 3)), x_label="a", y_label="b"), ShapeError, r"\(point, 2\)"),
        (lambda: scatter(np.ones((0, 2)), x_label="a", y_label="b"), DataError, "at least one point"),
        (lambda: scatter(POINTS, [1], x_label="a", y_label="b"), ShapeError, "500 labels"),
        (lambda: scatter(POINTS, range(500), x_label="a", y_label="b"), DataError, "at most 30 classes"),
        (lambda: histograms({}, x_label="a"), DataError, "at least one set"),
        (lambda: histograms({"x": []}, x_label="a"), DataError, "'x'"),
        (lambda: heat(-np.ones((1, 2, 2))), DataError, "at least 0"),
        (lambda: heat(np.ones((2, 2))), ShapeError, "two or three sizes"),
        (lambda: strips(np.full(3, np.nan), x_label="a"), DataError, "finite"),
        (lambda: strips(np.ones(0), x_label="a"), DataError, "at least one value"),
        (lambda: strips(np.ones(3), [1], x_label="a"), ShapeError, "3 labels"),
        (lambda: strips(np.ones(99), range(99), x_label="a"), DataError, "got 99"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_sentence(
    call: Callable[[], object], error: type[ConvaeError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
