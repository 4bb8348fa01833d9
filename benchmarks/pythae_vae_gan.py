"""The losses of pythae's VAEGAN against an objective of convae: the same weights, batch and noise, in float64.

pip install --no-deps pythae    # as for benchmarks.pythae_losses
python -m benchmarks.pythae_vae_gan

pythae has three losses, of encoder, decoder and discriminator. convae has one for the model, whose gradient for the
decoder is that of pythae divided by 1 − `adversarial_loss_scale`, and one for the discriminator.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from pythae.models import VAEGAN, VAEGANConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDiscriminator
from torch import Tensor, nn

import convae
from benchmarks.pythae_losses import IMAGES, LATENT, NOISE, SPEC, Decoder, Encoder, given_noise
from convae.core.types import Batch
from convae.objective import LossInputs, Moment, build_objective

SCALE, LAYERS = 0.2, 3
"""`adversarial_loss_scale`, and the number of hidden layers of the discriminator."""
# Of such images, a discriminator with two layers of stride 2 has one patch.
SMALL: dict[str, Any] = {
    **SPEC,
    "input": [1, 12, 12],
    "decoder": [{"linear": {"features": 72}}, {"unflatten": {"to": [8, 3, 3]}}, *SPEC["decoder"][2:]],
}
OBJECTIVE: dict[str, Any] = {
    "kl": 1,
    "feature-matching": {"layers": [-1]},
    "adversarial": {
        "weight": SCALE / (1 - SCALE),
        "loss": "minimax",
        "fakes": "samples",
        "adaptive": False,
        "discriminator": {"patch": {"channels": 4, "layers": LAYERS - 1, "norm": "group"}},
    },
}


class Discriminator(BaseDiscriminator):  # type: ignore[misc]  # pythae is untyped
    """A discriminator of convae, of one patch, in the form that pythae expects."""

    def __init__(self, critic: Any) -> None:
        super().__init__()
        self.critic, self.depth = critic, LAYERS + 1

    def forward(self, x: Tensor, output_layer_levels: list[int] | None = None) -> ModelOutput:
        """The probability of a real image, or the features of layers counted from 1."""
        if output_layer_levels is None:
            return ModelOutput(embedding=self.critic(x)[0].sigmoid())
        (layers,) = self.critic.features(x)
        return ModelOutput(**{f"embedding_layer_{level}": layers[level - 1] for level in output_layer_levels})


def compare() -> dict[str, tuple[float, float]]:
    """The relative difference of each loss, and the largest one of the gradients of what it trains."""
    model = convae.build(SMALL, seed=3).double().train()
    images = torch.rand(IMAGES, 1, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    objective = build_objective(OBJECTIVE)
    objective.bind(model.latent_shape, model.input_shape)
    critic = objective.critics["adversarial"].double()
    other, other_critic = copy.deepcopy(model), copy.deepcopy(critic)
    config = VAEGANConfig(
        input_dim=(1, 12, 12), latent_dim=LATENT, adversarial_loss_scale=SCALE, reconstruction_layer=LAYERS
    )
    theirs = VAEGAN(config, encoder=Encoder(other), decoder=Decoder(other), discriminator=Discriminator(other_critic))
    output = model(images, NOISE)
    assert output.calls is not None
    noise = (output.latent - output.posterior.mean) * torch.exp(-0.5 * output.posterior.logvar)
    with given_noise([noise, output.calls.sample_prior()]):
        found = theirs.double().train()({"data": images})
    losses = objective(Batch.of(images), output)
    kl, similarity = losses.terms["kl"].mean(), losses.terms["feature-matching"].mean()
    own = critic.loss(LossInputs(images, None, output, Moment(1, 0.0, 0.0))).mean()
    rows = {
        "encoder": (kl + similarity, losses.total, model.encoder, other.encoder, 1.0),
        # The loss of the discriminator in it has a part of real images, which is constant for the decoder.
        "decoder": ((1 - SCALE) * similarity - SCALE * own, losses.total, model.decoder, other.decoder, 1 - SCALE),
        "discriminator": (own, own, critic, other_critic, 1.0),
    }
    return {
        part: (
            abs(float(((value - found[f"{part}_loss"]) / value).detach())),
            _difference(mine * scale, module, found[f"{part}_loss"], its),
        )
        for part, (value, mine, module, its, scale) in rows.items()
    }


def _difference(mine: Tensor, module: nn.Module, theirs: Tensor, other: nn.Module) -> float:
    """The largest difference of the gradient of a parameter, relative to its largest value."""
    pairs = (
        torch.autograd.grad(loss, list(each.parameters()), retain_graph=True)
        for loss, each in ((mine, module), (theirs, other))
    )
    return max(float((one - two).abs().max() / two.abs().max()) for one, two in zip(*pairs, strict=True))


def main() -> None:
    """Prints the table."""
    print("| `VAEGAN` | loss | gradient |\n|---|---|---|")
    for part, (loss, gradient) in compare().items():
        print(f"| {part} | {loss:.0e} | {gradient:.0e} |")


if __name__ == "__main__":
    main()
