"""Metrics of disentanglement against the values of disent 0.8.0, or of the formula, for equal latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import convae
from convae.core.errors import ConfigError
from convae.core.random import numpy_generator
from convae.data import DataConfig, Split, open_split
from convae.evaluation import Factors, evaluate
from convae.evaluation.metrics._held_out import train_and_test
from convae.evaluation.metrics._mutual_information import factor_entropies, information_matrix
from convae.evaluation.metrics.dci import DCI
from convae.evaluation.metrics.factor_vae import FactorVAE
from convae.evaluation.metrics.mig import MIG
from convae.evaluation.metrics.mig_per_factor import MIGPerFactor
from convae.evaluation.metrics.modularity import Modularity
from convae.evaluation.metrics.sap import SAP

NAMES = ("a", "b", "c")
METRICS = ("mig", "mig-per-factor", "modularity", "dci", "sap", "factor-vae")
MODEL = {
    "input": [1, 16, 16],
    "encoder": ["flatten"],
    "bottleneck": {"gaussian": {"latent": 4}},
    "decoder": [{"linear": {"features": 256}}, {"unflatten": {"to": [1, 16, 16]}}],
}


def grid() -> Factors:
    """Ten images of each combination of 3, 4 and 5 values."""
    values = np.stack(np.meshgrid(range(3), range(4), range(5), range(10), indexing="ij"), -1).reshape(-1, 4)
    return Factors(NAMES, values[:, :3].astype(np.int64))


def mixed(factors: Factors, noise: float) -> NDArray[np.float64]:
    """(600, 4) latents: of one factor, of two, of all, and constant but for the noise."""
    a, b, c = factors.values.T.astype(np.float64)
    pure = np.stack([a, b + 0.3 * c, c * c - b + 0.2 * a, 0 * a], 1)
    return pure + noise * numpy_generator(0, "mixed").standard_normal(pure.shape)


def sums(factors: Factors) -> NDArray[np.float64]:
    """(600, 3) latents, each of two factors."""
    a, b, c = factors.values.T.astype(np.float64)
    return np.stack([a + b, b + c, c + a], 1)


def test_mutual_information_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import mutual_info_score

    factors, latents = grid(), mixed(grid(), 0.3)
    found = information_matrix(latents, factors, 20)
    for value, column in enumerate(latents.T):
        binned = np.digitize(column, np.histogram(column, 20)[1][:-1])
        for factor, wanted in enumerate(factors.values.T):
            assert found[value, factor] == pytest.approx(mutual_info_score(wanted, binned), abs=1e-12)
    np.testing.assert_allclose(factor_entropies(factors), np.log([3, 4, 5]))


def test_mig_is_that_of_disent() -> None:
    assert MIG().measure(mixed(grid(), 0.3), grid(), 0)[""] == pytest.approx(DISENT["mig"], abs=1e-12)


def test_mig_is_the_mean_of_those_of_the_factors() -> None:
    each = MIGPerFactor().measure(mixed(grid(), 0.3), grid(), 0)
    assert tuple(each) == NAMES
    assert np.mean(list(each.values())) == pytest.approx(DISENT["mig"], abs=1e-12)
    assert MIG(bins=7).measure(mixed(grid(), 0.3), grid(), 0)[""] != pytest.approx(DISENT["mig"], abs=1e-3)


def test_modularity_is_that_of_the_paper() -> None:
    """Ridgeway & Mozer 2018: the deviation from a template with one factor for each value."""
    information = information_matrix(mixed(grid(), 0.3), grid(), 20)
    each = []
    for row in information:
        template = np.where(np.arange(3) == row.argmax(), row.max(), 0)
        each.append(1 - np.square(row - template).sum() / (row.max() ** 2 * 2))
    assert Modularity().measure(mixed(grid(), 0.3), grid(), 0)[""] == pytest.approx(np.mean(each), abs=1e-12)


def test_dci_is_that_of_disent() -> None:
    found = DCI().measure(mixed(grid(), 0.3), grid(), 0)
    assert found["disentanglement"] == pytest.approx(DISENT["dci.disentanglement"], abs=2e-3)  # ties of the trees
    assert found["completeness"] == pytest.approx(DISENT["dci.completeness"], abs=2e-3)
    assert found["informativeness"] == pytest.approx(DISENT["dci.informativeness_test"], abs=5e-3)


def test_sap_is_that_of_disent() -> None:
    assert SAP().measure(mixed(grid(), 0.3), grid(), 0)[""] == pytest.approx(DISENT["sap"], abs=5e-3)


def test_the_score_of_factor_vae_is_that_of_disent() -> None:
    found = FactorVAE(group=8).measure(sums(grid()), grid(), 0)[""]
    assert found == pytest.approx(DISENT["factor-vae"], abs=0.02)  # four standard errors of 5,000 votes


def test_one_value_for_each_factor_is_perfect_and_noise_is_not() -> None:
    factors = grid()
    perfect = factors.values.astype(np.float64)
    noise = numpy_generator(1, "noise").standard_normal(perfect.shape)
    for metric in (MIG(), Modularity(), FactorVAE(votes=500), SAP(), DCI()):
        best, worst = metric.measure(perfect, factors, 0), metric.measure(noise, factors, 0)
        for part, value in best.items():
            if not isinstance(metric, SAP):  # whose best value depends on the number of classes
                assert value == pytest.approx(1, abs=1e-6)
            if not isinstance(metric, Modularity):  # which the noise of the estimates decides here
                assert worst[part] < 0.5


def test_held_out_images_are_others() -> None:
    factors = Factors(("row", "b"), np.stack([np.arange(30), np.arange(30) % 2], 1))
    (trained, known), (tested, held_out) = train_and_test(np.arange(30.0)[:, None], factors, 15, 0)
    assert (len(trained), len(tested)) == (10, 5)
    assert len({*trained[:, 0], *tested[:, 0]}) == 15
    np.testing.assert_array_equal(known.values[:, 0], trained[:, 0])
    np.testing.assert_array_equal(held_out.values[:, 0], tested[:, 0])


@pytest.fixture
def sprites(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Split:
    monkeypatch.setenv("CONVAE_CACHE", str(shared_cache))
    return open_split(DataConfig(source={"sprites": {"count": 300, "size": 16}}, channels=1), "all")


def test_a_report_has_the_value_its_parts_and_the_chosen_factors(sprites: Split) -> None:
    options: dict[str, dict[str, Any]] = {
        "dci": {"factors": ["shape", "scale"], "images": 90},
        "mig-per-factor": {"factors": ["x", "shape"]},
    }
    found = evaluate(convae.build(MODEL), sprites, metrics=["mig"], options=options).as_dict()
    assert 0 <= found["mig"]["value"] <= 1
    assert found["mig"]["interval"] is None
    assert found["dci"]["parts"] == ["disentanglement", "completeness", "informativeness"]
    assert len(found["dci"]["value"]) == 3
    assert found["mig-per-factor"]["parts"] == ["x", "shape"]
    assert found["protocol"]["metrics"]["dci"]["factors"] == ("shape", "scale")


def test_images_without_a_factor_are_left_out(sprites: Split) -> None:
    model, names = convae.build(MODEL), ["shape", "scale"]
    options = {"mig": {"factors": names}}
    before = evaluate(model, sprites, metrics=["mig"], options=options).metrics["mig"].value
    sprites.columns["scale"].values[:150] = -1
    other = evaluate(model, sprites, metrics=["mig"], options=options).metrics["mig"].value
    assert other != before


def test_data_without_factors_is_refused_by_name_and_omitted_otherwise(digits: Split) -> None:
    model = convae.build(
        {**MODEL, "input": [1, 8, 8], "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}]}
    )
    for name in METRICS:
        with pytest.raises(ConfigError, match="two factors"):
            evaluate(model, digits, metrics=[name])
    assert not {*METRICS} & {*evaluate(model, digits, metrics=["all"]).metrics}


def test_constant_unique_and_unknown_factors_are_refused(sprites: Split) -> None:
    model = convae.build(MODEL)
    with pytest.raises(ConfigError, match="shape"):
        evaluate(model, sprites, options={"mig": {"factors": ["shap", "x"]}}, metrics=["mig"])
    sprites.columns["color"].values[:] = 2
    with pytest.raises(ConfigError, match=r"'color'.*same value"):
        evaluate(model, sprites, metrics=["mig"])
    sprites.columns["color"].values[:] = np.arange(300)
    with pytest.raises(ConfigError, match=r"'color'.*of its own"):
        evaluate(model, sprites, metrics=["mig"])
    assert evaluate(model, sprites, metrics=["mig"], options={"mig": {"factors": ["shape", "x"]}}).metrics["mig"]


def test_codes_are_refused(sprites: Split) -> None:
    encoder = [{"conv": {"channels": 4, "stride": 4}}, "flatten"]
    model = convae.build({**MODEL, "encoder": encoder, "bottleneck": {"vq": {"codes": 8, "latent": 4}}})
    with pytest.raises(ConfigError, match="codes"):
        evaluate(model, sprites, metrics=["mig"])


DISENT = {
    "mig": 0.5102449338644051,
    "dci.disentanglement": 0.6137305073502756,
    "dci.completeness": 0.6802112808112668,
    "dci.informativeness_test": 0.9333333333333332,
    "sap": 0.3383333333333334,
    "factor-vae": 0.6106,
}
"""Values of disent 0.8.0 for `mixed(grid(), 0.3)`; that of `factor-vae` for `sums(grid())`, of 20,000 votes."""
