"""Losses of pythae's models against objectives of convae: the same weights, batch and noise, in float64.

pip install --no-deps pythae    # in an environment of its own; it needs nothing that convae does not bring
python -m benchmarks.pythae_losses
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pythae.models as peer
import torch
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseDiscriminator, BaseEncoder
from torch import Tensor, nn

import convae
from convae.core.noise import CountedNoise
from convae.core.types import Batch
from convae.model.priors.vamp import Vamp
from convae.model.vae import VAE
from convae.objective import build_objective

IMAGES, LATENT, CLASSES = 16, 4, 3
SPEC: dict[str, Any] = {
    "input": [1, 16, 16],
    "encoder": [
        {"conv": {"channels": 4, "stride": 2}},
        "silu",
        {"conv": {"channels": 8, "stride": 2}},
        "silu",
        "flatten",
    ],
    "bottleneck": {"gaussian": {"latent": LATENT}},
    "decoder": [
        {"linear": {"features": 128}},
        {"unflatten": {"to": [8, 4, 4]}},
        {"conv-transpose": {"channels": 4, "stride": 2}},
        "silu",
        {"conv-transpose": {"channels": 1, "stride": 2}},
    ],
    "likelihood": "bernoulli",
}
HALF_SQUARES = {"gaussian": {"sigma": 1.0}}
PLAIN = {"deterministic": {"latent": LATENT}}
NOISE = CountedNoise(0, (1,), 0, IMAGES)


class Encoder(BaseEncoder):  # type: ignore[misc]  # pythae is untyped
    """The encoder and the bottleneck of a model."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.encoder, self.bottleneck = model.encoder, model.bottleneck

    def forward(self, x: Tensor) -> ModelOutput:
        """Mean and log-variance of images."""
        posterior = self.bottleneck.posterior(self.encoder(x))
        return ModelOutput(embedding=posterior.mean, log_covariance=posterior.logvar)


class Decoder(BaseDecoder):  # type: ignore[misc]
    """The decoder of a model, to its mean image."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.decoder, self.head = model.decoder, model.head

    def forward(self, z: Tensor) -> ModelOutput:
        """The mean image of latents."""
        return ModelOutput(reconstruction=self.head(self.decoder(z)).mean)


class Discriminator(BaseDiscriminator):  # type: ignore[misc]
    """A discriminator of convae, in the form that a model of pythae expects."""

    def __init__(self, critic: nn.Module, two_columns: bool) -> None:
        super().__init__()
        self.critic, self.two_columns = critic.double(), two_columns

    def forward(self, z: Tensor) -> Any:
        """Two logits, or a probability, of latents."""
        logit = self.critic(z)[:, None]
        if self.two_columns:
            return torch.cat([logit, torch.zeros_like(logit)], 1)
        return ModelOutput(embedding=logit.sigmoid())


@dataclass
class Case:
    """A model of pythae and the objective that is its loss.

    Attributes:
        config: the options of pythae's model.
        objective: terms of convae.
        model: changes of the description.
        losses: names of pythae's losses, with the parts of the model that each trains.
        swapped: whether pythae's axes of samples and of bounds are the other way round.
        has_value: whether pythae's loss has the value of the bound, beside its gradient.
        constant: what convae's loss has in addition, nats per image.
    """

    config: dict[str, Any]
    objective: dict[str, Any]
    model: dict[str, Any] | None = None
    losses: tuple[tuple[str, str], ...] = (("loss", ""),)
    swapped: bool = False
    has_value: bool = True
    constant: float = 0.0


BOUND = {"reconstruction": 1, "kl": 1}
_LOG_TWO_PI = 1.8378770664093453
MSE: dict[str, Any] = {"model": {"likelihood": HALF_SQUARES}, "constant": 128 * _LOG_TWO_PI}
CASES: dict[str, Case] = {
    "VAE": Case({}, BOUND),
    "VAE (mse)": Case({"reconstruction_loss": "mse"}, BOUND, **MSE),
    "BetaVAE": Case({"beta": 4.0}, {"reconstruction": 1, "kl": 4}),
    "DisentangledBetaVAE": Case(
        {"beta": 10.0, "C": 5.0, "warmup_epoch": 0}, {"reconstruction": 1, "capacity": {"nats": 0.0, "weight": 10}}
    ),
    "AE": Case({}, {"squared-error": 1}, {"bottleneck": PLAIN}),
    "RAE_L2": Case({"embedding_weight": 0.3}, {"squared-error": 1, "latent-norm": 0.3}, {"bottleneck": PLAIN}),
    "WAE_MMD": Case({"reg_weight": 7.0, "kernel_choice": "imq"}, {"squared-error": 1, "mmd": 7}, {"bottleneck": PLAIN}),
    "WAE_MMD (rbf)": Case(
        {"reg_weight": 7.0, "kernel_choice": "rbf"},
        {"squared-error": 1, "mmd": {"kernel": "rbf", "weight": 7}},
        {"bottleneck": PLAIN},
    ),
    "INFOVAE_MMD": Case(
        {"alpha": 0.4, "lbd": 20.0, "kernel_choice": "rbf"},
        {"reconstruction": 1, "kl": 0.6, "mmd": {"kernel": "rbf", "weight": 19.4}},
    ),
    "BetaTCVAE": Case(
        {"alpha": 1.5, "beta": 6.0, "gamma": 2.0, "use_mss": False},
        {
            "reconstruction": 1,
            "mutual-information": {"weight": 1.5, "estimator": "weighted", "images": IMAGES},
            "total-correlation": {"weight": 6, "estimator": "weighted", "images": IMAGES},
            "dimension-kl": {"weight": 2, "estimator": "weighted", "images": IMAGES},
        },
    ),
    "IWAE": Case({"number_samples": 5}, {"importance-weighted": {"samples": 5}}, has_value=False),
    "MIWAE": Case(
        {"number_samples": 3, "number_gradient_estimates": 4},
        {"importance-weighted": {"samples": 4, "bounds": 3}},
        swapped=True,
        has_value=False,
    ),
    "PIWAE": Case(
        {"number_samples": 3, "number_gradient_estimates": 4},
        {"importance-weighted": {"samples": 4, "bounds": 3, "partial": True}},
        losses=(("encoder_loss", "encoder"), ("decoder_loss", "decoder")),
        swapped=True,
        has_value=False,
    ),
    "CIWAE": Case(
        {"number_samples": 5, "beta": 0.3},
        {"importance-weighted": {"samples": 5, "weight": 0.7}, "mean-bound": 0.3},
        has_value=False,
    ),
    "VAMP": Case({"number_components": CLASSES}, BOUND, {"prior": {"vamp": {"inputs": CLASSES}}}),
    "FactorVAE": Case(
        {"gamma": 5.0}, {"reconstruction": 1, "kl": 1, "factor": {"weight": 5, "width": 16, "layers": 2}}
    ),
    "Adversarial_AE": Case(
        {"adversarial_loss_scale": 0.5, "reconstruction_loss_scale": 2.0},
        {"reconstruction": 2, "latent-adversarial": {"weight": 0.5, "width": 16, "layers": 2}},
    ),
}


def built(case: Case) -> VAE:
    """The model of a case, in float64."""
    return convae.build({**SPEC, **(case.model or {})}, seed=3).double().train()


def peer_model(name: str, case: Case, model: VAE, critic: nn.Module | None) -> Any:
    """The model of pythae with the weights of `model`."""
    kind = name.split(" ")[0]
    options = {"input_dim": (1, 16, 16), "latent_dim": LATENT}
    if kind not in {"AE", "RAE_L2", "WAE_MMD"}:
        options["reconstruction_loss"] = "bce"
    config = getattr(peer, f"{kind}Config" if hasattr(peer, f"{kind}Config") else f"{kind}_Config")
    arguments = {**options, **case.config}
    made = getattr(peer, kind)(config(**arguments), encoder=Encoder(model), decoder=Decoder(model))
    if critic is not None:
        made.set_discriminator(Discriminator(critic, kind == "FactorVAE"))
    return made.double()


@contextmanager
def given_noise(values: list[Tensor]) -> Iterator[None]:
    """Lets pythae draw these values in turn."""
    rest, usual = iter(values), torch.get_default_dtype()

    def draw(like: Tensor, **_: Any) -> Tensor:
        return next(rest).reshape(like.shape)

    torch.set_default_dtype(torch.float64)
    try:
        with patch("torch.randn_like", draw):
            yield
    finally:
        torch.set_default_dtype(usual)


def compare(name: str, case: Case) -> tuple[float, float]:
    """The relative difference of the losses, and the largest one of the gradients."""
    model = built(case)
    images = torch.rand(IMAGES, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ciwae = case.objective.get("mean-bound")
    objective = build_objective({key: value for key, value in case.objective.items() if key != "mean-bound"})
    objective.bind(model.latent_shape, model.input_shape)
    for term in objective.terms.values():
        if term.critic is not None:
            term.critic.double()
    samples = objective.samples
    output = model(images, NOISE, samples=samples)
    total = objective(Batch.of(images), output).total
    if ciwae:  # pythae's mean of the log weights is the ELBO with an estimated divergence
        total = total - ciwae * output.log_weights(images.repeat_interleave(samples, 0)).mean()
    critic = next((term.critic for term in objective.terms.values() if term.critic is not None), None)
    other = copy.deepcopy(model)
    theirs = peer_model(name, case, other, copy.deepcopy(critic)).train()
    noise = (
        [(output.latent - output.posterior.mean) * torch.exp(-0.5 * output.posterior.logvar)] if _is_drawn(case) else []
    )
    if case.swapped:
        bounds = objective.terms["importance-weighted"].bounds
        noise = [noise[0].view(IMAGES, bounds, -1, LATENT).transpose(1, 2).contiguous()]
    assert output.calls is not None
    noise.append(output.calls.sample_prior().double())
    if name == "VAMP":
        _same_pseudo_inputs(theirs, model)
    with given_noise(noise):
        found = _forward(name, theirs, images)
    value = float(total.detach()) - case.constant
    worst = 0.0
    for key, part in case.losses:
        mine = _gradients(model, total, part)
        wanted = _gradients(other, found[key], part)
        for parameter, gradient in wanted.items():
            scale = float(gradient.abs().max())
            worst = max(worst, float((mine[parameter] - gradient).abs().max()) / scale if scale else 0.0)
    loss = abs(value - float(found["loss"].detach())) / abs(value) if case.has_value else float("nan")
    return loss, worst


def _is_drawn(case: Case) -> bool:
    return (case.model or {}).get("bottleneck") != PLAIN


def _forward(name: str, theirs: Any, images: Tensor) -> dict[str, Tensor]:
    """The losses of pythae's model."""
    if name not in {"FactorVAE", "Adversarial_AE"}:
        return dict(theirs({"data": images}, epoch=0) if name == "DisentangledBetaVAE" else theirs({"data": images}))
    # Their forward pass takes half of the batch, or adds the loss of the discriminator.
    encoded = theirs.encoder(images)
    mean, logvar = encoded.embedding, encoded.log_covariance
    z, _ = theirs._sample_gauss(mean, torch.exp(0.5 * logvar))  # noqa: SLF001
    decoded = theirs.decoder(z)["reconstruction"]
    prior = torch.randn_like(z)
    arguments = (mean, logvar, z, prior) if name == "FactorVAE" else (z, prior)
    return {"loss": theirs.loss_function(decoded, images, *arguments)[1]}


def _same_pseudo_inputs(theirs: Any, model: VAE) -> None:
    """Their pseudo-inputs are a linear layer of one-hot vectors, clamped to [0, 1]; ours are given their values."""
    prior = model.prior
    assert isinstance(prior, Vamp)
    with torch.no_grad():
        theirs.idle_input = theirs.idle_input.double()
        linear = theirs.pseudo_inputs[0]
        linear.bias.zero_()
        linear.weight.copy_(prior.images().flatten(1).T)


def _gradients(model: VAE, total: Tensor, part: str) -> dict[str, Tensor]:
    """The gradient of each parameter of a side of the model; of all without one."""
    chosen: Callable[[str], bool] = {
        "": lambda name: not name.startswith("prior"),
        "encoder": lambda name: name.startswith(("encoder", "bottleneck")),
        "decoder": lambda name: name.startswith("decoder"),
    }[part]
    named = {name: value for name, value in model.named_parameters() if chosen(name)}
    found = torch.autograd.grad(total, list(named.values()), retain_graph=True, allow_unused=True)
    return {
        name: torch.zeros_like(named[name]) if each is None else each for name, each in zip(named, found, strict=True)
    }


def main() -> None:
    """Prints the table."""
    print("| pythae | objective of convae | loss | gradient |\n|---|---|---|---|")
    for name, case in CASES.items():
        loss, gradient = compare(name, case)
        terms = ", ".join(f"`{key}`" for key in case.objective)
        print(f"| `{name}` | {terms} | {'gradient only' if loss != loss else f'{loss:.0e}'} | {gradient:.0e} |")


if __name__ == "__main__":
    main()
