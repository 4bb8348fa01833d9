"""Priors that several processes fit together: `python prior_ranks.py NUMBER COUNT MODEL CODED FOLDER`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from training.runs import StopAt

TESTS = Path(__file__).parents[1]
# Batches that are not a multiple of the processes; dropout of values and of labels.
OPTIONS = ["training.batch_size=401", "training.steps=6", "training.log_every=1", "training.pictures_every=0"]
OPTIONS += ["training.ema=0.9", "training.optimizer.lr=0.003", "training.precision=float32", "name=same"]
FITS: dict[str, Any] = {
    "codes": {"transformer": {"layers": 1, "width": 16, "heads": 2, "dropout": 0.2}},
    "latents": {"flow-matching": {"width": 8, "blocks": 1, "steps": 2}},
    "at-once": {"gmm": {"components": 3}},
}


def fit(name: str, prior: Any, model: Path, coded: Path, folder: Path, stop: int | None = None) -> Any:
    """Fits a prior to a model of latents, or to one of codes."""
    import convae

    of = coded if "transformer" in prior else model
    callback = None if stop is None else StopAt(stop)
    return convae.fit_prior(of, prior, overrides=OPTIONS, out=folder / name, callback=callback)


def run_processes(count: int, model: Path, coded: Path, folder: Path) -> None:
    """Fits all priors in several processes, and continues a run that this process begins."""
    fit("continued", FITS["codes"], model, coded, folder, stop=3)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    command = [sys.executable, "-W", "error", str(Path(__file__))]
    started = [
        subprocess.Popen(
            [*command, str(number), str(count), str(model), str(coded), str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    errors = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0] * count, "\n".join(errors)


def main(number: int, count: int, model: Path, coded: Path, folder: Path) -> None:
    """All fits of one process."""
    import torch.distributed as dist

    from convae.training import resume

    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=number, world_size=count)
    for name, prior in FITS.items():
        run = fit(name, prior, model, coded, folder)
        assert run.is_main == (number == 0)
    assert not resume(folder / "continued").stopped
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *map(Path, sys.argv[3:]))
