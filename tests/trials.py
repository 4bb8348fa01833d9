"""Trials of what a run promises to survive: damaged files, and faults at every call that writes.

The suite makes a few of each; `benchmarks/durability.py` makes the numbers that `docs/durability.md` states.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from training.runs import content

import convae
from convae.core import folders
from convae.core.checked_files import with_checksum
from convae.core.errors import ArtifactError, ConvaeError
from convae.model.artifact import CONFIG, WEIGHTS, find
from convae.training import resume, train
from convae.training.loop.checkpoint import STATE, TENSORS, list_checkpoints, read_checkpoint
from convae.training.run_folder import RunFolder


def check(run: Path) -> None:
    """Everything that lies in a run folder can be read, whatever happened to the process that wrote it."""
    for checkpoint in list_checkpoints(run / "checkpoints"):
        read_checkpoint(checkpoint)
    if (run / "model").exists() or (run / ".model.old").exists():
        convae.load(run)
    if (run / "metrics.jsonl").exists():
        RunFolder(run).rows()


class Faults:
    """Counts the calls that write inside a folder, and lets them fail from the `at`-th on.

    Args:
        root: the folder.
        at: number of the first call that fails; None to count only.
        code: of the error.
        lasting: whether all later calls fail too, as on a full disk, or just the one.
    """

    def __init__(self, root: Path, at: int | None = None, code: int = errno.EIO, lasting: bool = False) -> None:
        self.root, self.at, self.code, self.lasting = str(root), at, code, lasting
        self.calls = 0

    def due(self) -> bool:
        """Whether the call that is about to be made fails."""
        number = self.calls
        self.calls += 1
        return self.at is not None and (number == self.at or (self.lasting and number > self.at))

    def strike(self) -> None:
        if self.due():
            raise OSError(self.code, os.strerror(self.code))

    @contextlib.contextmanager
    def injected(self) -> Iterator[Faults]:
        """Inside the block, the calls are counted and may fail."""
        kept = {name: getattr(os, name) for name in ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir")}
        opened, exchanged = io.open, folders.exchange
        for name, function in kept.items():
            setattr(os, name, self._counted(function))
        io.open = self._open(opened)
        folders.exchange = lambda one, other: not self.due() and exchanged(one, other)
        try:
            yield self
        finally:
            for name, function in kept.items():
                setattr(os, name, function)
            io.open = opened
            folders.exchange = exchanged

    def _ours(self, path: Any) -> bool:
        return isinstance(path, int) or str(path).startswith(self.root)  # a number is a descriptor that is synced

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *more: Any, **options: Any) -> Any:
            if self._ours(path):
                self.strike()
            return function(path, *more, **options)

        return call

    def _open(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
            if not set(mode) & set("wax+") or not self._ours(path):
                return function(path, mode, *more, **options)
            self.strike()
            return _Faulty(function(path, mode, *more, **options), self)

        return call


class _Faulty:
    """A file that writes half of what it was given when it fails."""

    def __init__(self, file: Any, faults: Faults) -> None:
        self._file, self._faults = file, faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Faulty:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, content: Any) -> int:
        try:
            self._faults.strike()
        except OSError:
            self._file.write(content[: len(content) // 2])
            raise
        return int(self._file.write(content))

    def truncate(self, size: int) -> int:
        self._faults.strike()
        return int(self._file.truncate(size))


def fault_trial(recipe: dict[str, Any], run: Path, unbroken: dict[str, bytes], faults: Faults) -> str | None:
    """A run with a fault in it loses nothing, and ends as the unbroken one does when the fault is over.

    Returns:
        The sentence with which it ended; None where it bore the fault.
    """
    said: str | None = None
    try:
        with faults.injected():
            train(recipe, out=run)
    except ConvaeError as error:
        said = str(error)
        assert "\n" not in said
    check(run)
    if (run / "recipe.yaml").exists():
        resume(run)
    else:
        train(recipe, out=run)
    check(run)
    assert content(run) == unbroken
    left = [path for path in run.rglob(".*") if path.name != ".lock"]
    assert not left, left
    return said


class Damage:
    """Damaged copies of one artifact and one checkpoint, each of which is refused or is what it was.

    Args:
        run: a run folder that holds both; its files are changed and put back.
        seed: of the damages.
    """

    def __init__(self, run: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.model, self.checkpoint = find(run), list_checkpoints(run / "checkpoints")[-1]
        self._read: dict[Path, Callable[[], tuple[Any, dict[str, torch.Tensor]]]] = {
            self.model / CONFIG: self._load,
            self.model / WEIGHTS: self._load,
            self.checkpoint / STATE: self._restore,
            self.checkpoint / TENSORS: self._restore,
        }
        self._good = {path: (path.read_bytes(), read()) for path, read in self._read.items()}
        self.counts: dict[str, int] = {}

    def _load(self) -> tuple[Any, dict[str, torch.Tensor]]:
        model = convae.load(self.model)
        return (model.spec, model.provenance), model.state_dict()

    def _restore(self) -> tuple[Any, dict[str, torch.Tensor]]:
        checkpoint = read_checkpoint(self.checkpoint)
        return checkpoint.progress, checkpoint.tensors

    def trial(self) -> None:
        """One damage to one file. Counts what came of it, by kind.

        Raises:
            AssertionError: the file was taken, and is not what was written.
            Exception: anything else but an `ArtifactError` in one line.
        """
        path = self.random.choice(list(self._good))
        content, (said, tensors) = self._good[path]
        way = self.random.choice([*_BYTES, *(_HEADERS if path.suffix == ".safetensors" else _TEXTS)])
        kind = f"{way.__name__.strip('_').replace('_', ' ')}, {path.name}"
        damaged = way(content, self.random)
        path.write_bytes(damaged)
        try:
            found, weights = self._read[path]()
            assert weights.keys() == tensors.keys(), kind
            assert all(torch.equal(weights[name], value) for name, value in tensors.items()), kind
            # What somebody sealed anew is theirs to say, but not the weights.
            assert found == said or way is _sealed_anew, kind
            came = "the same"
        except ArtifactError as error:
            assert "\n" not in str(error), (kind, str(error))
            assert len(str(error)) < 2000, (kind, str(error))
            came = "refused"
        finally:
            path.write_bytes(content)
        name = f"{kind}: {came}"
        self.counts[name] = self.counts.get(name, 0) + 1


def _flipped(content: bytes, random: random.Random) -> bytes:
    result = bytearray(content)
    for _ in range(random.choice([1, 1, 1, 2, 8, 64])):
        result[random.randrange(len(result))] ^= 1 << random.randrange(8)
    return bytes(result)


def _cut_off(content: bytes, random: random.Random) -> bytes:
    return content[: random.randrange(len(content))]


def _extended(content: bytes, random: random.Random) -> bytes:
    more = random.choice([bytes(1), b"\n", bytes(4096), random.randbytes(64), content])
    return content + more if random.random() < 0.5 else more + content


def _region_gone(content: bytes, random: random.Random) -> bytes:
    start, end = sorted(random.sample(range(len(content) + 1), 2))
    return content[:start] + content[end:]


def _region_twice(content: bytes, random: random.Random) -> bytes:
    start, end = sorted(random.sample(range(len(content) + 1), 2))
    return content[:end] + content[start:end] + content[end:]


def _region_overwritten(content: bytes, random: random.Random) -> bytes:
    start, end = sorted(random.sample(range(len(content) + 1), 2))
    length = min(end - start, 512)
    return content[:start] + random.choice([bytes(length), random.randbytes(length)]) + content[start + length :]


def _regions_swapped(content: bytes, random: random.Random) -> bytes:
    a, b, c, d = sorted(random.sample(range(len(content) + 1), 4))
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


_VALUES: list[Any] = [None, True, -1, 0, 2**31, 2**63, 2**200, 1e308, float("nan"), "", "a" * 5000, "F64", [], {}, [[]]]
_VALUES += [[2**40], [-1], {"format": 1}, "../../etc/passwd", "\x00", "\ud800", "relu", 1.5]


def _mutated(value: Any, random: random.Random) -> Any:
    """A JSON value with one change somewhere in it."""
    if not isinstance(value, dict | list) or not value or random.random() < 0.15:
        return random.choice(_VALUES)
    result: Any = dict(value) if isinstance(value, dict) else list(value)
    place: Any = random.choice(list(result)) if isinstance(result, dict) else random.randrange(len(result))
    change = random.random()
    if change < 0.15:
        del result[place]
    elif change < 0.25 and isinstance(result, dict):
        result[random.choice(["extra", "__metadata__", place + "x", ""])] = result.pop(place)
    elif change < 0.35:
        other = random.choice(list(result.values()) if isinstance(result, dict) else result)
        result[place] = other
    elif change < 0.4 and isinstance(result, list):
        result += result * random.choice([1, 50])
    else:
        result[place] = _mutated(result[place], random)
    return result


def _edited(content: bytes, random: random.Random) -> bytes:
    value = json.loads(content)
    for _ in range(random.choice([1, 1, 2, 4])):
        value = _mutated(value, random)
    return json.dumps(value).encode()


def _sealed_anew(content: bytes, random: random.Random) -> bytes:
    value = json.loads(content)
    for _ in range(random.choice([1, 1, 2, 4])):
        value = _mutated(value, random)
    if isinstance(value, dict):
        value.pop("config_sha256", None)
        value = with_checksum(value)
    return json.dumps(value).encode()


def _deep(_content: bytes, random: random.Random) -> bytes:
    depth = random.choice([100, 10_000, 200_000])
    return random.choice([b"[" * depth, b'{"format":' * depth, b'{"format": 1, "model": ' + b"[" * depth])


def _header_edited(content: bytes, random: random.Random) -> bytes:
    length = int.from_bytes(content[:8], "little")
    header = _mutated(json.loads(content[8 : 8 + length]), random)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def _header_length(content: bytes, random: random.Random) -> bytes:
    length = random.choice([0, 1, 7, len(content), 2**31, 2**63, 2**64 - 1, random.randrange(len(content))])
    return length.to_bytes(8, "little") + content[8:]


def _tensors_exchanged(content: bytes, random: random.Random) -> bytes:
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    one, other = random.sample([name for name in header if name != "__metadata__"], 2)
    header[one], header[other] = header[other], header[one]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


_BYTES = [_flipped, _cut_off, _extended, _region_gone, _region_twice, _region_overwritten, _regions_swapped]
_TEXTS = [_edited, _edited, _sealed_anew, _sealed_anew, _deep]
_HEADERS = [_header_edited, _header_edited, _header_length, _tensors_exchanged]
