"""Interpolation, translation, traversal and manifolds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convae.core.errors import ConfigError, DataError, ShapeError
from convae.core.random import torch_generator
from convae.latents import (
    Encoding,
    build_latent_grid,
    find_class_direction,
    find_direction,
    interpolate,
    interpolate_path,
    kl_per_dimension,
    rank_by_kl,
    translate,
    traverse,
)
from convae.latents.traversals import find_principal_directions


def latents(count: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch_generator(seed, "ways"), dtype=torch.float64)


def encoding(mean: torch.Tensor, logvar: torch.Tensor | None = None) -> Encoding:
    return Encoding(mean, torch.zeros_like(mean) if logvar is None else logvar, None, [""] * len(mean))


@given(st.integers(0, 99), st.integers(2, 9), st.sampled_from(["lerp", "slerp"]))
def test_both_ends_are_exact(seed: int, steps: int, mode: str) -> None:
    a, b = latents(4, 3, 2, seed=seed).float(), latents(4, 3, 2, seed=seed + 1).float()
    way = interpolate(a, b, steps, mode=mode)  # type: ignore[arg-type]
    assert way.shape == (4, steps, 3, 2)
    assert torch.equal(way[:, 0], a)
    assert torch.equal(way[:, -1], b)


def test_steps_of_a_straight_way_are_equal() -> None:
    way = interpolate(latents(3, 5), latents(3, 5, seed=1), 6)
    hops = way.diff(dim=1)
    torch.testing.assert_close(hops, hops[:, :1].expand_as(hops))


def test_steps_along_a_circle_have_equal_angles_and_keep_the_length() -> None:
    a, b = torch.tensor([[2.0, 0, 0]]), torch.tensor([[0, 2.0, 0]])
    way = interpolate(a, b, 4, mode="slerp")[0]
    torch.testing.assert_close(way.norm(dim=1), torch.full((4,), 2.0))
    angles = torch.atan2(way[:, 1], way[:, 0])
    torch.testing.assert_close(angles, torch.linspace(0, math.pi / 2, 4))


@pytest.mark.parametrize("end", [[1.0, 0.0], [3.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
def test_ends_on_one_line_take_the_straight_way(end: list[float]) -> None:
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([end])
    torch.testing.assert_close(interpolate(a, b, 5, mode="slerp"), interpolate(a, b, 5))


def test_a_way_through_several_points_meets_each_once() -> None:
    points = latents(4, 3)
    way = interpolate_path(points, 5)
    assert len(way) == 3 * 4 + 1
    assert torch.equal(way[::4], points)
    assert len(way.unique(dim=0)) == len(way)


def test_ways_that_cannot_be() -> None:
    with pytest.raises(ShapeError, match="1×3 and 1×2"):
        interpolate(latents(1, 3), latents(1, 2), 3)
    with pytest.raises(ConfigError, match="at least 2 steps, got 1"):
        interpolate(latents(1, 3), latents(1, 3), 1)
    with pytest.raises(ConfigError, match="at least two points"):
        interpolate_path(latents(1, 3), 3)


def test_the_direction_of_pairs_is_their_mean_difference() -> None:
    before, after = latents(6, 2, 3), latents(6, 2, 3, seed=1)
    torch.testing.assert_close(find_direction(before, after), (after - before).mean(0))


def test_a_direction_by_labels_leads_from_one_class_to_the_other() -> None:
    z = torch.tensor([[0.0, 0.0], [2.0, 0.0], [5.0, 5.0], [9.0, 9.0]])
    labels = torch.tensor([0, 0, 1, -1])
    torch.testing.assert_close(find_class_direction(z, labels, 1, 0), torch.tensor([4.0, 5.0]))
    torch.testing.assert_close(find_class_direction(z, labels, 1), torch.tensor([4.0, 5.0]))
    with pytest.raises(DataError, match="no image has the label 7"):
        find_class_direction(z, labels, 7)
    with pytest.raises(DataError, match="with and without"):
        find_direction(z[:0], z)
    with pytest.raises(DataError, match="same mean"):
        find_direction(z, z.flip(0))


def test_a_translation_of_strength_nought_changes_nothing() -> None:
    z, by = latents(3, 4), latents(1, 4)[0]
    moved = translate(z, by, [-1, 0, 2])
    assert torch.equal(moved[:, 1], z)
    torch.testing.assert_close(moved[:, 2] - z, (2 * by).expand(3, 4))


def test_information_is_the_kl_of_each_value() -> None:
    mean, logvar = latents(9, 3), latents(9, 3, seed=1)
    given = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    wanted = torch.distributions.kl_divergence(given, torch.distributions.Normal(torch.zeros(3), torch.ones(3)))
    torch.testing.assert_close(kl_per_dimension(encoding(mean, logvar)), wanted.double().mean(0))


def test_a_traversal_changes_one_value_a_row_and_the_most_telling_first() -> None:
    images = encoding(latents(500, 4) * torch.tensor([0.1, 3.0, 0.5, 1.0]))
    values = rank_by_kl(images)
    assert values.tolist() == [1, 3, 2, 0]
    start = torch.zeros(4, dtype=torch.float64)
    rows = traverse(start, images, values[:2], 5)
    assert rows.shape == (2, 5, 4)
    assert (rows[0, :, [0, 2, 3]] == 0).all()
    assert (rows[0, :, 1].diff() > 0).all()
    torch.testing.assert_close(rows[0, 2, 1], images.mean[:, 1].median(), atol=0.05, rtol=0)
    assert rows[0, 0, 1] == pytest.approx(images.mean[:, 1].quantile(0.02))


def test_principal_directions_are_those_of_the_largest_spread() -> None:
    middle, directions = find_principal_directions(encoding(latents(2000, 3) * torch.tensor([1.0, 5.0, 2.0]) + 4))
    torch.testing.assert_close(middle, torch.full((3,), 4.0).double(), atol=0.3, rtol=0)
    torch.testing.assert_close(directions[0], torch.tensor([0.0, 1, 0]).double(), atol=0.05, rtol=0)
    torch.testing.assert_close(directions[1], torch.tensor([0.0, 0, 1]).double(), atol=0.05, rtol=0)


def test_a_manifold_of_two_values_is_their_plane_with_up_above() -> None:
    grid = build_latent_grid(encoding(latents(300, 2)), 4)
    assert grid.shape == (4, 4, 2)
    assert (grid[:, :, 0].diff(dim=1) > 0).all()
    assert (grid[:, :, 1].diff(dim=0) < 0).all()
    assert (grid[:, :, 0].diff(dim=0).abs() < 1e-12).all()


def test_a_manifold_over_two_axes_leaves_the_others_at_their_mean() -> None:
    images = encoding(latents(300, 2, 2))
    grid = build_latent_grid(images, 3, (0, 3))
    assert grid.shape == (3, 3, 2, 2)
    torch.testing.assert_close(grid[..., 0, 1], images.mean[:, 0, 1].mean().expand(3, 3))
    with pytest.raises(ConfigError, match="axes from 0 to 3"):
        build_latent_grid(images, 3, (0, 4))


def test_a_manifold_of_one_value_is_a_row() -> None:
    row = build_latent_grid(encoding(latents(90, 1)), 5)
    assert row.shape == (1, 5, 1)
    assert (row[0, :, 0].diff() > 0).all()
    with pytest.raises(ConfigError, match="axes from 0"):
        build_latent_grid(encoding(latents(9, 1)), 3, (0, 1))
    with pytest.raises(ConfigError, match="2 images"):
        build_latent_grid(encoding(latents(1, 1)), 3)
