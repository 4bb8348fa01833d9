"""The tables of measured figures, and the rows that are made again in seconds."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest
from made.results import MODELS, likelihoods, model_metrics, pretrained, reported

from benchmarks.results import quick_rows
from convae.model.pretrained import read_index

PAGE = Path(__file__).parents[2] / "docs" / "results.md"
README = (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """The cells of a table's rows, without its head."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]


def test_every_pretrained_model_has_its_row() -> None:
    names = [f"`{name}`" for name in read_index()]
    assert [row[0] for row in rows(pretrained())] == [row[0] for row in rows(model_metrics())] == names
    assert all(re.fullmatch(r"−?[\d.]+ \(.* … .*\)", row[2]) for row in rows(model_metrics()))


def test_likelihoods_are_sorted_and_name_their_source() -> None:
    found = rows(likelihoods())
    values = [float(re.search(r"[\d.]+", row[1])[0]) for row in found]  # type: ignore[index]  # each row has a number
    assert values == sorted(values)
    assert all(row[-1] for row in found)


def test_the_tables_of_reports_exist() -> None:
    calls = re.findall(r'\{\{ reported\("(.*?)", "(.*?)"(?:, (\d))?\) \}\}', PAGE.read_text(encoding="utf-8"))
    assert len(calls) > 5
    for report, heading, number in calls:
        text = reported(report, heading, int(number or 0))
        assert text.startswith("| ")
        assert f"measured/{report}.md" in text
    with pytest.raises(ValueError, match="no table 9"):
        reported("labels", "Accuracy by number of labels", 9)


def decimals(text: str) -> list[Decimal]:
    """The numbers of a text as written."""
    return [Decimal(number) for number in re.findall(r"(?<![\w.×])\d+(?:\.\d+)?(?![\w×])", text)]


@pytest.mark.parametrize("row", [line for line in README.splitlines() if re.search(r"\| \*\*\d", line)])
def test_figures_of_the_readme_are_those_of_their_page(row: str) -> None:
    *_, convae, other, link = (cell.strip() for cell in row.strip("|").split("|"))
    (page,) = re.findall(r"\]\((.*?)\)", link)
    text = (PAGE.parents[1] / page).read_text(encoding="utf-8") + likelihoods() * (page == "docs/results.md")
    for figure in decimals(re.match(r"\*\*.*?\*\*", convae)[0]) + decimals(other)[:1]:  # type: ignore[index]  # bold
        assert any(found.quantize(figure, ROUND_HALF_UP) == figure for found in decimals(text)), figure


@pytest.mark.skipif(not MODELS.is_dir(), reason="a source distribution has no models")
def test_the_quick_rows_lie_within_their_intervals() -> None:
    found = list(quick_rows())
    assert len(found) >= 3
    assert [row for row in found if not row.is_reproduced] == []
