"""Independent transcriptions of two originals in plain PyTorch; their parameters carry the originals' names."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.random import torch_generator


class TorchVAE(nn.Module):
    """torch-vae: three stride-2 convolutions each way, and 1×1 shortcuts that no output depends on."""

    def __init__(self, channels: int, latent: int, most: int, side: int = 8) -> None:
        super().__init__()
        a, b, c = most // 4, most // 2, most
        self.side = side
        self.encoder = nn.ModuleDict(
            {
                "conv1": nn.Conv2d(channels, a, 3, 2, 1),
                "conv2": nn.Conv2d(a, b, 3, 2, 1),
                "conv3": nn.Conv2d(b, c, 3, 2, 1),
                "shortcut2": nn.Conv2d(a, b, 1, 2),
                "shortcut3": nn.Conv2d(b, c, 1, 2),
                "bn1": nn.BatchNorm2d(a),
                "bn2": nn.BatchNorm2d(b),
                "bn3": nn.BatchNorm2d(c),
                "proj_mu": nn.Linear(c * side**2, latent),
                "proj_log_var": nn.Linear(c * side**2, latent),
            }
        )
        self.decoder = nn.ModuleDict(
            {
                "lin1": nn.Linear(latent, c * side**2),
                "conv1": nn.ConvTranspose2d(c, b, 3, 2, 1, output_padding=1),
                "conv2": nn.ConvTranspose2d(b, a, 3, 2, 1, output_padding=1),
                "conv3": nn.ConvTranspose2d(a, channels, 3, 2, 1, output_padding=1),
                "shortcut1": nn.ConvTranspose2d(c, b, 1, 2, output_padding=1),
                "shortcut2": nn.ConvTranspose2d(b, a, 1, 2, output_padding=1),
                "bn1": nn.BatchNorm2d(b),
                "bn2": nn.BatchNorm2d(a),
            }
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        for n in (1, 2, 3):
            x = F.leaky_relu(self.encoder[f"bn{n}"](self.encoder[f"conv{n}"](x)))
        mean, logvar = self.encoder["proj_mu"](x.flatten(1)), self.encoder["proj_log_var"](x.flatten(1))
        y = self.decoder["lin1"](mean).unflatten(1, (-1, self.side, self.side))
        for n in (1, 2):
            y = F.leaky_relu(self.decoder[f"bn{n}"](self.decoder[f"conv{n}"](y)))
        return mean, logvar, torch.sigmoid(self.decoder["conv3"](y))


class ImageVAE(nn.Module):
    """ImageVAE at 1×28×28 with features of 64×7×7, sizes 28, 18, 11, 7; one slope each way for all activations."""

    def __init__(self, latent: int, classes: int | None = None) -> None:
        super().__init__()
        down, up = nn.PReLU(), nn.PReLU()
        torch.nn.init.constant_(up.weight, 0.4)
        convs = [nn.Conv2d(1, 22, 2, 2, 4), nn.Conv2d(22, 43, 2, 2, 2), nn.Conv2d(43, 64, 5)]
        transposed = [
            nn.ConvTranspose2d(64, 43, 5),
            nn.ConvTranspose2d(43, 22, 2, 2, 2),
            nn.ConvTranspose2d(22, 1, 2, 2, 4),
        ]
        self.encoder = nn.ModuleDict(
            {
                "conv": nn.Sequential(*(layer for conv in convs for layer in (conv, down))),
                "affine": nn.Linear(64 * 7 * 7, 2 * latent),
            }
        )
        self.decoder = nn.ModuleDict(
            {
                "affine": nn.Linear(latent, 64 * 7 * 7),
                "conf": nn.Sequential(*[layer for conv in transposed for layer in (conv, up)][:-1]),
            }
        )
        if classes is not None:
            self.classifier = nn.Sequential(nn.Linear(latent, 4), nn.PReLU(), nn.Linear(4, classes))

    def classify(self, z: Tensor) -> Tensor:
        classes: Tensor = self.classifier(z)
        return classes

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, logvar = self.encoder["affine"](self.encoder["conv"](x).flatten(1)).chunk(2, dim=1)
        y = self.decoder["affine"](mean).view(-1, 64, 7, 7)
        return mean, logvar, torch.sigmoid(self.decoder["conf"](y))


@torch.no_grad()
def randomize(module: nn.Module) -> None:
    """Gives every parameter and buffer a value of its own, running statistics too."""
    for index, tensor in enumerate([*module.parameters(), *module.buffers()]):
        if tensor.is_floating_point():
            drawn = torch.rand(tensor.shape, generator=torch_generator(7, "randomize", index))
            tensor.copy_(0.2 * (drawn - 0.5) if tensor.ndim > 1 else 0.5 + drawn)
