"""Drawing, decoding, clusters, neighbors, anomalies and planes."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

import convae
from convae.core.errors import ConfigError, DataError
from convae.core.random import torch_generator
from convae.data import Split
from convae.latents import cluster, decode, draw_latents, encode, find_neighbors, map_errors, project
from convae.latents import clusters as clusters_module
from convae.model.vae import VAE


def test_the_first_samples_are_the_same_for_any_count(model: VAE) -> None:
    few, many = draw_latents(model, 3, seed=5), draw_latents(model, 9, seed=5)
    assert torch.equal(few, many[:3])
    assert not torch.equal(few, draw_latents(model, 3, seed=6))


@pytest.mark.parametrize("prior", [{"flow": {"transform": {"coupling": {"steps": 1}}}}, {"mixture": {"components": 2}}])
def test_samples_of_a_learned_prior_are_plain_tensors(prior: dict[str, Any]) -> None:
    learned = convae.build({"preset": "torch-vae", "input": [1, 8, 8], "latent": 4, "max_filters": 8, "prior": prior})
    assert not draw_latents(learned, 3).requires_grad


def test_temperature_scales_and_truncation_bounds(model: VAE) -> None:
    plain = draw_latents(model, 500)
    torch.testing.assert_close(draw_latents(model, 500, temperature=0.5), 0.5 * plain)
    cut = draw_latents(model, 500, truncation=0.8)
    assert cut.abs().max() <= 0.8
    assert torch.equal(cut[plain.abs() <= 0.8], plain[plain.abs() <= 0.8])
    # A standard normal cut at ±0.8 has this standard deviation.
    assert cut.std() == pytest.approx(0.437, abs=0.02)


@pytest.mark.parametrize("given", [{"temperature": -1.0}, {"truncation": 0.0}, {"temperature": float("nan")}])
def test_what_cannot_be_drawn_is_refused(model: VAE, given: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"temperature|truncation"):
        draw_latents(model, 1, **given)  # type: ignore[arg-type]


def test_decoding_gives_the_expected_images_whatever_the_batches(model: VAE) -> None:
    z = draw_latents(model, 11)
    with torch.no_grad():
        wanted = model.eval().decode(z).mean
    torch.testing.assert_close(decode(model, z, batch_size=4), wanted)


def heaps(count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Three heaps far apart, of 3, 2 and 1 parts."""
    middles = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    which = torch.tensor([0, 0, 0, 1, 1, 2]).repeat(count // 6)
    return middles[which] + torch.randn(count, 2, generator=torch_generator(0)), which


@pytest.mark.parametrize("large", [20_000, 10])
def test_clusters_are_found_largest_first(monkeypatch: pytest.MonkeyPatch, large: int) -> None:
    monkeypatch.setattr(clusters_module, "LARGE", large)
    z, which = heaps()
    found = cluster(z, 3, examples=4)
    assert torch.equal(found.assigned, which)
    assert found.sizes.tolist() == [30, 20, 10]
    for number, near in enumerate(found.nearest):
        distances = (z - found.centroids[number]).norm(dim=1)
        assert near.tolist() == distances.argsort()[:4].tolist()


def test_a_small_cluster_lists_only_its_own() -> None:
    z = torch.tensor([[0.0], [0.1], [9.0]])
    assert [len(near) for near in cluster(z, 2, examples=8).nearest] == [2, 1]
    with pytest.raises(ConfigError, match=r"1 to 3 clusters.* 4"):
        cluster(z, 4)


def test_equal_latents_are_in_one_cluster_however_many_were_asked_for() -> None:
    """As latents of codes, or of a collapsed posterior, may be."""
    found = cluster(torch.tensor([[0.0, 1.0]]).repeat(6, 1), 4)
    assert (found.sizes.tolist(), found.centroids.tolist()) == ([6], [[0.0, 1.0]])
    found = cluster(torch.tensor([[0.0], [9.0]]).repeat(3, 1), 4)
    assert (sorted(found.sizes.tolist()), [len(near) for near in found.nearest]) == ([3, 3], [3, 3])


def test_neighbors_are_nearest_first_and_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    z, _ = heaps()
    found, distances = find_neighbors(z[:5], z, 3)
    assert found[:, 0].tolist() == [0, 1, 2, 3, 4]
    wanted = (z[:5, None] - z[None]).norm(dim=-1).sort(dim=1)
    torch.testing.assert_close(distances, wanted.values[:, :3])
    monkeypatch.setattr("convae.latents.neighborhood.BLOCK", 100)
    assert torch.equal(find_neighbors(z[:5], z, 3)[0], found)
    with pytest.raises(ConfigError, match=r"1 to 60 neighbors.* 61"):
        find_neighbors(z[:1], z, 61)


def test_errors_show_where_an_image_differs(model: VAE, digits: Split) -> None:
    found = map_errors(model, digits, torch.tensor([9, 2]))
    assert found.errors.shape == (2, 8, 8)
    torch.testing.assert_close(found.images[1], digits.images([2])[0].float() / 255)
    torch.testing.assert_close(found.errors, (found.images - found.reconstructions).abs()[:, 0])


def test_a_plane_of_two_values_is_the_plane_itself() -> None:
    z, _ = heaps()
    plane = project(z)
    torch.testing.assert_close(plane.points, z.double())
    assert plane.labels == ("latent value 0", "latent value 1")


def test_equal_latents_are_one_point() -> None:
    """As those of a collapsed posterior are."""
    z = torch.full((6, 4), 2.0)
    plane = project(z)
    assert (plane.points.tolist(), ["0%" in label for label in plane.labels]) == ([[0, 0]] * 6, [True, True])
    with pytest.raises(ConfigError, match=r"tsne.* 6 .*pca"):
        project(z, "tsne")
    with pytest.raises(DataError, match="NaN"):
        project(z * torch.nan)


def test_principal_directions_say_their_share() -> None:
    z = torch.randn(400, 5, generator=torch_generator(0)) * torch.tensor([3.0, 2.0, 0.1, 0.1, 0.1])
    plane = project(z)
    assert plane.points[:, 0].std() == pytest.approx(3, rel=0.1)
    assert plane.labels[0].startswith("principal direction 1 (6")
    with pytest.raises(ConfigError, match="pca, tsne or umap"):
        project(z, "raw")


def test_tsne_keeps_heaps_apart_and_is_repeatable() -> None:
    z, which = heaps()
    first, second = project(z, "tsne", seed=1), project(z, "tsne", seed=1)
    assert torch.equal(first.points, second.points)
    near, _ = find_neighbors(first.points, first.points, 2)
    assert (which[near[:, 1]] == which).float().mean() > 0.95


def test_encodings_have_a_plane(model: VAE, digits: Split) -> None:
    assert project(encode(model, digits).mean).points.shape == (202, 2)


def test_umap_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ConfigError, match=r"pip install 'convae\[umap\]'"):
        project(heaps()[0], "umap")
