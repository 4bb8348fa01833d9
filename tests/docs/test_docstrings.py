from __future__ import annotations

from made.docstrings import as_restructured_text, docstring


def sample(shape: tuple[int, ...], *, width: int, depth: int = 2) -> int:
    """Counts things.

    More of it: `*sizes` and p(x | z).

        files ── data ──> batches

    Args:
        shape: (channel, *sizes).
        width: a sentence that is so long
            that it needs two lines.
        depth: another.

    Raises:
        ValueError: never.
    """
    return width * depth * len(shape)


def test_a_docstring_comes_apart() -> None:
    parts = docstring(sample)
    assert parts.text.startswith("Counts things.\n\nMore of it")
    assert parts.entries == {
        "shape": "(channel, *sizes).",
        "width": "a sentence that is so long that it needs two lines.",
        "depth": "another.",
    }
    assert parts.sections["Raises"] == ["ValueError: never."]


def test_what_has_no_docstring_says_nothing() -> None:
    parts = docstring(lambda: None)
    assert (parts.text, parts.entries) == ("", {})


def test_stars_and_bars_stand_for_themselves_outside_of_code() -> None:
    lines = ["Images (batch, *sizes), `*sizes`, p(x | z), name_ and two_words."]
    assert as_restructured_text(lines) == [r"Images (batch, \*sizes), `*sizes`, p(x \| z), name\_ and two_words."]


def test_code_ends_where_its_backtick_is() -> None:
    assert as_restructured_text(["many `Call`s"]) == [r"many `Call`\ s"]


def test_a_drawing_stays_as_it_is_drawn_and_a_section_is_none() -> None:
    lines = ["A road.", "", "    a ──> *b", "    │", "", "Args:", "    shape: (channel, *sizes)."]
    assert as_restructured_text(lines) == [
        "A road.",
        "",
        "::",
        "",
        "    a ──> *b",
        "    │",
        "",
        "Args:",
        r"    shape: (channel, \*sizes).",
    ]
