"""Training steps against the peers' own loops, by turns, without compilation."""

from __future__ import annotations

import statistics
from dataclasses import replace

from benchmarks.gpu.engine import find_case
from benchmarks.gpu.record import Record, Settings
from benchmarks.training.__main__ import take_turns, training_flops

SECONDS = 190
TURNS = 5
STEPS = {
    "torch-vae": 40,
    "sd-f8-256": 4,
    "celeba-beta": 20,
    "vanilla-vae": 40,
    "autoencoder-kl": 10,
    "pythae-mnist": 30,
    "pythae-celeba": 20,
    "torch-vae-files": 10,
}
"""Steps in a turn of a side, most important rows first."""


def measure(record: Record, settings: Settings) -> None:
    """Images/s of the peer, of the peer under bf16 autocast, and of convae."""
    names = ["tiny"] if settings.is_small else list(STEPS)
    for name in record.missing(names):
        with record.row(name) as row:
            case = replace(find_case(name), steps=STEPS.get(name, 2))
            sides = ["peer", "ours"] if name.startswith("pythae") else ["peer", "peer-bf16", "ours"]
            times, peaks = take_turns(case, 2 if settings.is_small else TURNS, settings.device, "auto", sides)
            images = case.batch * case.steps
            row["gflops"] = training_flops(case) / 1e9
            row["images_per_second"] = {side: images / statistics.median(own) for side, own in times.items()}
            row["ratios"] = {
                side: statistics.median(theirs / ours for theirs, ours in zip(times[side], times["ours"], strict=True))
                for side in sides
                if side != "ours"
            }
            row["peak_mib"] = peaks


def table(record: Record) -> str:
    """As Markdown."""
    lines = [
        "| network | GFLOP/image | peer, images/s | peer in bf16 | convae | ratio | to bf16 | MiB, peer / convae |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in record.rows.items():
        rates = [
            f"{row['images_per_second'][side]:,.0f}" if side in row["images_per_second"] else "–" for side in SIDES
        ]
        ratios = [f"{row['ratios'][side]:.2f}" if side in row["ratios"] else "–" for side in SIDES[:2]]
        peaks = f"{row['peak_mib']['peer']:,.0f} / {row['peak_mib']['ours']:,.0f}"
        lines.append(f"| {name} | {row['gflops']:,.2f} | {' | '.join([*rates, *ratios])} | {peaks} |")
    return "\n".join(lines)


SIDES = ("peer", "peer-bf16", "ours")
