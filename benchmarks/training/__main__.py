"""Training steps, convae against its peers, both sides by turns in one run.

    python -m benchmarks.training [--case NAME ...] [--growth | --profile] [--turns 7] [--out FILE.md]

Each side is a process of its own that takes some steps when it is its turn; the other waits meanwhile. Printed are
images per second (the median turn), the ratio of each pair of turns (median and quartiles), the largest memory of
each process, and what share of this machine's ceiling convae reaches: the rate of the fastest convolution found here,
forward and backward, in the precision of the run. Both sides have the same network: their numbers of parameters are
compared.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.training import profile
from benchmarks.training.cases import CASES, GPU, GROWTH, Case
from benchmarks.training.ceiling import fastest
from benchmarks.training.turns import WARM_UP

HEADINGS = ("network", "MFLOP/image", "peer, images/s", "convae, images/s", "ratio (quartiles)", "ceiling", "peak MiB")


class Side:
    """A process that trains when asked to: `peer`, `peer-bf16` (the peer under autocast), or `ours`."""

    def __init__(self, side: str, case: Case, data: Path, device: str, precision: str) -> None:
        words = [sys.executable, "-W", "ignore", "-m", "benchmarks.training", "--side", side, "--case", case.name]
        words += ["--steps", str(case.steps), "--data", str(data), "--device", device, "--precision", precision]
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # open as long as the process runs
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True
        )

    def wait(self) -> None:
        """Waits until it is ready for the first turn."""
        self._read("ready")

    def turn(self, steps: int) -> float:
        """Seconds of some steps."""
        assert self._process.stdin
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return float(self._read())

    def profile(self, steps: int) -> str:
        """What `profiled` says of some steps."""
        assert self._process.stdin
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        line = self._read()
        self._read()
        return line

    def end(self) -> float:
        """MiB that the process had at the most."""
        assert self._process.stdin
        self._process.stdin.close()
        peak = float(self._read())
        self._process.wait()
        return peak

    def _read(self, wanted: str | None = None) -> str:
        """The next line, or the next that is as wanted: libraries print, too."""
        assert self._process.stdout
        for line in self._process.stdout:
            if wanted is None or line.strip() == wanted:
                return line
        self._process.wait()
        self._said.seek(0)
        raise SystemExit(f"a side ended early:\n{self._said.read()}")


@dataclass(frozen=True)
class Found:
    """What was measured of one case: seconds of each turn, and the most memory, of both sides."""

    case: Case
    peer: list[float]
    ours: list[float]
    peaks: tuple[float, float]

    def row(self, flops: float, ceiling: float) -> list[str]:
        """The row of the table; `flops` of one image's training, `ceiling` in FLOP/s."""
        images = self.case.batch * self.case.steps
        ratios = [theirs / mine for theirs, mine in zip(self.peer, self.ours, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        rates = [images / statistics.median(times) for times in (self.peer, self.ours)]
        share = rates[1] * flops / ceiling
        ratio = f"{middle:.2f} ({low:.2f} … {high:.2f})"
        peaks = " / ".join(f"{peak:,.0f}" for peak in self.peaks)
        return [
            self.case.name,
            f"{flops / 1e6:,.0f}",
            f"{rates[0]:,.1f}",
            f"{rates[1]:,.1f}",
            ratio,
            f"{share:.0%}",
            peaks,
        ]


def further(found: list[Found]) -> str:
    """As Markdown, what each image costs that a larger batch adds to a smaller one, and each pixel of larger images."""
    lines = []
    for before, after in itertools.pairwise(found):
        added = after.case.batch - before.case.batch
        pixels = (
            after.case.input[1] * after.case.input[2] - before.case.input[1] * before.case.input[2]
        ) * before.case.batch
        steps = [
            [statistics.median(times) / each.case.steps for times in (each.peer, each.ours)] for each in (before, after)
        ]
        grown = [late - early for early, late in zip(*steps, strict=True)]
        if added > 0 and not pixels:
            each, unit = [1e3 * seconds / added for seconds in grown], "ms for each further image"
        elif pixels > 0 and not added:
            each, unit = [1e9 * seconds / pixels for seconds in grown], "ns for each further pixel"
        else:
            continue
        lines.append(f"| {before.case.name} → {after.case.name} | {each[0]:.3g} | {each[1]:.3g} | {unit} |")
    return "\n".join(["| from → to | peer | convae | |", "| --- | ---: | ---: | --- |", *lines])


@contextlib.contextmanager
def data_of(case: Case, turns: int) -> Iterator[Path]:
    """Images for all turns of a case, none of them twice: an array, or a folder of JPEGs of 178×218 pixels."""
    count = case.batch * (WARM_UP + case.steps * (turns + 1) + 1)
    generator = np.random.default_rng(0)
    channels, height, width = case.input
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CONVAE_CACHE"] = f"{folder}/cache"
        if case.files:
            files = Path(folder) / "images"
            files.mkdir()
            for number in range(count):
                rough = Image.fromarray(generator.integers(0, 256, (14, 11, 3), dtype=np.uint8))
                rough.resize((178, 218), Image.Resampling.BICUBIC).save(files / f"{number:06}.jpg", quality=90)
            yield files
        else:
            path = Path(folder) / "images.npy"
            np.save(path, generator.integers(0, 256, (count, height, width, channels), dtype=np.uint8))
            yield path


def take_turns(
    case: Case, turns: int, device: str, precision: str, names: Sequence[str]
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of each turn of each side, and MiB that each had at the most; who begins changes from turn to turn."""
    with data_of(case, turns) as data:
        sides = {name: Side(name, case, data, device, precision) for name in names}
        for side in sides.values():
            side.wait()
        times: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(turns + 1):
            for name in sorted(sides, reverse=bool(turn % 2)):
                seconds = sides[name].turn(case.steps)
                if turn:
                    times[name].append(seconds)
        return times, {name: side.end() for name, side in sides.items()}


def measured(case: Case, turns: int, device: str, precision: str) -> Found:
    """Both sides by turns."""
    times, peaks = take_turns(case, turns, device, precision, ("peer", "ours"))
    return Found(case, times["peer"], times["ours"], (peaks["peer"], peaks["ours"]))


def profiles(case: Case, device: str, precision: str) -> str:
    """Where the time of both sides goes, as Markdown."""
    os.environ["CONVAE_PROFILE"] = "1"
    with data_of(case, 2) as data:
        said = []
        for name in ("peer", "ours"):
            side = Side(name, case, data, device, precision)
            side.wait()
            side.profile(case.steps)
            said.append(side.profile(case.steps))
            side.end()
    return profile.table(case.name, *said)


def training_flops(case: Case) -> float:
    """Of one image: three times those of its forward pass, two for each multiplication with its addition."""
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.training.peers import network
    from convae.describe import resolve
    from convae.model.construct import construct

    model = construct(resolve(case.model)).eval()
    with torch.device("meta"):
        other = network(case)
    if other is not None:
        mine, theirs = (sum(p.numel() for p in m.parameters()) for m in (model, other))
        if mine != theirs:
            raise SystemExit(f"{case.name}: {mine:,} parameters here, {theirs:,} in the peer")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *case.input, device="meta"))
    return 3.0 * int(counter.get_total_flops())


def table(rows: list[list[str]]) -> str:
    """As Markdown."""
    lines = [list(HEADINGS), ["---", *["---:"] * (len(HEADINGS) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def processor() -> str:
    """What computes here, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, {platform.machine()}"


def main() -> None:
    """Prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [case.name for case in (*CASES, *GROWTH, *GPU)]
    parser.add_argument(
        "--case",
        nargs="*",
        action="extend",
        choices=names,
        metavar="NAME",
        help="rows; all of the table without it",
    )
    parser.add_argument("--growth", action="store_true", help="what a further image costs, instead of the table")
    parser.add_argument("--profile", action="store_true", help="where the time of a step goes, instead of the table")
    parser.add_argument("--turns", type=int, default=7, help="of each side")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="auto", help="of convae's side")
    parser.add_argument("--out", type=Path, help="where the table is written, too")
    parser.add_argument("--side", choices=("peer", "peer-bf16", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    wanted = given.case or [case.name for case in (GROWTH if given.growth else CASES)]
    chosen = [case for case in (*CASES, *GROWTH, *GPU) if case.name in wanted]
    if given.side:
        chosen = [replace(chosen[0], steps=given.steps)]
    if given.side == "ours":
        from benchmarks.training.ours import ours

        return ours(chosen[0], given.data, given.device, given.precision)
    if given.side:
        from benchmarks.training.peers import peer

        return peer(chosen[0], given.data, given.device, is_bf16=given.side == "peer-bf16")
    if given.profile:
        text = "\n\n".join(profiles(case, given.device, given.precision) for case in chosen)
        print(text)
        if given.out:
            given.out.write_text(text + "\n", encoding="utf-8")
        return None
    best = fastest(given.device, given.precision)
    title = f"{processor()}, torch {torch.__version__}; ceiling {best}"
    print(title, flush=True)
    rows, found = [], []
    for case in chosen:
        flops = training_flops(case)
        found.append(measured(case, given.turns, given.device, given.precision))
        rows.append(found[-1].row(flops, best.both))
        print(" | ".join(rows[-1]), f"(load {os.getloadavg()[0]:.1f})", flush=True)
    text = f"{title}\n\n{table(rows)}\n"
    if given.growth:
        text += f"\n{further(found)}\n"
    print(f"\n{text}")
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    return None


if __name__ == "__main__":
    main()
