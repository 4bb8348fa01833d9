from __future__ import annotations

import numpy as np
import pytest
import torch

import convae
from benchmarks.ood_scores import SCORES, scores_of
from convae.data import DataConfig, open_split
from convae.evaluation import score_images


@pytest.mark.parametrize("name", SCORES)
def test_scores_are_those_of_the_command(name: str) -> None:
    model = convae.load("digits/torch-vae-2").eval()
    split = open_split(DataConfig(source="digits", size=16), "test")
    chosen = np.sort(np.random.default_rng(0).permutation(len(split))[:20])
    found = scores_of(model, "digits", 20)[name]
    torch.testing.assert_close(found, score_images(model, split, score=name).values[chosen], rtol=1e-3, atol=1e-2)
