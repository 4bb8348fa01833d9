"""Looks for known vulnerabilities in the packages of lock files.

    python .ci/audit.py requirements.lock requirements-dev.lock

Exit code 1 when a package has one. Where the advisories cannot be reached, this says so and the exit code is 0: a
machine without a network can still run the other checks, and the log shows that this one was not made.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

SERVICES = ("osv", "pypi")
"""Where pip-audit asks, in this order: the first that answers for any package is taken."""


def audit(lock: str, service: str) -> dict[str, Any] | None:
    """What pip-audit reports of a lock, as it is in its JSON; None where the service cannot be asked."""
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--progress-spinner=off",
        "--format=json",
        f"--vulnerability-service={service}",
    ]
    done = subprocess.run(
        [*command, "--no-deps", "--disable-pip", "--require-hashes", f"--requirement={lock}"],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        report: dict[str, Any] = json.loads(done.stdout)
        return report
    except ValueError:
        reason = done.stderr.strip().splitlines()[-1:] or ["no answer"]
        print(f"{lock}: {service}: not reached ({reason[0][:160]})")
        return None


def found(report: Mapping[str, Any]) -> tuple[list[str], int, int]:
    """Vulnerabilities, a line each; how many packages were looked up; how many were not."""
    packages = report["dependencies"]
    looked_up = [package for package in packages if "skip_reason" not in package]
    lines = [
        f"{package['name']} {package['version']}: {one['id']}"
        f" ({', '.join(one.get('fix_versions') or []) or 'no release'} mends it)"
        for package in looked_up
        for one in package["vulns"]
    ]
    return lines, len(looked_up), len(packages) - len(looked_up)


def check(lock: str) -> bool:
    """Prints what is known of a lock; whether nothing is against it."""
    for service in SERVICES:
        report = audit(lock, service)
        if report is None:
            continue
        lines, looked_up, missed = found(report)
        if not looked_up:
            print(f"{lock}: {service}: knows none of the {missed} packages here")
            continue
        print(
            f"{lock}: {len(lines)} known vulnerabilities in {looked_up} packages ({missed} not looked up), by {service}"
        )
        print("".join(f"  {line}\n" for line in lines), end="")
        return not lines
    print(f"{lock}: NOT AUDITED: no service with advisories can be reached from this machine")
    return True


if __name__ == "__main__":
    sys.exit(0 if all(list(map(check, sys.argv[1:]))) else 1)
