"""Classifiers of real images: feature networks of distances, and judges of samples of a class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from convae.core.random import torch_generator
from convae.data import DataConfig, Split, in_order, open_split
from convae.model.vae import VAE

CLASSIFIER_STEPS = {"fashion-mnist": (1872, 936), "mnist": (0, 200), "flowers": (200, 0)}
"""Steps of 128 images with augmentation and a peak rate of 4e-3, and after them without and with 1.5e-3."""


class Classifier(nn.Sequential):
    """A convolutional classifier, whose last hidden values, (batch, 64), are features.

    Args:
        channels: of the images.
        classes: number of classes.
    """

    def __init__(self, channels: int, classes: int) -> None:
        def block(before: int, after: int, kernel: int, stride: int = 1) -> list[nn.Module]:
            conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
            return [conv, nn.BatchNorm2d(after), nn.ReLU()]

        super().__init__(
            *block(channels, 32, 5, 2),
            *block(32, 48, 3),
            nn.MaxPool2d(2),
            *block(48, 96, 3),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(96 * 16, 64),
            nn.ReLU(),
            nn.Linear(64, classes),
        )

    def features(self, images: Tensor) -> Tensor:
        """(batch, 64) of images."""
        for layer in list(self)[:-1]:
            images = layer(images)
        return images


def classifier(data: str, folder: Path) -> Classifier:
    """The trained classifier of a data set, from the folder or trained."""
    split = open_split(data_config(data), "train")
    assert split.classes is not None or split.labels is not None
    count = int(_labels(split).max()) + 1
    torch.manual_seed(0)
    made, path = Classifier(split.shape[0], count), folder / f"classifier-{data}.safetensors"
    if path.exists():
        made.load_state_dict(load_file(path))
        return made.eval()
    augmented, plain = CLASSIFIER_STEPS[data]
    _train(made, data, split, augmented, 4e-3, is_augmented=True)
    _train(made, data, split, plain, 1.5e-3 if augmented else 4e-3, is_augmented=False)
    save_file(made.state_dict(), path)
    return made.eval()


def _train(made: Classifier, data: str, split: Split, steps: int, peak: float, is_augmented: bool) -> None:
    """Trains a classifier by steps of 128 images with a rate that rises and falls."""
    if not steps:
        return
    size = 128
    per_epoch = len(split) // size
    optimizer = torch.optim.AdamW(made.parameters(), 1e-3, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps)
    for epoch in range(-(-steps // per_epoch)):
        order = torch.randperm(len(split), generator=torch_generator(0, "order", str(peak), epoch)).numpy()
        taken = min(per_epoch, steps - epoch * per_epoch) * size
        for batch in in_order(split, size, indices=order[:taken]):
            images = _augmented(batch.images, data, epoch, int(batch.indices[0])) if is_augmented else batch.images
            with torch.autocast("cpu", torch.bfloat16):
                loss = nn.functional.cross_entropy(made(images), torch.as_tensor(batch.labels), label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
        print(f"classifier {data}: epoch {epoch + 1}, loss {float(loss.detach()):.3f}", flush=True)


def _augmented(images: Tensor, data: str, *words: int) -> Tensor:
    """Images shifted by up to two pixels, and mirrored except digits."""
    noise = torch_generator(0, "augment", *words)
    flips = torch.rand(len(images), 1, 1, 1, generator=noise) < (0.0 if data == "mnist" else 0.5)
    images = torch.where(flips, images.flip(3), images)
    down, right = torch.randint(-2, 3, (2,), generator=noise).tolist()
    padded = nn.functional.pad(images, (2, 2, 2, 2))
    return padded[..., 2 + down : 2 + down + images.shape[2], 2 + right : 2 + right + images.shape[3]]


@torch.no_grad()
def accuracy(made: Classifier, split: Split, model: VAE | None = None) -> float:
    """Fraction of test images, or of their reconstructions by a model, that the classifier gives their label."""
    right = 0.0
    for batch in in_order(split, 500):
        images = batch.images if model is None else model.decode(model.encode(batch.images).mean).mean
        right += float((made(images).argmax(1) == batch.labels).float().sum())
    return right / len(split)


def data_folder() -> Path:
    """The folder of the data sets."""
    return Path(os.environ.get("CONVAE_DATA", "data"))


def data_config(name: str) -> DataConfig:
    """The configuration of a data set."""
    if name == "flowers":
        return DataConfig(source=str(data_folder() / "flowers"), size=(32, 32), channels=3)
    return DataConfig(source=name, dir=data_folder())


def _labels(split: Split) -> Any:
    assert split.labels is not None
    return split.labels
