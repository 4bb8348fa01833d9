"""The callback by which long work reports progress."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Called periodically during work that may take longer than two seconds."""

    def __call__(self, done: int, total: int, what: str, /) -> None:
        """`done` of `total` units are finished; `what` names the work, such as `storing mnist (images)`."""
