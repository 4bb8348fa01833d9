"""`find-batch-size` against the largest batch that really runs within the same memory."""

from __future__ import annotations

import gc

import torch

from benchmarks.gpu.engine import Steps, find_case
from benchmarks.gpu.record import Record, Settings
from convae.core.memory import is_out_of_memory
from convae.training.memory import find_batch_size
from convae.training.recipe.reading import read_recipe

SECONDS = 75
BUDGETS = {"sd-f8-256": 24 << 30, "celeba-beta": 8 << 30}
"""Bytes, so that a step takes moments; the allocator refuses more."""
SMALL = {"tiny": 1 << 30}


def measure(record: Record, settings: Settings) -> None:
    """What is found, and the largest batch of which two steps run, by bisection."""
    budgets = SMALL if settings.is_small else BUDGETS
    for name in record.missing(list(budgets)):
        with record.row(name) as row:
            case, budget = find_case(name), budgets[name]
            most = 64 if settings.is_small else 1 << 16
            written = {"data": "digits", "model": case.model, "training": {"device": settings.device, "steps": 2}}
            found = find_batch_size(read_recipe(written), budget, most, on_message=print)
            row |= {"found": found.batch_size, "budget_gib": budget / 2**30, "probe_error": found.error}
            if settings.device == "cuda":
                _, total = torch.cuda.mem_get_info()
                torch.cuda.set_per_process_memory_fraction(budget / total)
            low, high = found.batch_size, found.batch_size * 5 // 4 + 1
            row["found_runs"] = runs(case.model, low, settings)
            while row["found_runs"] and high - low > max(1, low // 50):
                middle = (low + high) // 2
                low, high = (middle, high) if runs(case.model, middle, settings) else (low, middle)
            row["largest"], row["share"] = low, found.batch_size / low
            if settings.device == "cuda":
                torch.cuda.set_per_process_memory_fraction(1.0)


def runs(model: dict[str, object], batch: int, settings: Settings) -> bool:
    """Whether two steps of a batch run without running out of memory."""
    try:
        steps = Steps(model, batch, settings.device)
        steps.step()
        steps.step()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        steps = None  # type: ignore[assignment]  # its memory is released
        gc.collect()
        if settings.device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
    return True


def table(record: Record) -> str:
    """As Markdown."""
    lines = [
        "| network | memory, GiB | found | it runs | largest that runs | found / largest |",
        "| --- | ---: | ---: | --- | ---: | ---: |",
    ]
    for name, row in record.rows.items():
        cells = [f"{row['budget_gib']:.0f}", f"{row['found']:,}", "yes" if row["found_runs"] else "no"]
        lines.append(f"| {name} | {' | '.join(cells)} | {row['largest']:,} | {row['share']:.0%} |")
    return "\n".join(lines)
