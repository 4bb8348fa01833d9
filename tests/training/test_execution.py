"""Processes that torchrun starts find each other, also after some of them died, or say that they did not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from convae.core.errors import ConfigError
from convae.training.execution import connect_ranks

MEET = """
from convae.training.execution import connect_ranks
with connect_ranks() as ranks:
    print(ranks.count, ranks.gather(ranks.is_main))
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def environment(number: int, port: int) -> dict[str, str]:
    """What torchrun says to one of two processes."""
    said = {"RANK": number, "WORLD_SIZE": 2, "LOCAL_RANK": number, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {name: str(value) for name, value in said.items()}


def test_two_processes_meet_and_know_which_is_the_main_one() -> None:
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MEET], env=os.environ | environment(number, port), stdout=subprocess.PIPE, text=True
        )
        for number in range(2)
    ]
    assert [process.communicate(timeout=120)[0] for process in processes] == ["2 [True, False]\n"] * 2
    assert [process.returncode for process in processes] == [0, 0]


def test_a_process_alone_does_not_wait_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (environment(0, 1) | {"WORLD_SIZE": "1"}).items():
        monkeypatch.setenv(name, value)
    with connect_ranks() as ranks:
        assert (ranks.count, ranks.is_main) == (1, True)


def test_others_that_cannot_be_reached_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (environment(0, 1) | {"MASTER_PORT": "no number"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="WORLD_SIZE") as caught, connect_ranks():
        pytest.fail("nobody is there")
    assert "\n" not in str(caught.value)
