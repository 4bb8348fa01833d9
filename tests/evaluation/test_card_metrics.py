"""Metrics of latent maps and of sets of reconstructions, against SciPy, closed forms and plain definitions."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.fft
import torch
from features.pooled import Pooled
from narrow import narrow
from torch import Tensor

import convae
from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.data import DataConfig, Split, in_order, open_split
from convae.evaluation import Report, evaluate
from convae.evaluation.distances import frechet_distance
from convae.evaluation.jackknife import jackknife_interval
from convae.evaluation.spectrum import cosine_transform, frequencies, log_log_slope, radial_power, relative_power
from convae.latents.scale import measure_latent_scale
from convae.model.vae import VAE

MAP: dict[str, Any] = {
    "input": [1, 8, 8],
    "encoder": [{"conv": {"channels": 4, "stride": 2}}],
    "bottleneck": {"gaussian": {"latent": 3}},
    "decoder": [{"conv-transpose": {"channels": 1, "stride": 2}}],
    "likelihood": {"gaussian": {"sigma": 0.3, "link": "identity"}},
}


@pytest.fixture
def map_model() -> VAE:
    """A latent map of 3×4×4."""
    return convae.build(MAP, seed=1).eval()


def value(report: Report, name: str) -> Any:
    return report.metrics[name].value


def random(*shape: int, word: str = "values") -> Tensor:
    return torch.randn(shape, generator=torch_generator(0, word), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 6, 9), (1, 2, 4, 5, 6)])
def test_the_cosine_transform_is_that_of_scipy(shape: tuple[int, ...]) -> None:
    values = random(*shape)
    wanted = scipy.fft.dctn(values.numpy(), axes=range(2, len(shape)), norm="ortho")
    np.testing.assert_allclose(cosine_transform(values).numpy(), wanted, atol=1e-12)


@pytest.mark.parametrize("exponent", [0.0, -1.0, -2.5])
def test_the_slope_is_the_exponent_of_a_power_law(exponent: float) -> None:
    size = 32
    axis = np.arange(size) / size
    radius = np.hypot(axis[:, None], axis)
    amplitude = np.where(radius > 0, radius, 1) ** (exponent / 2)
    image = scipy.fft.idctn(amplitude, norm="ortho")
    images = torch.from_numpy(image)[None, None] * torch.tensor([3.0, 1.0])[None, :, None, None]
    power = radial_power(images)
    assert power.shape == (1, 2, size - 1)
    found = relative_power(power.flatten(1), 2)
    # Shells average over frequencies that differ by one step.
    torch.testing.assert_close(log_log_slope(found)[0], torch.tensor(exponent, dtype=torch.float64), atol=0.1, rtol=0)
    assert frequencies(size - 1)[[0, -1]].tolist() == [1 / size, 1 - 1 / size]


def test_channels_have_equal_parts_in_the_spectrum_and_those_without_power_none() -> None:
    power = torch.tensor([[1.0, 3.0, 200.0, 200.0, 0.0, 0.0]], dtype=torch.float64)
    assert relative_power(power, 3).tolist() == [[0.75, 1.25]]


def test_the_spectrum_of_a_wave_is_at_its_frequency() -> None:
    wave = torch.cos(torch.pi * 5 * (torch.arange(16, dtype=torch.float64) + 0.5) / 16)
    power = radial_power(wave.expand(1, 1, 16, 16))[0, 0]
    assert int(power.argmax()) == 4
    assert float(power[4] / power.sum()) == pytest.approx(1)


@pytest.mark.parametrize(
    "bottleneck",
    [
        {"gaussian": {"latent": 3, "covariance": "full"}},
        {"gaussian": {"latent": 3, "flow": "planar"}},
        {"von-mises-fisher": {"latent": 3}},
    ],
    ids=["full", "flow", "sphere"],
)
def test_mean_and_deviation_of_channels_are_those_of_drawn_latents(bottleneck: object, digits: Split) -> None:
    decoder = [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}]
    model = convae.build({**MAP, "encoder": ["flatten"], "bottleneck": bottleneck, "decoder": decoder}).eval()
    with torch.no_grad():
        for name, parameter in model.bottleneck.named_parameters():
            if "flow" in name:
                parameter.add_(torch.randn(parameter.shape, generator=torch_generator(0, name)))
    report = evaluate(model, digits, metrics=["latent-mean", "latent-std"])
    (batch,) = in_order(digits, len(digits), "cpu")
    posterior = model.encode(batch.images)
    drawn = torch.cat([posterior.sample(torch_generator(number)) for number in range(500)]).detach()
    within = 3 * drawn.std(0).max() / len(digits) ** 0.5
    np.testing.assert_allclose(value(report, "latent-mean"), drawn.mean(0), atol=within)
    np.testing.assert_allclose(value(report, "latent-std"), drawn.std(0), atol=within)
    scale = measure_latent_scale(model, digits)
    np.testing.assert_allclose(scale.mean, drawn.mean(0), atol=within)
    np.testing.assert_allclose(scale.std, drawn.std(0), atol=within)


def test_figures_of_channels_are_those_of_the_latents(map_model: VAE, digits: Split) -> None:
    names = ["latent-mean", "latent-std", "kl-per-channel", "active-channels", "kl", "kl-per-unit"]
    report = evaluate(map_model, digits, metrics=names)
    scale = measure_latent_scale(map_model, digits)
    np.testing.assert_allclose(value(report, "latent-mean"), scale.mean, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(value(report, "latent-std"), scale.std, rtol=1e-3)
    by_unit = np.array(value(report, "kl-per-unit")).reshape(3, 16)
    np.testing.assert_allclose(value(report, "kl-per-channel"), by_unit.sum(1), rtol=1e-5)
    assert sum(value(report, "kl-per-channel")) == pytest.approx(value(report, "kl"), rel=1e-5)
    means = convae.latents.encode(map_model, digits).mean.double()
    variance = means.var(0, correction=0).mean((1, 2))
    threshold = float(variance.sort().values[1])
    options = {"active-channels": {"threshold": threshold * (1 - 1e-9)}}
    assert value(evaluate(map_model, digits, metrics=[], options=options), "active-channels") == 2


def test_a_model_that_copies_pixels_is_equivariant_and_one_of_means_has_error_1(
    digits: Split,
) -> None:
    names = ["equivariance-rotation", "equivariance-scale"]
    copies = convae.build(
        {
            "input": [1, 8, 8],
            "encoder": [{"conv": {"channels": 1, "kernel": 1}}],
            "bottleneck": {"gaussian": {"latent": 1}},
            "decoder": [{"conv": {"channels": 1, "kernel": 1}}],
            "likelihood": {"gaussian": {"sigma": 0.3, "link": "identity"}},
        }
    ).eval()
    with torch.no_grad():
        for parameter in copies.parameters():
            parameter.fill_(1.0 if parameter.ndim > 1 else 0.0)
    report = evaluate(copies, digits, metrics=names)
    assert [value(report, name) for name in names] == pytest.approx([0, 0], abs=1e-9)
    with torch.no_grad():
        for parameter in copies.decoder.parameters():
            parameter.zero_()
    report = evaluate(copies, digits, metrics=names)
    # Zeros everywhere: the second moment in place of the variance.
    x = torch.cat([batch.images for batch in convae.data.in_order(digits, 202)]).double()
    wanted = x.square().mean() / (x - x.mean((2, 3), keepdim=True)).square().mean()
    assert value(report, "equivariance-rotation") == pytest.approx(float(wanted), rel=1e-5)


def test_equivariance_is_its_definition(map_model: VAE, digits: Split) -> None:
    report = evaluate(map_model, digits, metrics=["equivariance-rotation", "equivariance-scale"], batch_size=50)
    x = torch.cat([batch.images for batch in convae.data.in_order(digits, 202)])
    z = map_model.encode(x).mean
    with torch.no_grad():
        errors, variances = [], []
        for turns in (1, 2, 3):
            turned = torch.rot90(x, turns, (2, 3))
            errors.append((map_model.decode(torch.rot90(z, turns, (2, 3))).mean - turned).square().mean())
            variances.append((turned - turned.mean((2, 3), keepdim=True)).square().mean())
        small = x.reshape(202, 1, 4, 2, 4, 2).mean((3, 5))
        error = (map_model.decode(z.reshape(202, 3, 2, 2, 2, 2).mean((3, 5))).mean - small).square().mean()
        variance = (small - small.mean((2, 3), keepdim=True)).square().mean()
    assert value(report, "equivariance-rotation") == pytest.approx(float(sum(errors) / sum(variances)), rel=1e-5)
    assert value(report, "equivariance-scale") == pytest.approx(float(error / variance), rel=1e-5)


def test_metrics_of_maps_do_not_apply_to_vectors(model: VAE, digits: Split) -> None:
    for name in ("active-channels", "latent-spectrum-slope", "equivariance-rotation", "equivariance-scale"):
        with pytest.raises(ConfigError, match="a single latent that is a map"):
            evaluate(model, digits, metrics=[name])
    assert len(value(evaluate(model, digits, metrics=["latent-std"]), "latent-std")) == 3


def test_the_distance_of_reconstructions_is_that_of_their_features(map_model: VAE, digits: Split) -> None:
    features = Pooled(layers="identity").eval()
    report = evaluate(map_model, digits, metrics=["rfd"], features=features, batch_size=50)
    found = report.metrics["rfd-pooled"]
    x = torch.cat([batch.images for batch in convae.data.in_order(digits, 202)])
    with torch.no_grad():
        wanted = frechet_distance(features(x), features(map_model.decode(map_model.encode(x).mean).mean))
    assert found.value == pytest.approx(wanted, rel=1e-4)
    assert found.interval is not None
    low, high = (narrow(float, end) for end in found.interval)
    assert 0 <= low < wanted < high


def test_one_image_has_no_distances_of_sets(
    map_model: VAE, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVAE_CACHE", str(shared_cache))
    one = open_split(DataConfig(source={"sprites": {"count": 1, "size": 8}}, channels=1), "all")
    report = evaluate(map_model, one, metrics=["default"], features=Pooled(layers="identity").eval())
    assert not any(name.endswith("pooled") for name in report.metrics)
    with pytest.raises(ConfigError, match="at least 2 images"):
        evaluate(map_model, one, metrics=["rfd"], features=Pooled(layers="identity").eval())


def distance_of(real: Tensor, other: Tensor, kept: Tensor) -> float:
    return frechet_distance(real[kept], other[kept])


def test_the_jackknife_interval_holds_the_expected_value_about_as_often_as_it_says() -> None:
    def pair(trial: int) -> tuple[Tensor, Tensor]:
        real = random(150, 3, word=f"real {trial}")
        return real, 0.8 * real + 0.3 * random(150, 3, word=f"other {trial}")

    values, ends = [], []
    for trial in range(120):
        real, other = pair(trial)
        value = frechet_distance(real, other)
        values.append(value)
        found = jackknife_interval(partial(distance_of, real, other), value, len(real), trial)
        assert found is not None
        ends.append(found)
    expected = sum(values) / len(values)
    assert 0.88 < sum(low < expected < high for low, high in ends) / len(ends) < 0.995
    assert jackknife_interval(lambda _: 0.0, 0.0, 99, 0) is None


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = random(2000, word="mean")
    found = jackknife_interval(lambda kept: float(values[kept].mean()), float(values.mean()), 2000, 0)
    assert found is not None
    margin = 2.093 * float(values.std()) / 2000**0.5
    assert (found[1] - found[0]) / 2 == pytest.approx(margin, rel=0.4)
