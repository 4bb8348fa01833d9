from __future__ import annotations

import sys
from pathlib import Path

import pytest

import convae
from benchmarks import likelihood
from benchmarks.records import read_results
from convae.data import DataConfig, open_split
from convae.evaluation import evaluate

DESCRIPTION = {
    "input": [1, 8, 8],
    "encoder": ["flatten"],
    "bottleneck": {"gaussian": {"latent": 2}},
    "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
    "likelihood": "bernoulli",
}


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["likelihood", *words])
    likelihood.main()


def test_parts_of_two_calls_are_those_of_one_and_agree_with_evaluation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, images = convae.build(DESCRIPTION).eval(), open_split(DataConfig(source="digits"), "test")
    convae.save(model, tmp_path / "model")
    monkeypatch.setattr(likelihood, "FEWER", (5,))
    general = ["--data", "digits", "--samples", "20", str(tmp_path / "model")]
    files = once, twice = tmp_path / "once.jsonl", tmp_path / "twice.jsonl"
    for file, counts in ((once, ["100"]), (twice, ["50", "100"])):
        for count in counts:
            run(monkeypatch, *general, "--images", count, "--out", str(file))
    (protocol, *rows), (_, *other) = (read_results(file) for file in files)
    assert [row["nll"] for row in rows] == [row["nll"] for row in other]
    assert protocol["samples"] == 20
    assert all(bound <= mean for row in rows for bound, mean in zip(row["nll"], row["negative_elbo"], strict=True))
    assert "all samples against these, on the same images:" in capsys.readouterr().out
    run(monkeypatch, *general, "--out", str(once))
    values = [value for row in read_results(once)[1:] for value in row["nll"]]
    whole = evaluate(model, images, metrics=["nll"], options={"nll": {"samples": 20}}).metrics["nll"]
    assert len(values) == len(images)
    assert sum(values) / len(values) == pytest.approx(whole.value, rel=2e-3)
    for share in ("2/2", "1/2"):
        run(monkeypatch, *general, "--share", share, "--out", str(tmp_path / "shared.jsonl"))
    shared = sorted(read_results(tmp_path / "shared.jsonl")[1:], key=lambda row: row["start"])
    assert [row["nll"] for row in shared] == [row["nll"] for row in read_results(once)[1:]]
    with pytest.raises(SystemExit, match="is of another estimate"):
        run(monkeypatch, *general, "--samples", "10", "--out", str(once))
    for share in ("0/2", "3/2", "half"):
        with pytest.raises(SystemExit, match="2"):
            run(monkeypatch, *general, "--share", share, "--out", str(once))


def test_half_precision_changes_the_bound_by_little_and_says_by_how_much(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convae.save(convae.build(DESCRIPTION).eval(), tmp_path / "model")
    general = ["--data", "digits", "--samples", "20", "--images", "50", str(tmp_path / "model")]
    run(monkeypatch, *general, "--out", str(tmp_path / "whole"))
    half = [*general, "--precision", "bf16", "--out", str(tmp_path / "half"), "--against", str(tmp_path / "whole")]
    run(monkeypatch, *half)
    assert "against float32, sums in float64, on 50 images: " in capsys.readouterr().out
    whole, same = (read_results(tmp_path / name)[1]["nll"] for name in ("whole", "half"))
    assert whole != same
    assert whole == pytest.approx(same, rel=5e-3)
    with pytest.raises(SystemExit, match="are others"):
        run(monkeypatch, *half, "--seed", "1", "--out", str(tmp_path / "third"))
