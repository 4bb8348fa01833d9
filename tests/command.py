"""Runs the command line inside the test's own process."""

from __future__ import annotations

import pytest

from convae.cli import main


def run(*arguments: object, code: int = 0) -> None:
    """Runs `convae` with these arguments, which has to end with this exit code."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert caught.value.code == code
