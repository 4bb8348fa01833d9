"""Notes on the images that a command uses: shown when its work takes long, or with its results, or not at all.

A command that fails says why and nothing else. `core.console` prints them.
"""

from __future__ import annotations

_waiting: list[tuple[str, str | None]] = []


def note(sentence: str, style: str | None = None) -> None:
    """Keeps a sentence until `take_notes`; one that waits already is not repeated."""
    if (sentence, style) not in _waiting:
        _waiting.append((sentence, style))


def take_notes() -> list[tuple[str, str | None]]:
    """The sentences that wait, with their styles; they wait no longer."""
    taken = _waiting.copy()
    _waiting.clear()
    return taken
