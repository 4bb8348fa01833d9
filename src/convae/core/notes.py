"""Notes that a command shows during long work or with its results.

`core.console` prints them; a command that fails prints only its error.
"""

from __future__ import annotations

_waiting: list[tuple[str, str | None]] = []


def note(sentence: str, style: str | None = None) -> None:
    """Queues a sentence for `take_notes`; duplicates are ignored."""
    if (sentence, style) not in _waiting:
        _waiting.append((sentence, style))


def take_notes() -> list[tuple[str, str | None]]:
    """Returns the queued sentences with their styles, and clears the queue."""
    taken = _waiting.copy()
    _waiting.clear()
    return taken
