"""How Sphinx builds the pages: Markdown by MyST, tables from the code by `made`, API pages by autodoc."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from made import commands, docstrings, literature, models, modules, notebooks, results, tables  # noqa: E402  # the folder of this file is not a package
from pydantic import BaseModel  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

from convae.core.version import VERSION  # noqa: E402

project = "convae"
author = "the convae authors"
copyright = author
release = version = VERSION

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "made"]
templates_path: list[str] = []
highlight_language = "none"  # a block without a language is one of the shell
default_role = "code"  # docstrings mark code by single backticks, as Markdown does
suppress_warnings = ["ref.python"]  # annotations are as written; several modules may define the same name

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_default_options = {
    "exclude-members": "model_config, model_post_init, example",
    "ignore-module-all": True,
    "no-value": True,
}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]

html_theme = "furo"
html_title = f"convae {VERSION}"
html_static_path = ["static"]
html_css_files = ["convae.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False

MAKERS = {
    "overview": tables.overview,
    "details": tables.details,
    "arguments": tables.arguments,
    "options": tables.options,
    "presets": models.presets,
    "notation": models.notation,
    "drawing": models.drawing,
    "notebook": notebooks.notebook,
    "commands": commands.commands,
    "api": modules.api,
    "public": modules.public,
    "table_in": tables.table_in,
    "literature": literature.literature,
    "pretrained": results.pretrained,
    "model_metrics": results.model_metrics,
    "machines": results.machines,
    "likelihoods": results.likelihoods,
    "reported": results.reported,
}
"""The functions that a page may call between double braces."""


def make(app: Sphinx, _name: str, source: list[str]) -> None:
    """Replaces calls between double braces by the Markdown that they return."""
    source[0] = app.builder.templates.render_string(source[0], MAKERS)


def as_written(_app: Sphinx, what: str, _name: str, thing: Any, *_rest: Any) -> tuple[str, str] | None:
    """The signature with the annotations that its author wrote, not with what they stand for."""
    if inspect.isclass(thing) and issubclass(thing, BaseModel):
        return "", ""
    if what not in ("class", "function", "method", "exception"):
        return None
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return None
    if what == "class" and {one.kind for one in signature.parameters.values()} == {
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.VAR_KEYWORD,
    }:
        return "", ""  # never instantiated, such as a protocol
    given = [
        one.replace(annotation=_Text(one.annotation) if one.annotation is not one.empty else one.empty)
        for one in signature.parameters.values()
        if one.name != "self"
    ]
    back = signature.return_annotation
    returned = "" if what == "class" or back is inspect.Signature.empty else str(back)
    return str(inspect.Signature(given)), returned


class _Text(str):
    """An annotation that is shown as it stands."""

    def __repr__(self) -> str:
        return str(self)


def as_restructured_text(_app: Sphinx, _what: str, _name: str, _thing: Any, _options: Any, lines: list[str]) -> None:
    """Converts the docstrings of this project to reStructuredText."""
    lines[:] = docstrings.as_restructured_text(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects the functions above; docstrings are converted before napoleon reads them."""
    app.connect("source-read", make)
    app.connect("autodoc-process-signature", as_written)
    app.connect("autodoc-process-docstring", as_restructured_text, priority=400)
    return {"parallel_read_safe": True}
