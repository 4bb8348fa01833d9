"""The explorer: a model and its latents as one HTML file that decodes in the browser."""

from __future__ import annotations

from convae.explorer.lowering import lower
from convae.explorer.page import write_page
from convae.explorer.program import Program
from convae.explorer.server import ExplorerServer

__all__ = ["ExplorerServer", "Program", "lower", "write_page"]
