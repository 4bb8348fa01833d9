"""`convae cache`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from convae.core.errors import OutputError

if TYPE_CHECKING:
    from convae.data.store.cache import Cached

PANEL = "Share"
"""The heading under which the help lists the command."""


def cache(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Only these: names as listed, or sources such as 'folder photos'.", show_default=False),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove them; without names, all but downloads.")] = False,
    older_than: Annotated[
        float | None, typer.Option("--older-than", min=0, help="Only what was not used for this many days.")
    ] = None,
) -> None:
    """List decoded images, latents, exported graphs, downloaded data sets and models in the cache, or remove them.

    Removed images, latents of frozen encoders and graphs of `--engine` are computed again when needed. Downloads are
    removed by name only.

    Example: `convae cache`
    """
    from convae.cli._screen import results, wrote
    from convae.core.cache import cache_directory
    from convae.data.store.cache import choose, list_cache, remove

    held = list_cache()
    chosen = choose(held, names or [], older_than)
    if not clear:
        _list(chosen)
        wrote(cache_directory())
        return
    chosen = [each for each in chosen if names or each.sort != "download"]
    done = [each for each in chosen if remove(each)]
    left = [each.name for each in chosen if each not in done]
    results.print(f"removed {len(done):,} of {len(held):,}, {sum(each.bytes for each in done) / 1e6:,.1f} MB")
    if left:
        raise OutputError(f"not removed, because another process writes them or convae did not: {', '.join(left)}")


def _list(held: list[Cached]) -> None:
    from rich.table import Table

    from convae.cli._screen import results

    table = Table(title="in the cache, the least recently used first", title_justify="left")
    for heading in ("name", "source", "size", "images", "MB", "last use"):
        table.add_column(heading, justify="right" if heading in {"images", "MB"} else "left", no_wrap=heading == "name")
    for each in held:
        source = f"{each.source} (downloaded)" if each.sort == "download" else each.source or "not complete"
        used = "today" if each.days < 1 else f"{each.days:.0f} days ago"
        table.add_row(each.name, source, each.size, f"{each.images:,}", f"{each.bytes / 1e6:,.1f}", used)
    results.print(table)
    results.print(f"{len(held):,} in all, {sum(each.bytes for each in held) / 1e6:,.1f} MB")
