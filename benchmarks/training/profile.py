"""Where the time of a step goes, on both sides: `python -m benchmarks.training --profile [--case NAME ...]`."""

from __future__ import annotations

import json
import os
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch

KINDS = {
    # Deep convolutions are matrix products, which count as linear layers; copy_ also changes layouts.
    "convolutions, backward": ("convolution_backward", "ConvolutionBackward"),
    "convolutions, forward": ("mkldnn_convolution", "aten::_convolution", "aten::conv", "slow_conv"),
    "copies, changes of layout": ("aten::copy_", "aten::fill_", "aten::zero_"),
    "norms": ("norm",),
    "activations": ("relu", "threshold", "silu", "sigmoid", "tanh", "softplus", "leaky"),
    "linear layers, attention": ("aten::mm", "aten::addmm", "aten::linear", "attention", "aten::bmm"),
    "optimizer": ("adam", "_foreach", "Optimizer"),
}
REST = "all else"


@contextmanager
def profiled(steps: int) -> Iterator[None]:
    """Prints, as JSON, the milliseconds of a step by kind of work, and the share of the system in the time taken."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    with torch.profiler.profile() as profiler:
        yield
    after = resource.getrusage(resource.RUSAGE_SELF)
    found: Counter[str] = Counter()
    for event in profiler.key_averages():
        found[_kind(event.key)] += event.self_cpu_time_total / 1000 / steps
    system, user = after.ru_stime - before.ru_stime, after.ru_utime - before.ru_utime
    print(json.dumps({"ms": found, "system": system / (system + user)}), flush=True)


def _kind(operation: str) -> str:
    return next((kind for kind, parts in KINDS.items() if any(part in operation for part in parts)), REST)


def wanted() -> bool:
    """Whether this process was asked to profile its turns."""
    return "CONVAE_PROFILE" in os.environ


def table(name: str, peer: str, ours: str) -> str:
    """Two lines of `profiled` as Markdown."""
    both = [json.loads(line) for line in (peer, ours)]
    lines = [f"| {name}, ms of a step | peer | convae |", "| --- | ---: | ---: |"]
    for kind in (*KINDS, REST):
        lines.append(f"| {kind} | " + " | ".join(f"{side['ms'].get(kind, 0):.1f}" for side in both) + " |")
    lines.append("| **together** | " + " | ".join(f"**{sum(side['ms'].values()):.1f}**" for side in both) + " |")
    lines.append("| of it in the kernel | " + " | ".join(f"{side['system']:.0%}" for side in both) + " |")
    return "\n".join(lines)
