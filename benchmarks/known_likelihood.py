"""The importance-weighted NLL of a model whose marginal likelihood is known falls to it as K grows.

A linear-Gaussian VAE of digits, x = W z + b + σ ε, with an encoder whose variances are twice the true ones:

    python benchmarks/known_likelihood.py --out docs/pictures/nll-known.png
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch

import convae
from convae.core.random import torch_generator
from convae.data import DataConfig, Split, in_order, open_split
from convae.evaluation import evaluate
from convae.pictures.curves import curves
from convae.pictures.save import save

LATENT, SIGMA, TOO_WIDE = 8, 0.3, 2.0
POWERS = range(11)
"""K is 2 to each of these."""


def linear_gaussian() -> tuple[convae.VAE, torch.Tensor, torch.Tensor]:
    """The model, and the W and b of its decoder; W has orthogonal columns, so the true posterior factorizes."""
    model = convae.build(
        {
            "input": [1, 8, 8],
            "encoder": ["flatten"],
            "bottleneck": {"gaussian": {"latent": LATENT}},
            "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
            "likelihood": {"gaussian": {"sigma": SIGMA, "link": "identity"}},
        }
    )
    basis = torch.linalg.qr(torch.randn(64, LATENT, generator=torch_generator(0, "basis")))[0]
    weight, bias = basis * torch.linspace(1.5, 0.3, LATENT), torch.full((64,), 0.3)
    precision = weight.square().sum(0) / SIGMA**2 + 1
    to_mean = (weight / SIGMA**2 / precision).T
    decoder_weight, decoder_bias = model.decoder.parameters()
    with torch.no_grad():
        model.get_parameter("bottleneck.weight").copy_(torch.cat([to_mean, torch.zeros_like(to_mean)]))
        model.get_parameter("bottleneck.bias").copy_(torch.cat([-to_mean @ bias, (TOO_WIDE / precision).log()]))
        decoder_weight.copy_(weight)
        decoder_bias.copy_(bias)
    return model, weight.double(), bias.double()


def known(split: Split, weight: torch.Tensor, bias: torch.Tensor) -> float:
    """−log p(x) in closed form, mean over the images, nats."""
    covariance = weight @ weight.T + SIGMA**2 * torch.eye(64, dtype=torch.float64)
    (batch,) = in_order(split, len(split))
    marginal = torch.distributions.MultivariateNormal(bias, covariance)
    return -float(marginal.log_prob(batch.images.double().flatten(1)).mean())


def main() -> None:
    """Prints the table and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("nll-known.png"))
    out: Path = parser.parse_args().out
    model, weight, bias = linear_gaussian()
    split = open_split(DataConfig(source="digits"), "test")
    wanted = known(split, weight, bias)
    print(f"known: {wanted:.4f} nats; expected gap at K = 1: {LATENT / 2 * (TOO_WIDE - 1 - math.log(TOO_WIDE)):.4f}")
    found = []
    for power in POWERS:
        report = evaluate(model, split, metrics=["nll"], options={"nll": {"samples": 2**power}})
        value = report.metrics["nll"].value
        assert isinstance(value, float)
        found.append(value)
        print(f"K = {2**power:5}: {value:.4f} nats, {value - wanted:+.4f}")
    points = list(POWERS)
    lines = {"importance-weighted NLL": (points, found), "known −log p(x)": (points, [wanted] * len(points))}
    picture = curves(
        {"negative log-likelihood": lines},
        x_label="log₂ K, latents for each image",
        units={"negative log-likelihood": "nats per image"},
        title="A linear-Gaussian VAE: the bound falls to the known likelihood",
    )
    save(picture, out)
    print(out)


if __name__ == "__main__":
    main()
