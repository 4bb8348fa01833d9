"""Labeled samples: samples of given classes, and the class of any sample.

- A conditional model decodes a latent from the prior with the label; a prior that depends on labels draws a latent of
  the class.
- With a classifier, latents are drawn from the prior, and those classified as the class are kept (rejection sampling).
- Any other model needs labeled images: a Gaussian per class, fitted to their latents (`classes`), draws latents and
  classifies them. A model with a classifier may draw from these Gaussians too, and classifies by itself.

A sample is kept if its label is probable enough twice: for the latent, and for the decoded image encoded again. Between
the classes, where the prior has mass and the data has none, a decoded image may not show the class of its latent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count as counting
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.progress import Progress
from convae.core.types import Images
from convae.latents.classes import Classes
from convae.latents.decoding import decode
from convae.latents.drawing import draw
from convae.latents.quantized import nearest_latents
from convae.model.mode import evaluation_mode
from convae.model.vae import VAE

CONFIDENCE = 0.95
"""Probability of a requested label below which a sample is rejected."""
_Kept = tuple[Tensor, Tensor, Tensor]
"""Images, labels and confidences."""
BLOCK = 1024
"""Latents drawn at a time."""
PATIENCE = 50
"""Blocks in a row without an accepted sample, after which the search fails."""


@dataclass(frozen=True)
class LabeledSamples:
    """Images and their labels.

    Attributes:
        images: (image, channel, *sizes), the expected image of each latent, in [0, 1], on the CPU.
        labels: (image,) class numbers.
        confidence: (image,) probability of the label: the smaller of that of the latent and that of the decoded image,
            encoded again; None from a conditional model or prior, which does not classify.
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
    known: Classes | None = None,
    seed: int = 0,
    temperature: float | Sequence[float] = 1.0,
    truncation: float | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> LabeledSamples:
    """`count` samples of each of some classes, or of any class; the first of them are the same for any count.

    Args:
        model: is left in the mode that it is in.
        count: of each class; in all without `labels`.
        labels: the classes, in the order of the result; without them, any.
        confidence: probability of its label below which a sample is rejected; 0 keeps all, each under the most
            probable label of its latent.
        known: Gaussians of the classes, to draw from and, for a model without a classifier, to classify by.
        seed: of what is drawn.
        temperature: factor of the prior's standard deviation.
        truncation: values beyond it, in standard deviations, are drawn again.
        options: options of the prior's own, such as `{"top_p": 0.9}`.
        progress: called with the number of accepted samples.

    Raises:
        ConfigError: no such class, no classifier, an option that does not apply, or too few samples of that
            confidence.
    """
    if not 0 <= confidence <= 1:
        raise ConfigError(f"a confidence is a probability from 0 to 1, got {confidence:g}")
    there = known_classes(model, known)
    wrong = [label for label in labels or () if label not in there]
    if wrong:
        raise ConfigError(f"there is no class {wrong[0]} to draw from: there are {', '.join(map(str, there))}")
    if known is not None and (temperature != 1 or truncation is not None):
        raise ConfigError("temperature and truncation apply to the prior, not to Gaussians of labeled images")
    if known is None and draws_by_label(model):
        number = count if labels is None else count * len(labels)
        own = torch.arange(count) if labels is None else torch.arange(count).repeat(len(labels))
        kinds = own % len(there) if labels is None else torch.tensor(labels).repeat_interleave(count)
        if model.is_hierarchical or model.prior.classes:
            device = next(model.parameters()).device
            groups = [torch.full((count,), label) for label in labels] if labels is not None else [kinds]
            parts = [
                draw(
                    model,
                    count,
                    seed=seed,
                    temperature=temperature,
                    truncation=truncation,
                    labels=each.to(device),
                    options=options,
                )
                for each in groups
            ]
            z = torch.cat(parts)
        else:
            z = draw(model, count, seed=seed, temperature=temperature, truncation=truncation, options=options)
            z = z[own.to(z.device)]
        with_label = kinds if model.condition is not None else None
        return LabeledSamples(decode(model, z, labels=with_label), kinds, None, number)
    if options:
        raise ConfigError(f"model '{model.name}' draws no class by its prior: leave out the options of the prior")
    with evaluation_mode(model):
        return _Search(model, known, seed, temperature, truncation, confidence, progress).run(count, labels)


def draws_by_label(model: VAE) -> bool:
    """Whether the decoder or the prior of a model depends on labels."""
    return model.condition is not None or bool(model.prior.classes)


def known_classes(model: VAE, known: Classes | None = None) -> list[int]:
    """The numbers of the classes that can be sampled.

    Raises:
        ConfigError: the model has neither a condition nor a classifier, and there are no Gaussians.
    """
    if model.condition is not None:
        if known is not None:
            raise ConfigError(f"model '{model.name}' is conditional: it draws from its prior, not from labeled images")
        return list(range(model.condition.classes))
    if known is None and model.prior.classes:
        return list(range(model.prior.classes))
    judged = model.class_count
    if known is not None:
        there: list[int] = known.labels.tolist()
        if judged is not None and there[-1] >= judged:
            raise ConfigError(
                f"the classifier of '{model.name}' knows {judged} classes, the images have {there[-1] + 1}"
            )
        return there
    if judged is not None:
        return list(range(judged))
    raise ConfigError(
        f"model '{model.name}' has no condition, no classifier and no prior of classes: sampling classes needs labeled "
        "images"
    )


@dataclass(frozen=True)
class _Search:
    """Latents are drawn until enough of them are of the wanted classes."""

    model: VAE
    known: Classes | None
    seed: int
    temperature: float | Sequence[float]
    truncation: float | None
    confidence: float
    progress: Progress | None

    def run(self, count: int, labels: list[int] | None) -> LabeledSamples:
        kept: list[_Kept] = []
        tried = idle = 0
        for block in counting():
            missing = self._missing(kept, count, labels)
            if not missing:
                break
            z, kinds = self._candidates(block, missing)
            found = self._sure(z, kinds, labels)
            tried += len(z)
            wanted = sum(int((found[1] == label).sum()) for label in missing)
            idle = 0 if wanted else idle + 1
            if idle == PATIENCE:
                what = "any class" if labels is None else self._called(missing[0])
                raise ConfigError(
                    f"among {tried:,} latents there are not {count} samples of {what} with a confidence of "
                    f"{self.confidence:g}: ask for fewer, or for less confidence"
                )
            kept.append(found)
            if self.progress:
                total = count * len(labels or [0])
                self.progress(self._found(kept, count, labels), total, "drawing (images)")
        images, kinds, sure = (torch.cat(parts) for parts in zip(*kept, strict=True))
        if labels is None:
            chosen = torch.arange(count)
        else:
            chosen = torch.cat([(kinds == label).nonzero()[:count, 0] for label in labels])
        return LabeledSamples(images[chosen], kinds[chosen], sure[chosen], tried)

    def _called(self, label: int) -> str:
        """A class in words; the names that the model learned are not those of other labeled images."""
        names = self.model.provenance.classes if self.known is None else None
        return f"class {label}" if not names or label >= len(names) else f"class {label} ({names[label]})"

    def _missing(self, kept: list[_Kept], count: int, labels: list[int] | None) -> list[int]:
        """The classes with too few samples yet; all, while there are too few in all."""
        if labels is None:
            return known_classes(self.model, self.known) if self._found(kept, count, None) < count else []
        return [label for label in labels if _number(kept, label) < count]

    def _found(self, kept: list[_Kept], count: int, labels: list[int] | None) -> int:
        """How many of the wanted samples there are."""
        if labels is None:
            return min(count, sum(len(kinds) for _, kinds, _ in kept))
        return sum(min(count, _number(kept, label)) for label in labels)

    def _candidates(self, block: int, missing: list[int]) -> tuple[Tensor, Tensor]:
        """Latents, and the class that each is a candidate for."""
        first = block * BLOCK
        if self.known is not None:
            each = BLOCK // len(self.known.labels) or 1
            z = torch.cat([self.known.draw(label, each, seed=self.seed, first=block * each) for label in missing])
            z = nearest_latents(self.model, z)
            return z, torch.tensor(missing).repeat_interleave(each)
        z = draw(
            self.model, BLOCK, seed=self.seed, temperature=self.temperature, truncation=self.truncation, first=first
        ).cpu()
        return z, self._probabilities(z).argmax(1)

    def _sure(self, z: Tensor, kinds: Tensor, wanted: list[int] | None) -> _Kept:
        """Images, labels and confidences of the candidates that are kept."""
        sure = self._of(z, kinds)
        asked = torch.ones_like(sure, dtype=torch.bool) if wanted is None else torch.isin(kinds, torch.tensor(wanted))
        chosen = (asked & (sure >= self.confidence)).nonzero()[:, 0]
        if not len(chosen):
            return torch.empty(0, *self.model.input_shape), kinds[:0], sure[:0]
        images = decode(self.model, z[chosen])
        device = next(self.model.parameters()).device
        again = torch.cat([self.model.encode(part.to(device)).mean.cpu() for part in torch.split(images, BLOCK // 4)])
        both = torch.minimum(sure[chosen], self._of(again, kinds[chosen]))
        held = (both >= self.confidence).nonzero()[:, 0]
        return images[held], kinds[chosen][held], both[held]

    def _of(self, z: Tensor, kinds: Tensor) -> Tensor:
        """The probability of a class at each latent."""
        probabilities = self._probabilities(z)
        places = kinds
        if self.model.classifier is None and self.known is not None:
            places = torch.searchsorted(self.known.labels, kinds)
        return probabilities.gather(1, places[:, None])[:, 0]

    def _probabilities(self, z: Tensor) -> Tensor:
        """(batch, class), by the classifier or else by the Gaussians, on the CPU."""
        if self.model.classifier is not None:
            device = next(self.model.parameters()).device
            return self.model.classify(z.to(device)).softmax(1).double().cpu()
        assert self.known is not None  # `known_classes` has seen to it
        return self.known.posterior(z)


def _number(kept: list[_Kept], label: int) -> int:
    """Samples of a class."""
    return sum(int((kinds == label).sum()) for _, kinds, _ in kept)
