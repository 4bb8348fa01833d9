"""Distillation: a smaller decoder or encoder from the latents of a frozen model."""

from __future__ import annotations
