"""What `encode_to` costs beside the model's own work, in time and in memory, and whether a killed run ends the same.

    python benchmarks/encode.py [--images 100000] [--size 28] [--kills 5]

- images/s of encoding a whole set to files, as a share of the rate at which the model encodes one batch in memory again
  and again: the two take turns, a file of 4,096 images each; median of three runs;
- the most memory of its own (not of mapped files) while encoding a quarter of the images, and all of them;
- files that are left by processes killed (kill -9) at random moments and then finished, against those of an unbroken
  run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch

import convae
from convae.core.allocator import keep_freed_memory
from convae.data import DataConfig, Split, in_order, open_split
from convae.latents import encode_to
from convae.latents.folders import SHARD
from convae.model.vae import VAE

BATCH = 256


def images(folder: Path, count: int, size: int) -> Split:
    """`count` images of noise."""
    path = folder / f"{count}.npy"
    if not path.exists():
        stored = np.lib.format.open_memmap(path, "w+", np.uint8, (count, size, size))
        generator = np.random.default_rng(0)
        for start in range(0, count, 4096):
            stored[start : start + 4096] = generator.integers(0, 256, stored[start : start + 4096].shape, np.uint8)
        stored.flush()
    return open_split(DataConfig(source={"arrays": {"path": str(path)}}), "all")


@torch.no_grad()
def own_rate(model: VAE, batch: torch.Tensor, count: int) -> float:
    """Images/s of the model alone."""
    began = time.perf_counter()
    for _ in range(count // BATCH):
        model.encode(batch)
    return count // BATCH * BATCH / (time.perf_counter() - began)


class Memory(threading.Thread):
    """Watches the anonymous memory of this process, in MiB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.done = 0.0, False

    def run(self) -> None:
        """Until it is told that all is done."""
        while not self.done:
            status = Path("/proc/self/status").read_text()
            self.most = max(self.most, int(status.partition("RssAnon:")[2].split()[0]) / 1024)
            time.sleep(0.02)


def one(model_path: Path, folder: Path, count: int, size: int, out: Path) -> float:
    """Encodes in this process; the most memory that it took."""
    model, split = convae.load(model_path), images(folder, count, size)
    watch = Memory()
    watch.start()
    encode_to(model, split, out, batch_size=BATCH)
    watch.done = True
    watch.join()
    return watch.most


def again(arguments: list[str]) -> subprocess.Popen[str]:
    """This script in another process."""
    return subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True)


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--one", nargs=2)
    given = parser.parse_args()
    keep_freed_memory()
    if given.one:
        folder, out = map(Path, given.one)
        print(json.dumps(one(folder / "model", folder, given.images, given.size, out)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["CONVAE_CACHE"] = str(folder / "cache")
        model = convae.build({"preset": "torch-vae", "input": [1, given.size, given.size], "latent": 64}).eval()
        convae.save(model, folder / "model")
        split = images(folder, given.images, given.size)
        batch = next(in_order(split, BATCH)).images  # laid out as encoding has them
        own_rate(model, batch, 20 * BATCH)
        shares = []
        for turn in range(3):
            alone: list[float] = []

            def take_turns(done: int, _total: int, _what: str, alone: list[float] = alone) -> None:
                if done % SHARD == 0:
                    alone.append(SHARD / own_rate(model, batch, SHARD))

            began = time.perf_counter()
            encode_to(model, split, folder / f"turn-{turn}", batch_size=BATCH, progress=take_turns)
            rate = given.images / (time.perf_counter() - began - sum(alone))
            own = SHARD * len(alone) / sum(alone)
            shares.append(rate / own)
            print(f"{rate:,.0f} images/s to files; the model alone {own:,.0f}: {shares[-1]:.1%}")
        print(f"share of the model's own rate: {statistics.median(shares):.1%}")

        options = [str(folder), "--size", str(given.size), "--images"]
        for count in (given.images // 4, given.images):
            process = again(["--one", options[0], str(folder / f"memory-{count}"), *options[1:], str(count)])
            most = json.loads(process.communicate()[0])
            print(f"{count:,} images: {most:,.0f} MiB of its own memory at most")

        wanted = {path.name: path.read_bytes() for path in (folder / f"memory-{given.images}").iterdir()}
        moments = random.Random(0)
        for kill in range(given.kills):
            out = folder / f"killed-{kill}"
            while True:
                process = again(["--one", options[0], str(out), *options[1:], str(given.images)])
                time.sleep(moments.uniform(3, 9))
                process.send_signal(signal.SIGKILL)
                process.wait()
                left = len(list(out.glob("latents-*"))) if out.exists() else 0
                if left:
                    break
            again(["--one", options[0], str(out), *options[1:], str(given.images)]).wait()
            found = {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")}
            print(f"killed after {left} of {len(wanted) - 1} files, then finished: equal bytes {found == wanted}")


if __name__ == "__main__":
    main()
