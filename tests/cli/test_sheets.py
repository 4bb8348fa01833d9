"""What the sheets of commands show: the images themselves, before they are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import run
from torch import Tensor

import convae
from convae.latents import Session
from convae.model.provenance import Provenance
from convae.pictures import grid as module

Sheets = list[tuple[Tensor, dict[str, Any]]]


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> Sheets:
    """The images and the options of every grid that is drawn."""
    found: Sheets = []
    draw = module.grid

    def caught(images: Tensor, **options: Any) -> Any:
        found.append((images, options))
        return draw(images, **options)

    monkeypatch.setattr(module, "grid", caught)
    return found


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of digits with residual codes, whose greedy search finds other codes for most sums of codes."""
    torch.manual_seed(0)
    model = convae.build(
        {
            "name": "residual",
            "input": [1, 8, 8],
            "encoder": [{"conv": {"channels": 8, "stride": 2}}],
            "bottleneck": {"residual": {"levels": 3, "latent": 4, "quantizer": {"vq": {"codes": 8}}}},
            "decoder": [{"conv-transpose": {"channels": 1, "stride": 2}}],
        }
    )
    model.provenance = Provenance(data={"source": "digits"})
    return convae.save(model, tmp_path_factory.mktemp("models") / "residual")


def reconstructions(model: Path, positions: list[int]) -> Tensor:
    session = Session(model)
    return torch.cat([decoded for _, decoded in session.reconstruct()])[positions]


def test_ends_of_paths_between_residual_codes_are_the_reconstructions(
    residual: Path, sheets: Sheets, tmp_path: Path
) -> None:
    run("interpolate", residual, 3, 7, 0, "--steps", 4, "--out", tmp_path)
    ((images, _),) = sheets
    torch.testing.assert_close(images[[0, 3, 4, 7]], reconstructions(residual, [3, 7, 7, 0]))


def test_residual_codes_plus_nothing_are_the_reconstruction(residual: Path, sheets: Sheets, tmp_path: Path) -> None:
    run("translate", residual, 3, 7, "--label", 1, "--strengths", "0,2", "--out", tmp_path)
    ((images, _),) = sheets
    torch.testing.assert_close(images[[0, 2]], reconstructions(residual, [3, 7]))
    assert not torch.equal(images[0], images[1])


@pytest.mark.parametrize("count", [90, 140])
def test_the_contact_sheet_of_sorted_images_shows_every_class(count: int, sheets: Sheets, tmp_path: Path) -> None:
    labels = np.arange(count) * 5 // count
    levels = np.arange(count, dtype=np.uint8)[:, None, None, None]
    np.savez(tmp_path / "sorted.npz", images=np.broadcast_to(levels, (count, 1, 8, 8)), labels=labels)
    run("data", tmp_path / "sorted.npz", "--out", tmp_path / "out")
    ((images, options),) = sheets
    shown = (images[:, 0, 0, 0] * 255).round().long()
    assert len(shown) == 64
    assert options["captions"] == [str(label) for label in labels[shown]]
    assert set(options["captions"]) == set("01234")


def test_a_small_cluster_has_no_other_images(artifact: Path, sheets: Sheets, tmp_path: Path) -> None:
    run("clusters", artifact, "--count", 30, "--examples", 20, "--out", tmp_path)
    (images, options), (centroids, _) = sheets
    sizes = [int(label.split()[0]) for label in options["row_labels"]]
    assert min(sizes) < 20
    assert options["row_lengths"] == [1 + min(size, 20) for size in sizes]
    assert len(images) == sum(options["row_lengths"])
    torch.testing.assert_close(images[0], centroids[0])
