"""What a new user meets first: the import, the help, the README's examples."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import convae
from convae.cli import COMMANDS
from convae.core.documents import parse_yaml
from convae.describe import resolve
from convae.model.construct import construct
from convae.training.recipe.reading import packaged_recipes, read_recipe, recipe_summary

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.M | re.S)


@pytest.mark.parametrize(
    "statement",
    ["import convae", "import convae; convae.ConvaeError", "from convae.cli import main; main(['--help'])"],
)
def test_starting_loads_no_torch(statement: str) -> None:
    script = f"""
import sys
try:
    {statement}
except SystemExit:
    pass
print("loaded:", [name for name in ("torch", "numpy", "matplotlib", "PIL", "sklearn") if name in sys.modules])
"""
    printed = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert printed.splitlines()[-1] == "loaded: []"


def test_packages_are_loaded_on_first_use() -> None:
    script = (
        "import convae; convae.evaluation.evaluate; convae.data.to_tensor; convae.pictures.grid.grid; convae.unknown"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "'unknown'" in found.stderr


def test_public_names_resolve() -> None:
    assert set(convae.__all__) <= set(dir(convae))
    for name in convae.__all__:
        assert getattr(convae, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'vae'"):
        convae.vae  # noqa: B018  # the access is what is tested


def test_the_readmes_library_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("python")
    names: dict[str, object] = {}
    exec(example, names)
    assert names["images"].shape == (4, 1, 28, 28)  # type: ignore[attr-defined]
    assert (tmp_path / "model" / "config.json").is_file()


def test_the_readmes_recipe_is_one() -> None:
    (example,) = blocks("yaml")
    recipe = read_recipe(parse_yaml(example, "README"))
    assert recipe.training.optimizer.weight_decay == 0.01


def test_the_readme_names_commands_that_exist() -> None:
    commands = set(re.findall(r"^convae ([a-z-]+)", "\n".join(blocks("sh")), flags=re.M))
    assert {"train", "evaluate", "reconstruct", "sample", "show"} <= commands
    assert commands <= set(COMMANDS.names())


@pytest.mark.parametrize("name", packaged_recipes())
def test_every_packaged_recipe_reads_by_its_name_says_what_it_is_and_describes_a_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe(name)
    assert recipe.title == name
    assert 20 < len(recipe_summary(packaged_recipes()[name])) < 120
    assert construct(resolve(recipe.model)).latent_shape


@pytest.mark.parametrize(("name", "hint"), [("dmo", "'demo'"), ("recipes/demo.yaml", "convae train demo")])
def test_a_recipe_that_is_missing_is_told_its_packaged_namesake(
    name: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(convae.ConvaeError, match=hint):
        read_recipe(name)


def test_a_file_of_ones_own_comes_before_a_packaged_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").write_text("{data: digits, name: mine}")
    assert read_recipe("demo").title == "mine"


def test_recipes_are_in_one_place() -> None:
    assert not (ROOT / "recipes").exists()


def test_the_package_may_be_run_as_a_module() -> None:
    printed = subprocess.check_output([sys.executable, "-m", "convae", "--version"], text=True)
    assert printed.strip() == f"convae {convae.__version__}"


def test_functions_have_at_most_sixty_lines_of_code() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in sorted((ROOT / "src").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and code_lines(node) > 60
    ]
    assert long == []


def code_lines(function: ast.FunctionDef) -> int:
    """Lines of a function below its signature and its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


CFF_KEYS = {
    *("abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi", "identifiers", "keywords"),
    *("license", "license-url", "message", "preferred-citation", "references", "repository", "repository-artifact"),
    *("repository-code", "title", "type", "url", "version"),
}
"""Of the Citation File Format 1.2.0, https://github.com/citation-file-format/citation-file-format."""


def test_the_citation_file_has_the_format_and_the_facts_of_the_project() -> None:
    citation = parse_yaml((ROOT / "CITATION.cff").read_text(encoding="utf-8"), "CITATION.cff")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"authors", "cff-version", "message", "title"} <= set(citation) <= CFF_KEYS
    assert citation["cff-version"] == "1.2.0"
    assert isinstance(citation["cff-version"], str)
    assert citation.get("type", "software") == "software"
    assert citation["title"] == project["name"]
    assert citation["license"] == project["license"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in project["authors"]]
    assert len(set(citation["keywords"])) == len(citation["keywords"]) > 0
    assert citation.get("version", convae.__version__) == convae.__version__


def test_the_hooks_of_pre_commit_are_the_commands_of_make_lint() -> None:
    config = parse_yaml((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"), ".pre-commit-config.yaml")
    assert set(config) == {"repos"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for repo in config["repos"]:
        assert set(repo) == ({"repo", "hooks"} if repo["repo"] == "local" else {"repo", "rev", "hooks"})
        for hook in repo["hooks"]:
            if repo["repo"] != "local":
                continue
            assert {"id", "name", "entry", "language"} <= set(hook)
            command, *rest = hook["entry"].split()
            words = [Path(command).name, *(word for word in rest if not word.startswith("-"))]
            assert " ".join(words) in makefile.replace("$(BIN)/", "")
