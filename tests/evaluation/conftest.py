from __future__ import annotations

from typing import Any

import pytest
import torch
from narrow import narrow
from torch import Tensor

import convae
from convae.core.random import torch_generator
from convae.model.vae import VAE

SIGMA = 0.3
LINEAR: dict[str, Any] = {
    "input": [1, 8, 8],
    "encoder": ["flatten"],
    "bottleneck": {"gaussian": {"latent": 3}},
    "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
    "likelihood": {"gaussian": {"sigma": SIGMA, "link": "identity"}},
}


class Linear:
    """A linear-Gaussian VAE of digits, whose marginal likelihood is known: x = W z + b + σ ε.

    W has orthogonal columns, so that the true posterior has independent values; the encoder's variance is
    `too_wide` times the true one.
    """

    def __init__(self, too_wide: float = 2.0) -> None:
        self.model = convae.build(LINEAR).eval()
        generator = torch_generator(0, "linear")
        basis = torch.linalg.qr(torch.randn(64, 3, generator=generator))[0]
        self.weight = basis * torch.tensor([1.5, 1.0, 0.5])
        self.bias = torch.full((64,), 0.3)
        precision = self.weight.square().sum(0) / SIGMA**2 + 1
        to_mean = (self.weight / SIGMA**2 / precision).T
        with torch.no_grad():
            self._set(to_mean, -to_mean @ self.bias, (too_wide / precision).log())

    def _set(self, to_mean: Tensor, mean_bias: Tensor, logvar: Tensor) -> None:
        parameters = dict(self.model.named_parameters())
        parameters["bottleneck.weight"].copy_(torch.cat([to_mean, torch.zeros_like(to_mean)]))
        parameters["bottleneck.bias"].copy_(torch.cat([mean_bias, logvar]))
        (weight,) = (
            value for name, value in parameters.items() if name.startswith("decoder") and name.endswith("weight")
        )
        (bias,) = (value for name, value in parameters.items() if name.startswith("decoder") and name.endswith("bias"))
        weight.copy_(self.weight)
        bias.copy_(self.bias)

    def log_marginal(self, images: Tensor) -> Tensor:
        """log p(x) of each image, nats, in closed form."""
        weight = self.weight.double()
        covariance = weight @ weight.T + SIGMA**2 * torch.eye(64, dtype=torch.float64)
        marginal = torch.distributions.MultivariateNormal(self.bias.double(), covariance)
        return narrow(Tensor, marginal.log_prob(images.double().flatten(1)))


@pytest.fixture
def linear() -> Linear:
    return Linear()


@pytest.fixture
def model() -> VAE:
    """A small convolutional model with fresh weights."""
    return convae.build(
        {
            "input": [1, 8, 8],
            "encoder": [{"conv": {"channels": 4, "stride": 2}}, "batch-norm", "relu", "flatten"],
            "bottleneck": {"gaussian": {"latent": 3}},
            "decoder": [
                {"linear": {"features": 64}},
                {"unflatten": {"to": [4, 4, 4]}},
                {"conv-transpose": {"channels": 1, "stride": 2}},
            ],
        }
    )
