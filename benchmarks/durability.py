"""What a run survives, by the thousand: kills, faults, full disks, damaged files; and that it resumes bit-equal.

    python benchmarks/durability.py kills --count 1000 --elsewhere /dev/shm
    python benchmarks/durability.py faults
    python benchmarks/durability.py disks            (as root: it mounts small file systems)
    python benchmarks/durability.py damage --count 100000
    python benchmarks/durability.py steps

All use one run of 12 steps with everything on: three stages (one frozen, one that a plateau ends), averaged weights,
batches in parts, augmentation, a classifier with few labels, clipping, dropout, batch norm. A failed trial ends the
script with its traceback and leaves its folder.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

# In place of this file's own folder, in which another package has the name of one there.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from training.runs import EVERYTHING, StopAt, content
from trials import Damage, Faults, check, fault_trial

from convae.core.errors import ConvaeError
from convae.training import Run, resume, train

STEPS = 12


def forked(run: Path) -> int:
    """The process that begins the run, or goes on with it; torch is imported already, so it begins at once."""
    child = os.fork()
    if child:
        return child
    try:
        if (run / "recipe.yaml").exists():
            resume(run)
        else:
            train(EVERYTHING, out=run)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def kills(folder: Path, elsewhere: Path, count: int, seed: int) -> None:
    """Kill -9 at random moments, until there were `count`; every run is gone on with until it is done, and compared."""
    train(EVERYTHING, out=folder / "unbroken")
    unbroken = content(folder / "unbroken")
    moments = random.Random(seed)
    killed, found, done, longest = 0, Counter[str](), 0, 1.0
    began = time.time()
    while killed < count:
        # The run folder, and the folder for temporary files, on either file system.
        home, temporary = ((folder, folder), (folder, elsewhere), (elsewhere, folder))[done % 3]
        os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
        run = home / f"run-{done}"
        while True:
            start = time.time()
            child = forked(run)
            wait = moments.uniform(0, longest)
            ended, status = 0, 0
            while not ended and time.time() - start < wait:
                time.sleep(0.001)
                ended, status = os.waitpid(child, os.WNOHANG)
            if not ended:
                os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
            if status == signal.SIGKILL:
                killed += 1
                left = [path.name for path in run.rglob(".*") if path.name != ".lock"]
                found["in the middle of writing a file or a folder"] += bool(left)
                found["before the first checkpoint"] += not any((run / "checkpoints").glob("step-*"))
            else:
                assert status == 0, f"{run} ended with {status}"
            if run.exists():
                check(run)
            if status == 0:
                longest = 0.7 * longest + 0.3 * 1.2 * (time.time() - start)
                break
        assert content(run) == unbroken, run
        done += 1
        subprocess.run(["rm", "-rf", run], check=True)
        if done % 20 == 0:
            print(f"{killed} kills, {done} runs done, {time.time() - began:.0f} s", flush=True)
    print(f"{killed} kills; {done} runs went on to their end and equal the unbroken one byte for byte")
    for what, number in found.items():
        print(f"  {number} of the kills {what}")


def faults(folder: Path) -> None:
    """A fault at every call that writes: once (EIO), and from then on (ENOSPC)."""
    recipe = {**EVERYTHING, "training": {**EVERYTHING["training"], "checkpoint_every": 3, "pictures_every": 1}}
    counted = Faults(folder)
    with counted.injected():
        train(recipe, out=folder / "unbroken")
    unbroken = content(folder / "unbroken")
    for code, lasting in ((errno.EIO, False), (errno.ENOSPC, True)):
        said = Counter[str]()
        for at in range(counted.calls):
            run = folder / f"{errno.errorcode[code]}-{at}"
            sentence = fault_trial(recipe, run, unbroken, Faults(run, at, code, lasting))
            said["borne" if sentence is None else "one sentence"] += 1
            subprocess.run(["rm", "-rf", run], check=True)
        how = "at this call and all later ones" if lasting else "at this call alone"
        print(f"{errno.errorcode[code]} {how}, for each of {counted.calls} calls: {dict(said)}", flush=True)


@contextlib.contextmanager
def mounted(place: Path, options: str) -> Iterator[Path]:
    """A small file system in memory."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def disks(folder: Path) -> None:
    """Disks that are full at any moment of the run, and one that can only be read."""
    train(EVERYTHING, out=folder / "unbroken")
    unbroken = content(folder / "unbroken")
    said = Counter[str]()
    sizes = range(8, 1024, 16)
    for size in sizes:
        with mounted(folder / f"full-{size}", f"size={size}k") as disk:
            try:
                train(EVERYTHING, out=disk / "run")
                said["had room"] += 1
            except ConvaeError as error:
                said["one sentence" if "No space left" in str(error) else str(error)] += 1
            check(disk / "run")
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            if (disk / "run" / "recipe.yaml").exists():
                resume(disk / "run")
            else:
                train(EVERYTHING, out=disk / "run")
            assert content(disk / "run") == unbroken, size
    print(f"{len(sizes)} disks of {sizes[0]} to {sizes[-1]} KiB, given room afterwards: {dict(said)}; all runs equal")
    with mounted(folder / "read-only", "size=64m") as disk:
        train(EVERYTHING, out=disk / "run", callback=StopAt(5))
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        works: list[Callable[[], Run]] = [
            lambda: resume(disk / "run"),
            lambda: train(EVERYTHING, out=disk / "other"),
        ]
        for work in works:
            try:
                work()
                raise AssertionError("wrote to a disk that can only be read")
            except ConvaeError as error:
                print(f"read-only disk: {str(error).replace(str(disk), 'DISK')}")
        check(disk / "run")
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        resume(disk / "run")
        assert content(disk / "run") == unbroken


def damage(folder: Path, count: int, seed: int) -> None:
    """Damaged artifacts and checkpoints."""
    train(EVERYTHING, out=folder / "run")
    trials = Damage(folder / "run", seed)
    for number in range(1, count + 1):
        signal.alarm(60)  # a trial that hangs is a crash
        trials.trial()
        if number % 10_000 == 0:
            print(f"{number} damaged files", flush=True)
    signal.alarm(0)
    came = Counter[tuple[str, str]]()
    for name, times in trials.counts.items():
        kind, _, rest = name.partition(", ")
        came[kind, rest.partition(": ")[2]] += times
    for kind in sorted({kind for kind, _ in came}):
        print(f"| {kind} | {came[kind, 'refused']:,} | {came[kind, 'the same']:,} |")
    whole = [sum(times for (_, how), times in came.items() if how == which) for which in ("refused", "the same")]
    print(f"{count:,} damaged files: {whole[0]:,} refused in one sentence, {whole[1]:,} read as what was written")


def steps(folder: Path) -> None:
    """The run stopped after every step, and from each gone on with to the end."""
    train(EVERYTHING, out=folder / "unbroken")
    for step in range(1, STEPS):
        train(EVERYTHING, out=folder / f"run-{step}", callback=StopAt(step))
        resume(folder / f"run-{step}")
        assert content(folder / f"run-{step}") == content(folder / "unbroken"), step
    print(f"stopped after each of {STEPS - 1} steps and resumed: all equal the unbroken run byte for byte")


def main() -> None:
    """Makes the trials that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "faults", "disks", "damage", "steps"])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--elsewhere", type=Path, default=Path("/dev/shm"), help="a folder on another file system")
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="durability-"))
    elsewhere = Path(tempfile.mkdtemp(prefix="durability-", dir=given.elsewhere))
    began = time.time()
    match given.what:
        case "kills":
            kills(folder, elsewhere, given.count, given.seed)
        case "faults":
            faults(folder)
        case "disks":
            disks(folder)
        case "damage":
            damage(elsewhere, given.count, given.seed)
        case "steps":
            steps(folder)
    subprocess.run(["rm", "-rf", folder, elsewhere], check=True)
    print(f"{time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
