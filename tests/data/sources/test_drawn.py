"""Signals and volumes that are drawn: of their kind, in range, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from narrow import present

from convae.data import DataConfig, open_split
from convae.data.sources import signals, voxels


def repeated(wave: np.ndarray) -> float:
    """How well a wave resembles itself one period later: the highest correlation with itself moved by 15% to 60%."""
    centered = wave - wave.mean()
    lags = range(len(wave) * 15 // 100, len(wave) * 6 // 10)
    return max(float(np.corrcoef(centered[lag:], centered[: len(wave) - lag])[0, 1]) for lag in lags)


@pytest.mark.parametrize("kind", signals.KINDS)
def test_waves_are_in_range_and_move(kind: str) -> None:
    for seed in range(20):
        wave = signals.draw(kind, 128, np.random.default_rng(seed))
        assert wave.shape == (128,)
        assert wave.min() >= 0
        assert wave.max() <= 1
        assert wave.max() - wave.min() > 0.2


@pytest.mark.parametrize("kind", ["heartbeat", "sawtooth"])
def test_waves_are_quasi_periodic(kind: str) -> None:
    found = [repeated(signals.draw(kind, 256, np.random.default_rng(seed))) for seed in range(20)]
    noise = [repeated(np.random.default_rng(seed).random(256)) for seed in range(20)]
    assert np.median(found) > 0.4 > np.median(noise)


def test_noise_has_the_spread_that_was_asked_for() -> None:
    quiet, loud = (
        open_split(DataConfig(source={"signals": {"count": 50, "noise": noise}}), "all").images(range(50)).double()
        / 255
        for noise in (0.0, 0.05)
    )
    inner = (quiet > 0.2) & (quiet < 0.8)
    assert (loud - quiet)[inner].std().item() == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize("body", voxels.BODIES)
def test_bodies_are_solid_and_stay_inside(body: str) -> None:
    for seed in range(10):
        volume = voxels.draw(body, 24, np.random.default_rng(seed))[..., 0]
        assert volume.shape == (24, 24, 24)
        assert 0.01 < volume.mean() / 255 < 0.4
        assert (volume == 255).any()
        for axis in range(3):
            faces = np.moveaxis(volume, axis, 0)[[0, -1]]
            assert faces.mean() < 10


@pytest.mark.parametrize("name", ["signals", "voxels"])
def test_a_larger_set_begins_with_the_smaller_and_seeds_differ(name: str) -> None:
    small, large, other = (
        open_split(DataConfig(source={name: {"count": count, "seed": seed}}), "all").images(range(8))
        for count, seed in ((8, 0), (12, 0), (8, 1))
    )
    assert small.equal(large)
    assert not small.equal(other)


@pytest.mark.parametrize(("name", "classes"), [("signals", signals.KINDS), ("voxels", voxels.BODIES)])
def test_the_label_is_the_kind(name: str, classes: tuple[str, ...]) -> None:
    split = open_split(DataConfig(source={name: {"count": 8}}), "all")
    assert split.classes == classes
    assert present(split.labels).tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
