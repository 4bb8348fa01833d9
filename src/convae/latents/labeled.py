"""Labeled samples: samples of given classes, and the class of any sample.

- A conditional model decodes a latent from the prior with the label; a prior that depends on labels draws a latent of
  the class.
- With a classifier, latents are drawn from the prior, and those classified as the class are accepted (rejection
  sampling).
- Any other model needs labeled images: a Gaussian per class, fitted to their latents, draws latents and classifies
  them. A model with a classifier may draw from these Gaussians, too, and classifies by itself.

A sample is accepted if its label is probable enough at the latent and at the latent of the re-encoded image. Between
classes, where the prior has mass and the data has none, a decoded image may not show the class of its latent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count as counting
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.names import count_text
from convae.core.progress import Progress
from convae.core.types import Images, Latents
from convae.latents.class_gaussians import ClassGaussians
from convae.latents.decoding import decode
from convae.latents.drawing import draw_latents
from convae.latents.quantized import nearest_latents
from convae.model.inference import InferenceEngine, TorchEngine
from convae.model.mode import evaluation_mode
from convae.model.vae import VAE

CONFIDENCE = 0.95
"""Probability of a requested label below which a sample is rejected."""
_Accepted = tuple[Tensor, Tensor, Tensor]
"""Images, labels and confidences."""
BLOCK = 1024
"""Number of latents drawn at a time."""
PATIENCE = 50
"""Number of consecutive blocks without an accepted sample after which sampling fails."""


@dataclass(frozen=True)
class LabeledSamples:
    """Images and their labels.

    Attributes:
        images: (image, channel, *sizes), the expected image of each latent, in [0, 1], on the CPU.
        labels: (image,) class numbers.
        confidence: (image,) probability of the label, the smaller of that at the latent and that at the re-encoded
            image; None for a conditional model or prior, which does not classify.
        tried: number of latents drawn.
    """

    images: Images
    labels: Int64[Tensor, " image"]
    confidence: Float[Tensor, " image"] | None
    tried: int


@torch.no_grad()
def draw_labeled(
    model: VAE,
    count: int,
    labels: list[int] | None = None,
    *,
    confidence: float = CONFIDENCE,
    known: ClassGaussians | None = None,
    seed: int = 0,
    temperature: float | Sequence[float] = 1.0,
    truncation: float | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    engine: InferenceEngine | None = None,
) -> LabeledSamples:
    """Draws `count` samples of each class, or of any class; the first samples are the same for any count.

    Args:
        model: the model; its mode is restored.
        count: number of samples of each class; in total without `labels`.
        labels: class numbers, in the order of the result; by default any class: all in turn where latents are drawn by
            class, otherwise those of latents of the prior.
        confidence: probability of the label below which a sample is rejected; 0 accepts all samples, with the most
            probable label of their latent.
        known: Gaussians of the classes, which replace the prior and, for a model without a classifier, the classifier.
        seed: random seed.
        temperature: factor on the standard deviation of the prior.
        truncation: values beyond it, in standard deviations, are resampled.
        options: options of the prior's own, such as `{"top_p": 0.9}`.
        progress: called with the number of accepted samples.
        engine: decodes and encodes again; by default torch.

    Raises:
        ConfigError: unknown class, no classifier, an option that does not apply, or too few samples of that confidence.
    """
    if not 0 <= confidence <= 1:
        raise ConfigError(f"the confidence is a probability from 0 to 1, got {confidence:g}")
    available = sampleable_classes(model, known)
    wrong = [label for label in labels or () if label not in available]
    if wrong:
        raise ConfigError(f"unknown class {wrong[0]}: the classes are {', '.join(map(str, available))}")
    if known is not None and (temperature != 1 or truncation is not None):
        raise ConfigError("temperature and truncation apply to the prior, not to Gaussians of labeled images")
    if known is None and draws_by_label(model):
        z, drawn = _draw_conditional(model, count, labels, len(available), seed, temperature, truncation, options)
        with_label = drawn if model.condition is not None else None
        return LabeledSamples(decode(model, z, labels=with_label, engine=engine), drawn, None, len(drawn))
    if options:
        raise ConfigError(f"the prior of model '{model.name}' does not depend on the class: remove its options")
    with evaluation_mode(model):
        sampler = _RejectionSampler(
            engine or TorchEngine(model), known, seed, temperature, truncation, confidence, progress
        )
        return sampler.run(count, labels)


def _draw_conditional(
    model: VAE,
    count: int,
    labels: list[int] | None,
    class_count: int,
    seed: int,
    temperature: float | Sequence[float],
    truncation: float | None,
    options: Mapping[str, Any] | None,
) -> tuple[Latents, Tensor]:
    """Latents and labels of samples of a decoder or prior with labels; without `labels`, of all classes in turn."""
    draw = partial(
        draw_latents, model, count, seed=seed, temperature=temperature, truncation=truncation, options=options
    )
    own = torch.arange(count) if labels is None else torch.arange(count).repeat(len(labels))
    drawn = own % class_count if labels is None else torch.tensor(labels).repeat_interleave(count)
    if model.is_hierarchical or model.prior.classes:
        device = next(model.parameters()).device
        z = torch.cat([draw(labels=part.to(device)) for part in drawn.split(count)])
    else:
        z = draw()
        z = z[own.to(z.device)]
    return z, drawn


def draws_by_label(model: VAE) -> bool:
    """Whether the decoder or the prior of a model depends on labels."""
    return model.condition is not None or bool(model.prior.classes)


def sampleable_classes(model: VAE, known: ClassGaussians | None = None) -> list[int]:
    """The numbers of the classes that can be sampled.

    Raises:
        ConfigError: the model has neither a condition nor a classifier, and there are no Gaussians.
    """
    if model.condition is not None:
        if known is not None:
            raise ConfigError(
                f"model '{model.name}' is conditional: it samples from its prior. Remove the labeled images"
            )
        return list(range(model.condition.classes))
    if known is None and model.prior.classes:
        return list(range(model.prior.classes))
    classified = model.class_count
    if known is not None:
        available: list[int] = known.labels.tolist()
        if classified is not None and available[-1] >= classified:
            raise ConfigError(
                f"the classifier of model '{model.name}' has {count_text(classified, 'class')}, but the images have "
                f"{available[-1] + 1}"
            )
        return available
    if classified is not None:
        return list(range(classified))
    raise ConfigError(
        f"model '{model.name}' has no condition, no classifier and no prior with classes. Sampling classes needs "
        "labeled images"
    )


@dataclass(frozen=True)
class _RejectionSampler:
    """Draws latents until enough of them are accepted as samples of the requested classes."""

    engine: InferenceEngine
    known: ClassGaussians | None
    seed: int
    temperature: float | Sequence[float]
    truncation: float | None
    confidence: float
    progress: Progress | None

    @property
    def model(self) -> VAE:
        """The model of the engine."""
        return self.engine.model

    def run(self, count: int, labels: list[int] | None) -> LabeledSamples:
        """Samples, and the number of latents that they took."""
        accepted: list[_Accepted] = []
        tried = idle = 0
        for block in counting():
            missing = self._missing(accepted, count, labels)
            if not missing:
                break
            z, candidates = self._candidates(block, missing)
            new = self._accept(z, candidates, labels)
            tried += len(z)
            idle = 0 if torch.isin(new[1], torch.tensor(missing)).any() else idle + 1
            if idle == PATIENCE:
                what = "any class" if labels is None else self._class_text(missing[0])
                raise ConfigError(
                    f"{count_text(tried, 'latent')} gave fewer than {count_text(count, 'sample')} of {what} with a "
                    f"confidence of {self.confidence:g}. Lower the count or the confidence"
                )
            accepted.append(new)
            if self.progress:
                total = count * len(labels or [0])
                self.progress(self._number_accepted(accepted, count, labels), total, "drawing (images)")
        images, classes, confidence = (torch.cat(parts) for parts in zip(*accepted, strict=True))
        if labels is None:
            chosen = torch.arange(count)
        else:
            chosen = torch.cat([(classes == label).nonzero()[:count, 0] for label in labels])
        return LabeledSamples(images[chosen], classes[chosen], confidence[chosen], tried)

    def _class_text(self, label: int) -> str:
        """A class for messages; other labeled images may have other class names than the model."""
        names = self.model.provenance.classes if self.known is None else None
        return f"class {label}" if not names or label >= len(names) else f"class {label} ({names[label]})"

    def _missing(self, accepted: list[_Accepted], count: int, labels: list[int] | None) -> list[int]:
        """The classes with too few samples; without `labels` all classes, until there are enough samples."""
        if labels is None:
            is_complete = self._number_accepted(accepted, count, None) == count
            return [] if is_complete else sampleable_classes(self.model, self.known)
        return [label for label in labels if _number_of(accepted, label) < count]

    def _number_accepted(self, accepted: list[_Accepted], count: int, labels: list[int] | None) -> int:
        """Number of accepted samples, at most those requested."""
        if labels is None:
            return min(count, sum(len(classes) for _, classes, _ in accepted))
        return sum(min(count, _number_of(accepted, label)) for label in labels)

    def _candidates(self, block: int, missing: list[int]) -> tuple[Tensor, Tensor]:
        """Latents, and the class that each may be a sample of."""
        first = block * BLOCK
        if self.known is not None:
            each = BLOCK // len(self.known.labels) or 1
            drawn = [self.known.draw(label, each, seed=self.seed, first=block * each) for label in missing]
            z = torch.stack(drawn, 1).flatten(0, 1)  # of all classes in turn
            return nearest_latents(self.model, z), torch.tensor(missing).repeat(each)
        z = draw_latents(
            self.model, BLOCK, seed=self.seed, temperature=self.temperature, truncation=self.truncation, first=first
        ).cpu()
        return z, self._probabilities(z).argmax(1)

    def _accept(self, z: Tensor, classes: Tensor, labels: list[int] | None) -> _Accepted:
        """The candidates with enough confidence, at the latent and at the re-encoded image."""
        probability = self._class_probability(z, classes)
        is_sure = probability >= self.confidence
        if labels is not None:
            is_sure &= torch.isin(classes, torch.tensor(labels))
        chosen = is_sure.nonzero()[:, 0]
        if not len(chosen):
            return torch.empty(0, *self.model.input_shape), classes[:0], probability[:0]
        images = decode(self.model, z[chosen], engine=self.engine)
        again = torch.cat([self.engine.encode(part).mean.cpu() for part in torch.split(images, BLOCK // 4)])
        smaller = torch.minimum(probability[chosen], self._class_probability(again, classes[chosen]))
        held = (smaller >= self.confidence).nonzero()[:, 0]
        return images[held], classes[chosen][held], smaller[held]

    def _class_probability(self, z: Tensor, classes: Tensor) -> Tensor:
        """(batch,) the probability of a class at each latent."""
        columns = classes
        if self.model.classifier is None and self.known is not None:
            columns = torch.searchsorted(self.known.labels, classes)
        return self._probabilities(z).gather(1, columns[:, None])[:, 0]

    def _probabilities(self, z: Tensor) -> Tensor:
        """(batch, class) by the classifier, or else by the Gaussians, on the CPU."""
        if self.model.classifier is not None:
            device = next(self.model.parameters()).device
            return self.model.classify(z.to(device)).softmax(1).double().cpu()
        assert self.known is not None  # checked by `sampleable_classes`
        return self.known.posterior(z)


def _number_of(accepted: list[_Accepted], label: int) -> int:
    """Number of accepted samples of a class."""
    return sum(int((classes == label).sum()) for _, classes, _ in accepted)
