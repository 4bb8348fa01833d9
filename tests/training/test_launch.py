"""A process does not wait for others that there are none of, and says that others cannot be reached."""

from __future__ import annotations

import sys
import threading

import pytest
import torch.distributed as dist

from convae.core.errors import ConfigError
from convae.training.launch import connect_ranks, leave_group


def environment(number: int, port: int) -> dict[str, str]:
    """What torchrun says to one of two processes."""
    said = {"RANK": number, "WORLD_SIZE": 2, "LOCAL_RANK": number, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {name: str(value) for name, value in said.items()}


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


def test_threads_that_wait_for_the_gil_end_before_the_group_is_destroyed(monkeypatch: pytest.MonkeyPatch) -> None:
    begins, alive = threading.Event(), list[bool]()
    thread = threading.Thread(target=begins.wait)  # in place of one of gloo, which frees a collective
    thread.start()
    monkeypatch.setattr(dist, "destroy_process_group", lambda: alive.append(thread.is_alive()))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # no other thread runs unless this one waits
    try:
        begins.set()
        leave_group()
    finally:
        sys.setswitchinterval(interval)
    thread.join()
    assert alive == [False]
