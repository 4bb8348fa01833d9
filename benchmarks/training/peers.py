"""The other side: networks and loops as their authors, or a competent user, write them."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.training.cases import Case
from benchmarks.training.turns import serve


class Plain(nn.Module):
    """A VAE of two lists of layers and two linear heads."""

    def __init__(self, encoder: list[nn.Module], features: int, latent: int, decoder: list[nn.Module]) -> None:
        super().__init__()
        self.encoder = nn.Sequential(*encoder, nn.Flatten())
        self.mean, self.logvar = nn.Linear(features, latent), nn.Linear(features, latent)
        self.decoder = nn.Sequential(*decoder)

    def forward(self, x: Tensor) -> Tensor:
        """The loss of a batch."""
        decoded, kl = self.decoded(x)
        loss: Tensor = F.mse_loss(decoded, x, reduction="sum") / len(x) + kl.mean()
        return loss

    def decoded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images of one sampled latent each, and the KL divergence of each posterior."""
        features = self.encoder(x)
        mean, logvar = self.mean(features), self.logvar(features)
        z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        return self.decoder(z), -0.5 * (1 + logvar - mean**2 - logvar.exp()).sum(1)


def _down(widths: list[int], norm: bool, activation: Callable[[], nn.Module], channels: int = 3) -> list[nn.Module]:
    """Stride-2 convolutions."""
    layers: list[nn.Module] = []
    for before, width in zip([channels, *widths], widths, strict=False):
        layers += [nn.Conv2d(before, width, 3, 2, 1), *([nn.BatchNorm2d(width)] if norm else []), activation()]
    return layers


def _up(widths: list[int], norm: bool, activation: Callable[[], nn.Module]) -> list[nn.Module]:
    """Transposed stride-2 convolutions."""
    layers: list[nn.Module] = []
    for before, width in itertools.pairwise(widths):
        layers.append(nn.ConvTranspose2d(before, width, 3, 2, 1, output_padding=1))
        layers += [*([nn.BatchNorm2d(width)] if norm else []), activation()]
    return layers


def celeba_beta() -> nn.Module:
    """The network of the CelebA β-VAE at 128×128."""
    start = [nn.Linear(256, 16384), nn.ReLU(), nn.Unflatten(1, (256, 8, 8))]
    up = _up([256, 256, 128, 64, 32], False, nn.ReLU)
    return Plain(
        _down([32, 64, 128, 256], False, nn.ReLU),
        16384,
        256,
        [*start, *up, nn.Conv2d(32, 3, 3, 1, 1), nn.Sigmoid()],
    )


def vanilla_vae() -> nn.Module:
    """VanillaVAE of PyTorch-VAE at 64×64."""
    up = _up([512, 256, 128, 64, 32, 32], True, nn.LeakyReLU)
    return Plain(
        _down([32, 64, 128, 256, 512], True, nn.LeakyReLU),
        2048,
        128,
        [nn.Linear(128, 2048), nn.Unflatten(1, (512, 2, 2)), *up, nn.Conv2d(32, 3, 3, 1, 1), nn.Tanh()],
    )


def torch_vae(side: int = 64, latent: int = 64, channels: int = 3) -> Plain:
    """torch-vae for square images, without the shortcuts that no output depends on."""
    small, features = side // 8, 128 * (side // 8) ** 2
    up = _up([128, 64, 32], True, nn.LeakyReLU)
    last = nn.ConvTranspose2d(32, channels, 3, 2, 1, output_padding=1)
    return Plain(
        _down([32, 64, 128], True, nn.LeakyReLU, channels),
        features,
        latent,
        [nn.Linear(latent, features), nn.Unflatten(1, (128, small, small)), *up, last, nn.Sigmoid()],
    )


class AutoencoderLoss(nn.Module):
    """diffusers' AutoencoderKL with the loss of a VAE."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128), blocks: int = 1) -> None:
        super().__init__()
        import diffusers

        kinds = {"down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",)}
        given = {name: kind * len(widths) for name, kind in kinds.items()}
        self.model: Any = getattr(diffusers, "AutoencoderKL")(  # noqa: B009
            block_out_channels=widths, layers_per_block=blocks, **given
        )

    def forward(self, x: Tensor) -> Tensor:
        """The loss of a batch."""
        posterior = self.model.encode(x).latent_dist
        squared = F.mse_loss(self.model.decode(posterior.sample()).sample, x, reduction="sum") / len(x)
        loss: Tensor = squared + posterior.kl().mean()
        return loss


def network(case: Case) -> nn.Module | None:
    """The other side's network of a case; None where pythae brings it along."""
    if case.name.startswith("torch-vae"):
        return torch_vae(case.input[1])
    plain: dict[str, Callable[[], nn.Module]] = {
        "celeba-beta": celeba_beta,
        "vanilla-vae": vanilla_vae,
        "autoencoder-kl": AutoencoderLoss,
        "sd-f8-256": lambda: AutoencoderLoss((128, 256, 512, 512), 2),
        "tiny": lambda: torch_vae(16, latent=4),
    }
    return plain[case.name]() if case.name in plain else None


class Files(torch.utils.data.Dataset[Tensor]):
    """Pillow, center crop, resize, tensor: the usual few lines."""

    def __init__(self, folder: Path, side: int) -> None:
        self.paths, self.side = sorted(folder.glob("*.jpg")), side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.paths[index]) as file:
            image = file.convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side)).resize((self.side, self.side))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255)


def plain_loop(case: Case, data: Path, device: str, is_bf16: bool) -> Callable[[int], None]:
    """A loop over a DataLoader with Adam, and the loss read at each step for the progress bar."""
    dataset: torch.utils.data.Dataset[Any]
    if case.files:
        dataset = Files(data, case.input[1])
    else:
        pixels = np.load(data)
        dataset = torch.utils.data.TensorDataset(torch.from_numpy(pixels).movedim(-1, 1).float().div(255).contiguous())
    loader = torch.utils.data.DataLoader(
        dataset, case.batch, shuffle=True, num_workers=2 if case.files else 0, drop_last=True
    )
    model = network(case)
    assert model is not None
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def forever() -> Iterator[Tensor]:
        while True:
            for batch in loader:
                yield batch if isinstance(batch, Tensor) else batch[0]

    batches = forever()

    def steps(count: int) -> None:
        for _ in range(count):
            with torch.autocast(device, torch.bfloat16, enabled=is_bf16):
                loss = model(next(batches).to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

    return steps


def pythae_loop(case: Case, data: Path, device: str, is_bf16: bool) -> Callable[[int], None]:
    """The networks that pythae brings along in its own trainer; one of its epochs is one turn."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.nn.benchmarks import celeba, mnist
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    if is_bf16:
        raise SystemExit("pythae's trainer has no bf16")
    channels, _, _ = case.input
    latent = case.model["bottleneck"]["gaussian"]["latent"]
    config = VAEConfig(input_dim=tuple(case.input), latent_dim=latent)
    parts = (
        (mnist.Encoder_Conv_VAE_MNIST(config), mnist.Decoder_Conv_AE_MNIST(config))
        if channels == 1
        else (celeba.Encoder_Conv_VAE_CELEBA(config), celeba.Decoder_Conv_AE_CELEBA(config))
    )
    images = torch.from_numpy(np.load(data)[: case.batch * case.steps]).movedim(-1, 1).float().div(255).contiguous()
    trainer = BaseTrainer(
        VAE(config, encoder=parts[0], decoder=parts[1]).to(device),
        BaseDataset(images, torch.zeros(len(images))),
        training_config=BaseTrainerConfig(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=case.batch,
            learning_rate=1e-3,
            no_cuda=device == "cpu",
        ),
    )
    trainer.prepare_training()

    def steps(count: int) -> None:
        for epoch in range(max(1, count // case.steps)):
            trainer.train_step(epoch + 1)

    return steps


def peer(case: Case, data: Path, device: str, is_bf16: bool = False) -> None:
    """Trains until nobody asks any more."""
    loop = pythae_loop if case.name.startswith("pythae") else plain_loop
    serve(loop(case, data, device, is_bf16))
