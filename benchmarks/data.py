"""What the data side costs, against a plain loop and torch's DataLoader as a competent user writes them.

    python benchmarks/data.py --photos PHOTOS [--images 10000] [--rounds 1]

Makes JPEGs of 178×218 from crops of the photographs in PHOTOS, and prints, as ratios within one run on two cores. In
each round all take their turn; the median and the range of the rounds' ratios are printed:

- an epoch of 64×64 batches from the store against Pillow + DataLoader with 0 and 2 workers: the first, which decodes;
  the first of another run, which opens the store and checks each image; later ones;
- the gather against copying memory, one thread each: against one large copy, and against copying equally large
  pieces in their order into the same memory. Both sides read and write as many bytes;
- the share of a training run's steps (`torch-vae`) that waits for data.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import convae
from convae.data import Batches, DataConfig, open_split

SIZE, BATCH = 64, 64


def make_jpegs(photos: Path, folder: Path, count: int) -> list[Path]:
    """`count` crops of the photographs, 178×218, quality 90."""
    generator = np.random.default_rng(0)
    originals = [Image.open(path).convert("RGB") for path in sorted(photos.glob("*.png"))]
    paths = [folder / f"{number:06d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        image = originals[number % len(originals)]
        left, top = (int(generator.integers(0, side)) for side in (image.width - 178, image.height - 218))
        image.crop((left, top, left + 178, top + 218)).save(path, quality=90)
    return paths


class Plain(torch.utils.data.Dataset[torch.Tensor]):
    """Pillow, center crop, resize, tensor: the usual few lines."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as file:
            image = file.convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255)


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def epochs(paths: list[Path], folder: Path, cache: Path) -> dict[str, float]:
    """Seconds of an epoch, by way; the cache has to be new."""
    os.environ["CONVAE_CACHE"] = str(cache)
    config = DataConfig(source=str(folder), size=(SIZE, SIZE), validation=0, test=0)

    def stored(batches: Batches, epoch: int) -> None:
        for _ in batches.iterate(epoch):
            pass

    def opened() -> Batches:
        return Batches(open_split(config, "train"), BATCH, seed=0)

    def loaded(workers: int) -> None:
        loader = torch.utils.data.DataLoader(Plain(paths), BATCH, shuffle=True, num_workers=workers, drop_last=True)
        for _ in loader:
            pass

    plain = {f"DataLoader, {workers} workers": seconds(partial(loaded, workers)) for workers in (0, 2)}
    first = seconds(lambda: stored(opened(), 0))
    again = statistics.median(seconds(lambda: stored(opened(), 0)) for _ in range(5))
    batches = opened()
    stored(batches, 0)
    later = statistics.median(seconds(partial(stored, batches, epoch)) for epoch in range(1, 8))
    return {**plain, "store, first epoch": first, "store, first of a new run": again, "store, later epochs": later}


def gather(folder: Path) -> tuple[float, float]:
    """The rate of the gather as shares of the rates of a large copy and of pieces in order; one thread."""
    split = open_split(DataConfig(source=str(folder), size=(SIZE, SIZE), validation=0, test=0), "train")
    torch.set_num_threads(1)
    count, length = len(split) // BATCH * BATCH, split.image_bytes
    order = np.random.default_rng(0).permutation(count)
    source = torch.randint(0, 256, (count, length), dtype=torch.uint8)
    target, piece = torch.empty_like(source), torch.empty(BATCH, length, dtype=torch.uint8)

    def gather_tensor() -> None:
        for start in range(0, count, BATCH):
            split.images(order[start : start + BATCH], piece)

    def in_pieces() -> None:
        for start in range(0, count, BATCH):
            piece.copy_(source[start : start + BATCH])

    ways = (gather_tensor, lambda: target.copy_(source), in_pieces)
    for way in ways:
        way()
    # By turns, so that what else the machine does falls on all alike; the best of each is the least disturbed.
    times = [[seconds(way) for way in ways] for _ in range(15)]
    best = [min(turn[number] for turn in times) for number in range(len(ways))]
    torch.set_num_threads(2)
    return best[1] / best[0], best[2] / best[0]


def waiting(folder: Path, steps: int) -> float:
    """The share of the steps' time in which the training waits for its batch."""
    split = open_split(DataConfig(source=str(folder), size=(SIZE, SIZE), validation=0, test=0), "train")
    model = convae.build({"preset": "torch-vae", "input": [3, SIZE, SIZE]}, seed=0)
    optimizer = torch.optim.Adam(model.parameters())
    batches = Batches(split, BATCH, seed=0).iterate(0)
    waited = 0.0
    next(batches)
    began = time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        output = model(batch.images)
        (-output.likelihood.log_prob(batch.images) + output.posterior.kl()).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return waited / (time.perf_counter() - began)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="a folder of large PNG photographs")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "jpegs"
        folder.mkdir()
        paths = make_jpegs(given.photos, folder, given.images)
        rounds = [epochs(paths, folder, Path(temporary) / f"cache-{number}") for number in range(given.rounds)]
        for name in rounds[0]:
            print(f"{name:26} {statistics.median(found[name] for found in rounds):8.3f} s", end="")
            for workers in (0, 2):
                ratios = sorted(found[f"DataLoader, {workers} workers"] / found[name] for found in rounds)
                median = statistics.median(ratios)
                print(f"   {median:6.1f}× ({ratios[0]:.1f} … {ratios[-1]:.1f}) {workers} workers", end="")
            print()
        large, pieces = gather(folder)
        print(f"gather: {large:.0%} of a large copy, {pieces:.0%} of copying pieces in their order")
        print(f"waiting for data: {waiting(folder, min(100, len(paths) // BATCH - 2)):.2%} of the steps' time")
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
