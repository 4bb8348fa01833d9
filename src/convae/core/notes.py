"""Notes on the images that a command uses: shown when its work takes long, or with its results, or not at all.

A command that fails says why and nothing else.
"""

from __future__ import annotations

_waiting: list[tuple[str, str | None]] = []


def note(sentence: str, style: str | None = None) -> None:
    """Keeps a sentence until `show_notes`; one that waits already is not repeated."""
    if (sentence, style) not in _waiting:
        _waiting.append((sentence, style))


def show_notes() -> None:
    """Prints what waits, on stderr."""
    if _waiting:
        from convae.core.console import notes

        for sentence, style in _waiting:
            notes.print(sentence, soft_wrap=True, style=style)
        _waiting.clear()


def drop_notes() -> None:
    """Forgets what waits."""
    _waiting.clear()
