"""The tests marked `gpu`, each with its outcome."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.gpu.record import Record, Settings

SECONDS = 150
ROOT = Path(__file__).parents[3]


def measure(record: Record, settings: Settings) -> None:
    """Runs them, or only collects them without a GPU, where the suite runs their rehearsals."""
    if not record.missing(["outcomes"]):
        return
    with record.row("outcomes") as row, tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:randomly", "-m", "gpu", "-W", "default"]
        command += ["tests/gpu", f"--junitxml={report}"]
        if settings.device != "cuda":
            command.append("--collect-only")
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        print(done.stdout[-4000:], done.stderr[-2000:], flush=True)
        if settings.device != "cuda":
            row["collected"] = sum("::" in line for line in done.stdout.splitlines())
            if done.returncode or not row["collected"]:
                raise RuntimeError("the tests marked gpu could not be collected")
            return
        cases = ElementTree.parse(report).iter("testcase")
        outcomes = {f"{case.get('classname')}::{case.get('name')}": _outcome(case) for case in cases}
        row["counts"] = dict(Counter(outcome.partition(":")[0] for outcome in outcomes.values()))
        row["others"] = {name: outcome for name, outcome in outcomes.items() if outcome != "passed"}
        if not outcomes:
            raise RuntimeError("no tests were run")


def _outcome(case: ElementTree.Element) -> str:
    """`passed`, or the kind and the first line of the message."""
    for child in case:
        if child.tag in ("failure", "error", "skipped"):
            return f"{child.tag}: {(child.get('message') or '').partition(chr(10))[0][:300]}"
    return "passed"


def table(record: Record) -> str:
    """As Markdown."""
    row = record.rows.get("outcomes", {})
    lines = [", ".join(f"{count} {outcome}" for outcome, count in row.get("counts", {}).items())]
    return "\n".join([*lines, *(f"- `{name}`: {outcome}" for name, outcome in row.get("others", {}).items())])
