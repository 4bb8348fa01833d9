"""Images with labels: samples of a wanted class, and the class of any sample.

What a model can do decides how:

- A conditional model takes the label itself: a latent from the prior, decoded with the label.
- A model with a classifier is asked: latents from the prior, of which those are kept that are of the class.
- Any other model needs labelled images: a Gaussian for each class, fitted to their latents (`classes`), both draws
  latents and judges them. A model with a classifier may draw from these Gaussians too, and judges by itself.

A sample is kept if whoever judges is sure of its label twice: of the latent, and of the latent that the decoded image
is encoded to again. What the decoder makes of a latent may be no image of the class that the latent lies in, above all
between the classes, where the prior has mass and the data has none; encoding it again tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count as counting

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.progress import Progress
from convae.core.types import Images
from convae.latents.classes import Classes
from convae.latents.decoding import decode
from convae.latents.drawing import draw
from convae.model.mode import evaluation_mode
from convae.model.vae import VAE

CONFIDENCE = 0.95
"""Probability of a wanted label below which a sample is not kept."""
_Kept = tuple[Tensor, Tensor, Tensor]
"""Images, labels and confidences."""
BLOCK = 1024
"""Latents that are drawn at a time."""
PATIENCE = 50
"""Blocks in a row that give nothing that is wanted, after which there is no more hope."""


@dataclass(frozen=True)
class Labelled:
    """Images and the labels that go with them.

    Attributes:
        images: (image, channel, *sizes), the expected image of each latent, in [0, 1], on the CPU.
        labels: (image,) class numbers.
        confidence: (image,) probability of the label: the smaller of that of the latent and that of the decoded image,
            encoded again; None from a conditional model, where nobody judges.
        tried: latents that were drawn for them.
    """

    images: Images
    labels: Int64[Tensor, " image"]
    confidence: Float[Tensor, " image"] | None
    tried: int


@torch.no_grad()
def draw_labelled(
    model: VAE,
    count: int,
    labels: list[int] | None = None,
    *,
    confidence: float = CONFIDENCE,
    known: Classes | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    truncation: float | None = None,
    progress: Progress | None = None,
) -> Labelled:
    """`count` samples of each of some classes, or of any class; the first of them are the same for any count.

    Args:
        model: is left in the mode that it is in.
        count: of each class; in all without `labels`.
        labels: the wanted classes, in the order of the result; without them, any.
        confidence: probability of its label below which a sample is not kept; 0 keeps all, each under the most
            probable label of its latent.
        known: Gaussians of the classes, to draw from and, for a model without a classifier, to judge by.
        seed: of what is drawn.
        temperature: factor of the prior's standard deviation.
        truncation: values beyond it, in standard deviations, are drawn again.
        progress: told how many samples are found.

    Raises:
        ConfigError: no such class, nobody to judge, an option that means nothing here, or too few samples of which
            the judge is so sure.
    """
    if not 0 <= confidence <= 1:
        raise ConfigError(f"a confidence is a probability from 0 to 1, got {confidence:g}")
    there = known_classes(model, known)
    wrong = [label for label in labels or () if label not in there]
    if wrong:
        raise ConfigError(f"there is no class {wrong[0]} to draw from: there are {', '.join(map(str, there))}")
    if known is not None and (temperature != 1 or truncation is not None):
        raise ConfigError("temperature and truncation are the prior's: latents of labelled images have none")
    if model.condition is not None:
        number = count if labels is None else count * len(labels)
        own = torch.arange(count) if labels is None else torch.arange(count).repeat(len(labels))
        kinds = own % len(there) if labels is None else torch.tensor(labels).repeat_interleave(count)
        z = draw(model, count, seed=seed, temperature=temperature, truncation=truncation)
        return Labelled(decode(model, z[own.to(z.device)], labels=kinds), kinds, None, number)
    with evaluation_mode(model):
        return _Search(model, known, seed, temperature, truncation, confidence, progress).run(count, labels)


def known_classes(model: VAE, known: Classes | None = None) -> list[int]:
    """The numbers of the classes that samples can be asked of.

    Raises:
        ConfigError: the model has neither a condition nor a classifier, and there are no Gaussians.
    """
    if model.condition is not None:
        if known is not None:
            raise ConfigError(f"model '{model.name}' is conditional: it draws from its prior, not from labelled images")
        return list(range(model.condition.classes))
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
        f"model '{model.name}' has neither a condition nor a classifier: its classes need labelled images"
    )


@dataclass(frozen=True)
class _Search:
    """Latents are drawn until enough of them are of the wanted classes."""

    model: VAE
    known: Classes | None
    seed: int
    temperature: float
    truncation: float | None
    confidence: float
    progress: Progress | None

    def run(self, count: int, labels: list[int] | None) -> Labelled:
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
        return Labelled(images[chosen], kinds[chosen], sure[chosen], tried)

    def _called(self, label: int) -> str:
        """A class in words; the names that the model learned are not those of other labelled images."""
        names = self.model.provenance.classes if self.known is None else None
        return f"class {label}" if not names or label >= len(names) else f"class {label} ({names[label]})"

    def _missing(self, kept: list[_Kept], count: int, labels: list[int] | None) -> list[int]:
        """The classes of which there are not yet enough; all, while there are not enough in all."""
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
