"""A codebook in a run: it trains, survives a stop, is watched, and its collapse is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training.runs import RECIPE, StopAt, content, model_of

from convae.core.errors import ConfigError
from convae.data import open_split
from convae.describe import build
from convae.evaluation import evaluate
from convae.training import resume, train
from convae.training.loop.trainer import Callback, Trainer
from convae.training.sharding import shard
from convae.training.vae import output

MODEL: dict[str, Any] = {
    "input": [1, 8, 8],
    "encoder": [{"conv": {"channels": 8, "stride": 2}}, "relu"],
    "decoder": [{"conv-transpose": {"channels": 1, "stride": 2}}],
    "likelihood": {"gaussian": {"sigma": 0.2}},
}
TERMS = {"reconstruction": {}, "commitment": {"weight": 0.25}, "codebook": {}}


def recipe(update: str = "ema", *, objective: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    own = {name: given for name, given in TERMS.items() if name != "codebook" or update == "gradient"}
    training = {**RECIPE["training"], "optimizer": {"lr": 3e-3}, "precision": "float32"}
    return {
        **RECIPE,
        "model": {**MODEL, "bottleneck": {"vq": {"codes": 16, "latent": 4, "update": update, **options}}},
        "objective": own if objective is None else objective,
        "training": training,
    }


both = pytest.mark.parametrize("update", ["ema", "gradient"])


@both
def test_a_code_book_trains_and_is_watched(update: str, tmp_path: Path) -> None:
    run = train(recipe(update), out=tmp_path / "run")
    rows = [row for row in run.metrics if row["split"] == "validation"]
    assert rows[-1]["reconstruction"] < rows[0]["reconstruction"]
    assert all(1 <= row["perplexity"] <= row["codes_used"] <= 16 for row in rows)
    assert rows[-1]["perplexity"] > 4
    assert run.notes == []
    assert "perplexity" in (run.path / "metrics.csv").read_text()


def test_a_vector_is_quantized_as_a_whole_and_watched(tmp_path: Path) -> None:
    options = recipe()
    options["model"]["encoder"] = [*MODEL["encoder"], "flatten"]
    options["model"]["decoder"] = [{"linear": {"features": 128}}, {"unflatten": {"to": [8, 4, 4]}}, *MODEL["decoder"]]
    options["training"]["epochs"] = 1
    (row,) = [row for row in train(options, out=tmp_path / "run").metrics if row["split"] == "validation"]
    assert 1 <= row["perplexity"] <= row["codes_used"] <= 16


@both
def test_a_run_with_a_code_book_resumes_bit_for_bit(update: str, tmp_path: Path) -> None:
    # Entries die all the time: an even use is asked for.
    options = recipe(update, dead_code_threshold=0.9, decay=0.5)
    options["training"] |= {"accumulate": 2, "ema": 0.9, "epochs": 2}
    train(options, out=tmp_path / "unbroken")
    train(options, out=tmp_path / "run", callback=StopAt(9))
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")


@pytest.mark.parametrize(
    ("bottleneck", "terms"),
    [
        ({"residual": {"levels": 3, "latent": 4, "dropout": 0.9, "quantizer": {"vq": {"codes": 8}}}}, {}),
        ({"residual": {"levels": 2, "latent": 4, "shared": True, "quantizer": {"vq": {"codes": 8}}}}, {}),
        ({"vq": {"codes": 8, "latent": 4, "init": "k-means", "distance": "cosine", "estimator": "rotation"}}, {}),
        ({"grouped": {"groups": 2, "quantizer": {"lfq": {"bits": 3}}}}, {"entropy": {"weight": 0.1}}),
        ({"ibq": {"codes": 16, "latent": 4}}, {"codebook": {}, "entropy": {"weight": 0.1}}),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else "",
)
def test_any_quantizer_trains_is_watched_level_by_level_and_resumes_bit_for_bit(
    bottleneck: dict[str, Any], terms: dict[str, Any], tmp_path: Path
) -> None:
    options = recipe()
    options["model"]["bottleneck"] = bottleneck
    options["objective"] = {**options["objective"], **terms}
    options["training"] |= {"accumulate": 2, "ema": 0.9, "epochs": 2}
    run = train(options, out=tmp_path / "unbroken")
    train(options, out=tmp_path / "run", callback=StopAt(5))
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")
    levels = len(run.model.bottleneck.codebook_sizes)
    names = [f"/{level}" for level in range(levels)] if levels > 1 else [""]
    for row in run.metrics:
        if row["split"] == "validation":
            assert all(1 <= row[f"perplexity{name}"] <= row[f"codes_used{name}"] for name in names)


def test_two_levels_of_codes_train_with_checkpointing(tmp_path: Path) -> None:
    options = recipe()
    options["model"] = {"preset": "vq-vae-2", "input": [1, 8, 8], "channels": 8, "latent": 3, "codes": 8}
    options["training"] |= {"epochs": 1, "checkpointing": True}
    run = train(options, out=tmp_path / "run")
    (row,) = [row for row in run.metrics if row["split"] == "validation"]
    assert {"perplexity/latent", "perplexity/latent 1", "codes_used/latent 1"} <= row.keys()
    assert len(row["kl_per_latent"]) == 2
    assert {"code-usage", "psnr"} <= evaluate(run.model, open_split(run.recipe.data, "test")).metrics.keys()


def test_codebook_collapse_is_named_once_with_a_remedy(tmp_path: Path) -> None:
    # Entries that are never raised and lie far from all features but one of them.
    class Far(Callback):
        def on_train_start(self, trainer: Trainer) -> None:
            with torch.no_grad():
                model_of(trainer).get_parameter("bottleneck.quantizer.codebook")[1:] += 1e3

    run = train(recipe("gradient", dead_code_threshold=0), out=tmp_path / "run", callback=Far())
    (note,) = run.notes
    assert note.startswith("codebook collapse: 1 of 16 ")
    assert "raise dead_code_threshold of the quantizer" in note


@both
def test_an_objective_that_leaves_it_untrained_is_refused(update: str, tmp_path: Path) -> None:
    for lacking in ("commitment", *(["codebook"] if update == "gradient" else [])):
        rest = {name: given for name, given in TERMS.items() if name != lacking}
        rest = {name: given for name, given in rest.items() if update == "gradient" or name != "codebook"}
        with pytest.raises(
            ConfigError, match=f"^objective: this model cannot be trained without the term {lacking}"
        ) as told:
            train(recipe(update, objective=rest), out=tmp_path / "run")
        advice = str(told.value).split("'")[1]
        train(recipe(update, objective=rest), out=tmp_path / lacking, overrides=[advice, "training.steps=1"])


def test_a_temperature_is_refused_where_nothing_is_drawn(tmp_path: Path) -> None:
    options = recipe()
    options["training"]["temperature"] = 0.5
    with pytest.raises(ConfigError, match=r"^training\.temperature: "):
        train(options, out=tmp_path / "run")


def test_a_temperature_is_refused_where_samples_are_weighted_by_their_density(tmp_path: Path) -> None:
    options = recipe(objective={"importance-weighted": {"samples": 2}})
    options["model"] = {**options["model"], "bottleneck": {"gaussian": {"latent": 4}}}
    options["training"]["temperature"] = 0.5
    with pytest.raises(ConfigError, match=r"^training\.temperature: "):
        train(options, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("parts", "terms"),
    [
        ({"prior": {"mixture": {"components": 3}}}, {"kl": {}}),
        ({"bottleneck": {"gaussian": {"latent": 4, "flow": {"planar": {"steps": 1}}}}}, {"capacity": {}}),
        ({}, {"kl": {}, "total-correlation": {}}),
    ],
)
def test_a_temperature_is_refused_where_a_divergence_is_estimated_with_samples(
    parts: dict[str, Any], terms: dict[str, Any], tmp_path: Path
) -> None:
    recipe = {
        **RECIPE,
        "model": {**RECIPE["model"], **parts},
        "objective": {"reconstruction": {}, **terms},
        "training": {"steps": 1, "temperature": 0.5, "pictures_every": 0},
    }
    with pytest.raises(ConfigError, match=r"^training\.temperature: (kl|capacity|total-correlation) "):
        train(recipe, out=tmp_path / "run")
    train(recipe, out=tmp_path / "run", overrides=["training.temperature=1"])


def test_a_code_book_that_follows_gradients_is_not_cut_among_processes() -> None:
    with pytest.raises(ConfigError, match=r"^training\.shard: a codebook"):
        shard(build(recipe("gradient")["model"]), torch.device("cpu"))


def test_terms_of_a_gaussian_are_refused_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^objective\.kl: .*codes is constant"):
        train(recipe(objective={"reconstruction": {}, "commitment": {}, "kl": {}}), out=tmp_path / "run")


@both
def test_a_frozen_code_book_stays_as_it_is(update: str, tmp_path: Path) -> None:
    options = recipe(update)
    options["training"] = {name: value for name, value in options["training"].items() if name != "epochs"}
    options["stages"] = [{"epochs": 1}, {"epochs": 1, "freeze": ["encoder", "bottleneck"]}]
    books: dict[int, torch.Tensor] = {}

    class Look(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            books[trainer.progress.step] = model_of(trainer).state_dict()["bottleneck.quantizer.codebook"].clone()

    train(options, out=tmp_path / "run", callback=Look())
    assert not torch.equal(books[6], books[7])
    assert torch.equal(books[7], books[14])


def test_every_figure_of_a_model_with_a_code_book_is_measured_or_left_out(tmp_path: Path) -> None:
    run = train(recipe(), out=tmp_path / "run")
    figures = set(evaluate(run.model, open_split(run.recipe.data, "test")).metrics)
    assert {"elbo", "kl", "reconstruction", "psnr", "ssim"} <= figures
    assert not {"nll", "kl-per-unit", "active-units", "aggregate-gap"} & figures


INSIDE = {"quantize": {"vq": {"codes": 8}}}


@pytest.mark.parametrize(
    ("encoder", "bottleneck", "names"),
    [
        ([INSIDE], {"gaussian": {"latent": 4}}, [""]),
        ([INSIDE], {"vq": {"codes": 16, "latent": 4}}, ["/encoder.2", "/latent"]),
        ([], {"residual": {"levels": 2, "latent": 4, "quantizer": {"vq": {"codes": 16}}}}, ["/0", "/1"]),
    ],
    ids=["layer", "layer and bottleneck", "levels"],
)
def test_every_codebook_and_its_terms_are_in_the_log_by_name(
    encoder: list[Any], bottleneck: dict[str, Any], names: list[str], tmp_path: Path
) -> None:
    model = {**MODEL, "encoder": [*MODEL["encoder"], *encoder], "bottleneck": bottleneck}
    options = {name: given for name, given in recipe().items() if name != "objective"}
    options["training"]["epochs"] = 1
    run = train({**options, "model": model}, out=tmp_path / "run")
    (row,) = [row for row in run.metrics if row["split"] == "validation"]
    found = {key for key in row if key.startswith(("perplexity", "codes_used"))}
    assert found == {f"{key}{name}" for name in names for key in ("perplexity", "codes_used")}
    parts = [value for key, value in row.items() if key.startswith("commitment/")]
    assert [f"commitment{name}" in row for name in names] == [True] * len(names)
    assert sum(parts) == (pytest.approx(row["commitment"]) if len(names) > 1 else 0)
    assert ("active_units" in row) == ("gaussian" in bottleneck)


def test_drawn_paths_end_at_the_reconstructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[Tensor]] = {"pairs": [], "grid": []}

    def catch(function: str) -> None:
        draw = getattr(output, function)

        def caught(*images: Tensor, **options: Any) -> Any:
            drawn[function].append(images[-1])
            return draw(*images, **options)

        monkeypatch.setattr(output, function, caught)

    catch("pairs")
    catch("grid")
    bottleneck = {"residual": {"levels": 3, "latent": 4, "quantizer": {"vq": {"codes": 8}}}}
    pictures = {"pictures_every": 1, "epochs": 1}
    given = recipe()
    train(
        {**given, "model": {**MODEL, "bottleneck": bottleneck}, "training": {**given["training"], **pictures}},
        out=tmp_path / "run",
    )
    paths = drawn["grid"][-1].unflatten(0, (-1, output.PATH_STEPS))
    torch.testing.assert_close(paths[:, [0, -1]].flatten(0, 1), drawn["pairs"][-1][: 2 * len(paths)])
