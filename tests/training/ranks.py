"""What processes that torchrun starts do together in the tests: `python ranks.py COUNT FOLDER`; tests look at the runs.

The processes are forked from one that has imported what they need.
"""

from __future__ import annotations

import copy
import faulthandler
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from training.runs import CODES, RECIPE, StopAt

import convae
from convae.core.errors import ConfigError
from convae.training import resume, train
from convae.training.launch import connect_ranks
from convae.training.loop.engine import Engine
from convae.training.loop.trainer import Callback

STOPPED_AT = 5
PATIENCE = 400
"""Seconds after which a process reports where it waits, and ends."""
CLASSIFYING = {"classification": {"weight": 5.0}}


def recipe(**training: Any) -> dict[str, Any]:
    """With all that spans a batch: batch norm, dropout, few labels, free bits, clipping; and what follows it."""
    made = copy.deepcopy(RECIPE)
    # A bias before a batch norm has no gradient but rounding, of which Adam would make whole steps.
    made["model"]["encoder"][0]["conv"]["bias"] = False
    made["model"]["classifier"] = [{"linear": {"features": 10}}]
    made["objective"] = {"reconstruction": {}, "free-bits": {"nats": 0.3}, **CLASSIFYING}
    # Not a multiple of the processes: their parts of a batch differ in size.
    given = {"steps": 8, "epochs": None, "batch_size": 201, "log_every": 1, "ema": 0.9, "labels": 300}
    made["training"].update(given, sync_batch_norm=True, checkpoint_every=4, optimizer={"clip": 50.0, "lr": 3e-4})
    # In half precision, which `auto` is where the hardware has it, another order of the sums shows in each figure.
    made["training"].update(precision="float32")
    made["training"].update(training)
    return made


# What is computed over the images of a part is not that of the batch.
WITHOUT_NORM = {
    **recipe()["model"],
    "encoder": [layer for layer in RECIPE["model"]["encoder"] if layer != "batch-norm"],
}
STAGES: list[dict[str, Any]] = [
    {"steps": 4, "freeze": ["decoder"], "objective": {"classification": {"weight": 0.0}}},
    {"steps": 4},
]


def codes(update: str, *terms: str, **training: Any) -> dict[str, Any]:
    """With a codebook whose entries die all the time, since an even use is asked for."""
    model = {
        "input": [1, 8, 8],
        "encoder": [{"conv": {"channels": 8, "stride": 2}}, "relu"],
        "bottleneck": {"vq": {"codes": 16, "latent": 4, "update": update, "dead_code_threshold": 0.5, "decay": 0.5}},
        "decoder": [{"conv-transpose": {"channels": 1, "stride": 2}}],
        "likelihood": {"gaussian": {"sigma": 0.2}},
    }
    objective = {"reconstruction": {}, "commitment": {"weight": 0.25}, **{term: {} for term in terms}}
    return {**recipe(labels=None, **training), "model": model, "objective": objective}


def quantized(bottleneck: dict[str, Any], *terms: str, **training: Any) -> dict[str, Any]:
    """With another quantizer, whose terms and statistics span the batch."""
    made = codes("ema", *terms, **training)
    return {**made, "model": {**made["model"], "bottleneck": bottleneck}}


def hierarchy(**training: Any) -> dict[str, Any]:
    """With latents in the decoder, weighed by their divergence over the batch."""
    model = {
        "input": [1, 8, 8],
        "encoder": [
            {"conv": {"channels": 4, "stride": 2}},
            "silu",
            {"feature": {"name": "fine"}},
            {"conv": {"channels": 4, "stride": 2}},
            "silu",
        ],
        "bottleneck": {"gaussian": {"latent": 3}},
        "decoder": [
            {"conv-transpose": {"channels": 4, "stride": 2}},
            {"latent": {"feature": "fine", "channels": 2}},
            {"conv-transpose": {"channels": 1, "stride": 2}},
        ],
        "likelihood": "bernoulli",
    }
    objective = {"reconstruction": {}, "kl": {"balance": True}}
    return {**recipe(labels=None, **training), "model": model, "objective": objective}


def adversarial(fakes: str, **training: Any) -> dict[str, Any]:
    """With a discriminator, whose running means and adaptive weight span the batch."""
    patch = {"patch": {"channels": 4, "layers": 1}}
    term = {"discriminator": patch, "weight": 0.5, "r1": 0.3, "penalty_every": 2, "lecam": 0.1, "augment": ["color"]}
    term["fakes"] = fakes
    matching = {"error": "absolute", "weight": 3.0}
    objective = {"reconstruction": {}, "kl": {}, "feature-matching": matching, "adversarial": term, **CLASSIFYING}
    return {**recipe(**training), "model": WITHOUT_NORM, "objective": objective}


RUNS: dict[str, dict[str, Any]] = {
    "whole": recipe(),
    "parts": {
        **recipe(accumulate=3, checkpointing=True),
        "model": WITHOUT_NORM,
        "objective": {"reconstruction": {}, "kl": {}, **CLASSIFYING},
    },
    "shard": recipe(shard=True),
    "stages": {**recipe(steps=None), "stages": STAGES},
    "shard-stages-bf16": {**recipe(steps=None, shard=True, precision="bf16", checkpointing=True), "stages": STAGES},
    # Without a classification term, as in the first stage, the classifier's parameters have no gradient.
    "idle": {
        **recipe(ema=None, steps=None),
        "objective": {"reconstruction": {}, "kl": {}},
        "stages": [{"steps": 4}, {"steps": 4, "objective": CLASSIFYING}],
    },
    "codes": codes("ema"),
    "codes-gradient": codes("gradient", "codebook"),
    "codes-levels-slices": quantized(
        {"residual": {"levels": 2, "latent": 4, "dropout": 0.5, "quantizer": {"vq": {"codes": 8, "init": "k-means"}}}},
        accumulate=3,
    ),
    "codes-entropy-slices": quantized({"lfq": {"bits": 4, "temperature": 4.0}}, "entropy", accumulate=2),
    "hierarchy-slices": hierarchy(accumulate=2, optimizer={"name": "muon", "lr": 3e-4, "clip": 50.0}),
    "shard-hierarchy": hierarchy(shard=True, checkpointing=True, optimizer={"name": "sgd", "lr": 1e-5}),
    "shard-codes": codes("ema", shard=True),
    "adversarial": adversarial("both"),
    # The decoder of a sharded model cannot be called once more for samples.
    "shard-adversarial-slices": adversarial("reconstructions", shard=True, accumulate=2),
}


CODED: dict[str, Any] = {**RECIPE, "model": CODES, "objective": {"reconstruction": 1}}
# Batches that are not a multiple of the processes; dropout of values and of labels.
OPTIONS = ["training.batch_size=401", "training.steps=6", "training.log_every=1", "training.pictures_every=0"]
OPTIONS += ["training.ema=0.9", "training.optimizer.lr=0.003", "training.precision=float32", "name=same"]
FITS: dict[str, Any] = {
    "prior-of-codes": {"transformer": {"layers": 1, "width": 16, "heads": 2, "dropout": 0.2}},
    "prior-of-latents": {"flow-matching": {"width": 8, "blocks": 1, "steps": 2}},
    "prior-at-once": {"gmm": {"components": 3}},
}


def fit(prior: Any, runs: Path, out: Path, stop: int | None = None) -> Any:
    """Fits a prior to a model of latents, or to one of codes."""
    of = runs / ("coded" if "transformer" in prior else "whole")
    options = OPTIONS if "gmm" not in prior else ["name=same"]  # it takes no steps
    return convae.fit_prior(of, prior, overrides=options, out=out, callback=None if stop is None else StopAt(stop))


def main(folder: Path) -> None:
    """All runs, and one that is stopped by a signal that only the last process gets."""
    with connect_ranks() as ranks:
        (folder / f"met {ranks.number}").write_text(f"{ranks.count} {ranks.gather(ranks.is_main)}")
        for name, written in RUNS.items():
            train(written, out=folder / name)

        stepped = Engine.step

        def signaled(self: Engine, batch: Any, clocks: Any, *more: Any) -> Any:
            if clocks.training.step == STOPPED_AT - 1 and ranks.number == ranks.count - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return stepped(self, batch, clocks, *more)

        for name, written in {"stopped": recipe(), "shard-stopped": recipe(shard=True)}.items():
            with mock.patch.object(Engine, "step", signaled):
                run = train(written, out=folder / name)
            assert run.stopped
            assert run.is_main == ranks.is_main
        resume(folder / "alone", callback=Callback())
        try:
            train(recipe(batch_size=1), out=folder / "refused")
        except ConfigError as error:
            (folder / "refusal").write_text(str(error))
        except Exception as error:
            (folder / "told elsewhere").write_text(type(error).__name__)
        for name, prior in FITS.items():
            assert fit(prior, folder, folder / name).is_main == ranks.is_main
        assert not resume(folder / "prior-continued").stopped


def fork(count: int, folder: Path) -> int:
    """The processes with what torchrun tells them; 0 if all succeed."""
    for module in ("sklearn.mixture", "torch._dynamo", "torch.distributed.fsdp"):
        importlib.import_module(module)
    started = []
    for number in range(count):
        os.environ.update(WORLD_SIZE=str(count), RANK=str(number), LOCAL_RANK=str(number))
        started.append(os.fork())
        if not started[-1]:
            faulthandler.dump_traceback_later(PATIENCE, exit=True)  # processes that wait for each other say where
            main(folder)
            faulthandler.cancel_dump_traceback_later()
            return 0
    exits = [os.waitpid(process, 0)[1] for process in started]
    return int(any(exits))


if __name__ == "__main__":
    sys.exit(fork(int(sys.argv[1]), Path(sys.argv[2])))
