"""Objectives: terms in stated units, schedules of their weights, and the sum that is minimized."""

from __future__ import annotations

from convae.core.slices import batch_mean
from convae.objective.discriminators import DISCRIMINATORS
from convae.objective.discriminators.base import Discriminator
from convae.objective.objective import Losses, Objective, build_objective
from convae.objective.schedules import SCHEDULES
from convae.objective.schedules.base import Clocks, Moment, Schedule
from convae.objective.similarity import ms_ssim, ssim
from convae.objective.terms import TERMS
from convae.objective.terms.base import Critic, LossInputs, Term

__all__ = [
    "DISCRIMINATORS",
    "SCHEDULES",
    "TERMS",
    "Clocks",
    "Critic",
    "Discriminator",
    "LossInputs",
    "Losses",
    "Moment",
    "Objective",
    "Schedule",
    "Term",
    "batch_mean",
    "build_objective",
    "ms_ssim",
    "ssim",
]
