"""The audit of the locks fails on vulnerabilities, and only says so where nobody could be asked."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SAFE = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("packages", "passes", "says"),
    [
        ([SAFE, UNKNOWN], True, "0 known vulnerabilities in 1 packages"),
        ([SAFE, BAD], False, "b 2: CVE-1"),
        ([UNKNOWN], True, "NOT AUDITED"),
        (None, True, "NOT AUDITED"),
    ],
)
def test_only_a_known_vulnerability_fails(
    packages: list[dict[str, Any]] | None,
    passes: bool,
    says: str,
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed = "" if packages is None else json.dumps({"dependencies": packages, "fixes": []})
    answer = subprocess.CompletedProcess([], 1, stdout=printed, stderr="no route to host")
    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: answer)
    assert audit.check("some.lock") is passes
    assert says in capsys.readouterr().out


def test_every_locked_file_has_a_hash() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock", "requirements-oldest.lock"):
        text = (ROOT / lock).read_text(encoding="utf-8")
        entries = text.replace("\\\n", " ").splitlines()
        pinned = [entry for entry in entries if entry and not entry.startswith("#")]
        assert pinned
        assert all("==" in entry and "--hash=sha256:" in entry for entry in pinned), lock


def test_the_development_lock_holds_what_users_are_given() -> None:
    def pins(lock: str) -> set[str]:
        return {line.split()[0] for line in (ROOT / lock).read_text().splitlines() if "==" in line}

    assert pins("requirements.lock") <= pins("requirements-dev.lock")


def test_the_lock_belongs_to_the_dependencies_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[<>=\[ ;]", each)[0].lower() for each in project["dependencies"]} - {"torch"}
    locked = {line.partition("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}
    assert names <= locked
