from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from made.commands import commands, parameters
from made.literature import METHODS, literature
from made.models import drawing, notation, presets
from made.modules import api, public
from made.tables import arguments, details, found, options, overview, table, table_in

import convae
from convae.cli import COMMANDS, command
from convae.model.presets import PRESETS
from convae.model.summary import summarize

README = Path(__file__).parents[2] / "README.md"
REGISTRIES = [
    "convae.data.sources:SOURCES",
    "convae.evaluation.metrics:METRICS",
    "convae.model.bottlenecks:BOTTLENECKS",
    "convae.model.flows:FLOWS",
    "convae.model.layers:LAYERS",
    "convae.model.likelihoods:LIKELIHOODS",
    "convae.model.presets:PRESETS",
    "convae.model.quantizers:QUANTIZERS",
    "convae.objective.schedules:SCHEDULES",
    "convae.objective.terms:TERMS",
    "convae.training.optimizers:OPTIMIZERS",
]


def rows(text: str) -> list[list[str]]:
    """The cells of a table's rows, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[1:]]


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert rows(table(["a", "b"], [["p(x | z)", "two\nlines"]])) == [[r"p(x \| z)", "two lines"]]


@pytest.mark.parametrize("place", REGISTRIES)
def test_every_entry_has_a_row_with_a_sentence_and_a_heading(place: str) -> None:
    names = found(place).names()
    listed = rows(overview(place))
    assert [re.search(r"`(.*)`", row[0])[1] for row in listed] == names  # type: ignore[index]  # each row has a name
    assert all(row[-1] for row in listed)
    assert re.findall(r"^### `(.*)`$", details(place), flags=re.M) == names


@pytest.mark.parametrize("place", REGISTRIES)
def test_every_argument_has_a_sentence(place: str) -> None:
    silent = [row for row in rows("| |\n" + details(place)) if row[0] not in ("", "argument") and not row[-1]]
    assert silent == []


def test_every_method_of_the_literature_names_pieces_that_exist() -> None:
    listed = rows(literature())
    assert [row[0] for row in listed] == [method.name for method in METHODS]
    assert all(all(row[column] for column in (1, 3, 4)) for row in listed)
    recipe = {row[0]: (row[2], row[3]) for row in listed}
    assert recipe["IWAE"] == ("`iwae`", "`importance-weighted`")
    assert recipe["β-TCVAE"][1] == "`reconstruction`, `kl`, `total-correlation`"
    assert f"[{len(METHODS)} methods](docs/literature.md)" in README.read_text(encoding="utf-8")


def test_arguments_are_those_of_the_signature() -> None:
    place = "convae.model.layers.leaky_relu:LeakyReLU"
    assert rows(arguments(place)) == [["`slope`", "number ≥ 0", "`0.01`", "factor for negative values."]]


def test_options_go_into_the_models_inside() -> None:
    text = options("convae.training.recipe.schema:Recipe")
    assert "## `training.optimizer`" in text
    learning_rate = next(row for row in rows(text) if row[0] == "`lr`")
    assert learning_rate[1:3] == ["number > 0", "`0.001`"]
    assert next(row for row in rows(text) if row[0] == "`data`")[2] == "*required*"


@pytest.mark.parametrize("place", ["convae.training.recipe.schema:Recipe", "convae.data.config:DataConfig"])
def test_every_option_has_a_sentence(place: str) -> None:
    assert [row for row in rows(options(place)) if not row[-1] and row[0] != "option"] == []


@pytest.mark.parametrize("name", COMMANDS.names())
def test_every_parameter_of_a_command_has_a_row_with_help(name: str) -> None:
    _, _, text = commands().partition(f"(command-{name})=")
    listed = rows(text.partition("(command-")[0])
    assert len(listed) == len(parameters(name)) == len(inspect.signature(command(name)).parameters)
    assert all(row[-1] for row in listed)


def test_presets_are_counted() -> None:
    listed = {row[0]: row for row in rows(presets())}
    assert {re.search(r"`(.*?)`", cell)[1] for cell in listed} == set(PRESETS.names())  # type: ignore[index]
    model = convae.build("torch-vae")
    row = listed["[`torch-vae`](#preset-torch-vae)"]
    assert row[1:5] == ["3×64×64", "8192", "64", "3×64×64"]
    assert row[5] == f"{sum(one.numel() for one in model.parameters()):,}"
    assert row[6] == f"{sum(one.flops for one in summarize(model)) / 1e6:.3g} M"


def test_a_drawing_is_a_file_of_the_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("made.models.DRAWINGS", tmp_path / "_build" / "drawings")
    assert drawing("image-vae") == "![The structure of image-vae](/_build/drawings/image-vae.svg)"
    assert (tmp_path / "_build/drawings/image-vae.svg").read_text().startswith("<?xml")


def test_a_model_in_several_notations() -> None:
    text = notation({"input": [16, 16, 3], "latent": 8, "encode": [[8, 3, 2]]}, "yaml", "arch-def")
    assert "`--as yaml`:\n\n```yaml\nname: arch-def" in text
    assert "`--as arch-def`:\n\n```python\narch_def = {" in text


def test_a_page_of_a_package_has_its_public_names_and_entries() -> None:
    text = api("convae.objective")
    assert ".. autoclass:: convae.objective.Term\n" in text
    assert ".. autoclass:: convae.objective.terms.kl.KL\n" in text
    assert ".. autofunction:: convae.objective.build_objective\n" in text
    assert "._" not in text


def test_public_names_lead_to_where_they_are() -> None:
    assert [row[0] for row in rows(public("convae")) if "load" in row[0]] == ["{py:obj}`load <convae.model.load>`"]


def test_a_table_out_of_a_text() -> None:
    assert [row[0] for row in rows(table_in("convae.training.run_folder:README")) if "recipe" in row[0]] == [
        "`recipe.yaml`"
    ]
