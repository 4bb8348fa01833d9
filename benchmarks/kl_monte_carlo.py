"""The closed form of the KL divergence against Monte Carlo, with its standard error.

python benchmarks/kl_monte_carlo.py
"""

from __future__ import annotations

import math

import torch

from convae.core.posterior import GaussianPosterior
from convae.core.random import torch_generator

DRAWS = 200_000
CASES = ((0.0, 0.0, 8), (0.1, -0.1, 8), (1.0, -2.0, 8), (2.0, 1.0, 8), (0.5, -6.0, 64))


def main() -> None:
    """Prints a row for each posterior."""
    print("| mean | log-variance | latent values | closed form | Monte Carlo |\n|---|---|---|---|---|")
    for mean, logvar, latent in CASES:
        posterior = GaussianPosterior(
            torch.full((DRAWS, latent), mean).double(), torch.full((DRAWS, latent), logvar).double()
        )
        z = posterior.sample(torch_generator(0, "kl", latent))
        drawn = posterior.log_prob(z) - torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
        error = float(drawn.std()) / math.sqrt(DRAWS)
        exact = float(posterior.kl()[0])
        print(f"| {mean:g} | {logvar:g} | {latent} | {exact:.4f} | {float(drawn.mean()):.4f} ± {error:.4f} |")


if __name__ == "__main__":
    main()
