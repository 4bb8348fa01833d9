"""Re-makes the rows of docs/results.md that named models give: likelihoods that are missing, and quick checks.

    python -m benchmarks.results likelihoods --work FOLDER       `make results`: importance-weighted NLL, appended
    python -m benchmarks.results quick                           `make results-quick`: under a minute, no downloads

`likelihoods` estimates the NLL of each named model of binarized MNIST that benchmarks/results.jsonl does not have with
as many samples and images, in parts that a second call continues; --images stops after so many random test images. A
line has the SHA-256 of the weights that were measured; those of models/ may be the same, rounded to half precision.
`quick` measures ELBO, PSNR and SSIM of each named model of scikit-learn's digits again, and exits with 1 unless each
lies within the 95% interval on its card. The other tables of the page are those of the reports in benchmarks/, and of
the cards in models/.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import convae
from benchmarks.likelihood import PART, estimate
from benchmarks.pretrained import LIKELIHOODS, MEASURED, MODELS, processor
from benchmarks.records import add_result, read_results
from convae.data import in_order
from convae.evaluation import evaluate
from convae.evaluation.card import read_cards
from convae.model.fingerprint import fingerprint
from convae.model.pretrained import read_index

QUICK, QUICK_METRICS = "digits", ("elbo", "psnr", "ssim")
"""Data that needs no download, and the metrics that are measured again."""
BINARY = "binarized-mnist"


@dataclass(frozen=True)
class QuickRow:
    """A metric of a model, measured again.

    Attributes:
        model: name of the model.
        metric: name of the metric.
        value: value now.
        interval: 95% interval over the test images on the card of the model.
    """

    model: str
    metric: str
    value: float
    interval: tuple[float, float]

    @property
    def is_reproduced(self) -> bool:
        """Whether the value lies within the interval."""
        return self.interval[0] <= self.value <= self.interval[1]


def quick_rows() -> Iterator[QuickRow]:
    """The quick rows, measured now."""
    for name, facts in read_index().items():
        if facts.data != QUICK:
            continue
        (card,) = read_cards(MODELS / name / MEASURED)
        session = convae.Session(name, device="cpu")
        report = evaluate(session.model, session.images, metrics=list(QUICK_METRICS))
        for metric in QUICK_METRICS:
            value, recorded = report.metrics[metric].value, card.metrics[metric].interval
            assert isinstance(value, float)
            assert recorded is not None
            low, high = recorded
            assert isinstance(low, float)
            assert isinstance(high, float)
            yield QuickRow(name, metric, value, (low, high))


def check_quick_rows() -> int:
    """Prints the quick rows; 1 if one is outside of its interval, else 0."""
    began, failed = time.process_time(), 0
    for row in quick_rows():
        low, high = row.interval
        word = "within" if row.is_reproduced else "OUTSIDE of"
        print(f"{row.model} {row.metric}: {row.value:.5g}, {word} {low:.5g} … {high:.5g}")
        failed += not row.is_reproduced
    print(f"{time.process_time() - began:.0f} seconds of a processor")
    return int(failed > 0)


def recorded() -> list[dict[str, Any]]:
    """The rows that were measured."""
    return read_results(LIKELIHOODS)


def measure_likelihoods(work: Path, samples: int, images: int | None) -> None:
    """Estimates the NLL, on images of fixed binarization, of each model of binarized MNIST that is not recorded yet."""
    for name, facts in read_index().items():
        trained_on = "fixed" if facts.data == BINARY else convae.load(name).provenance.data.get("binarize")
        if trained_on is None:
            continue
        session = convae.Session(name, data=BINARY, split="test", device="cpu")
        count = min(images or len(session.images), len(session.images))
        sha256 = fingerprint(session.model)
        if any(row["model"] == name and row["samples"] >= samples and row["images"] >= count for row in recorded()):
            continue
        rows = _parts(session, work / f"{sha256[:16]}-{samples}.jsonl", samples, count)
        print(record(name, sha256, samples, rows, str(trained_on)), flush=True)


def record(name: str, sha256: str, samples: int, rows: list[dict[str, Any]], trained_on: str) -> dict[str, Any]:
    """Appends the mean over the images of parts to the record; returns the line.

    Args:
        name: name of the model.
        sha256: of its weights.
        samples: importance samples.
        rows: the estimates of the images, in parts.
        trained_on: binarization of the training images; that of the test images is fixed.
    """
    made: dict[str, Any] = {"model": name, "sha256": sha256, "samples": samples, "binarization": trained_on}
    for metric in ("nll", "negative_elbo"):
        values = np.array([value for row in rows for value in row[metric]])
        made |= {"images": len(values), metric: round(float(values.mean()), 3)}
        made[f"{metric}_standard_error"] = round(float(values.std(ddof=1) / math.sqrt(len(values))), 3)
    made |= {"seconds": round(sum(row["seconds"] for row in rows)), "processor": processor()}
    made |= {"torch": torch.__version__, "convae": convae.__version__}
    add_result(LIKELIHOODS, made)
    return made


def _parts(session: convae.Session, path: Path, samples: int, count: int) -> list[dict[str, Any]]:
    """The estimates of random test images in parts, which are kept in a file."""
    done = read_results(path)
    order = np.random.default_rng(0).permutation(len(session.images))[:count]
    for start in range(PART * len(done), count, PART):
        began = time.process_time()
        (batch,) = in_order(session.images, PART, indices=np.sort(order[start : start + PART]))
        row: dict[str, Any] = {"start": start, **estimate(session.model, batch.images, samples, start)}
        done.append(row | {"seconds": round(time.process_time() - began, 1)})
        add_result(path, done[-1])
    return done[: math.ceil(count / PART)]


def main() -> None:
    """Runs the command of the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("quick")
    likelihoods = commands.add_parser("likelihoods")
    likelihoods.add_argument("--work", type=Path, required=True, help="folder of the estimates of single images")
    likelihoods.add_argument("--samples", type=int, default=200)
    likelihoods.add_argument("--images", type=int, default=None)
    given = parser.parse_args()
    if given.command == "quick":
        sys.exit(check_quick_rows())
    given.work.mkdir(parents=True, exist_ok=True)
    measure_likelihoods(given.work, given.samples, given.images)


if __name__ == "__main__":
    main()
