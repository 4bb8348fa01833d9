"""A process does not wait for others that there are none of, and says that others cannot be reached."""

from __future__ import annotations

import pytest

from convae.core.errors import ConfigError
from convae.training.launch import connect_ranks


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
