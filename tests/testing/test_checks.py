"""The checks pass a sound entry of another module and say of a faulty one what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from originals import TorchVAE
from testing.plain_discriminator import Plain
from torch import Tensor, nn

from convae.data.sources.base import Listing, Record, Source, Survey
from convae.evaluation.metrics.base import ImageMetric
from convae.interop import IMPORTERS
from convae.interop.base import ImportedModel
from convae.latents import EvalBatch
from convae.model.layers.base import Layer
from convae.model.likelihoods.bernoulli import Bernoulli, BernoulliLikelihood
from convae.objective import Discriminator
from convae.objective.schedules.base import Moment, Schedule
from convae.objective.terms.base import LossInputs, Term
from convae.testing import (
    check_discriminator,
    check_importer,
    check_layer,
    check_likelihood,
    check_metric,
    check_preset,
    check_schedule,
    check_source,
    check_term,
)


class Scale(Layer):
    """A factor for all values, learned."""

    keeps_shape = True

    def __init__(self, shape: Any, *, start: float = 1.0) -> None:
        super().__init__(shape)
        self.weight = nn.Parameter(torch.empty(1))

    def reset(self, generator: Any) -> None:
        nn.init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class Detached(Scale):
    """A factor that no gradient reaches."""

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.detach()


class Liar(Scale):
    """A layer that promises another shape than it gives."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight)[:, :, :-1]


class Company(Scale):
    """A layer for which an image depends on the others of its batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight - x.mean(0)


class Terse(Scale):
    """Short"""


class BrightLikelihood(BernoulliLikelihood):
    @property
    def mean(self) -> Tensor:
        return super().mean + 1


class Bright(Bernoulli):
    """A likelihood whose mean is no image."""

    def forward(self, raw: Tensor) -> BrightLikelihood:
        return BrightLikelihood(raw.float())


class Absolute(Term):
    """Sum of the absolute values of the reconstruction."""

    unit: ClassVar = "image units"

    def forward(self, inputs: LossInputs) -> Tensor:
        return inputs.reconstruction.abs().flatten(1).sum(1)


class Total(Absolute):
    """A term with one value for the whole batch."""

    def forward(self, inputs: LossInputs) -> Any:
        return super().forward(inputs).sum()


class Unmoved(Absolute):
    """A term that the model cannot change."""

    def forward(self, inputs: LossInputs) -> Tensor:
        return inputs.images.flatten(1).sum(1)


class Ordered(Absolute):
    """A term that looks at an image's place."""

    def forward(self, inputs: LossInputs) -> Tensor:
        found = super().forward(inputs)
        return found * torch.arange(len(found))


class Counting(Schedule):
    """A schedule that counts how often it is asked."""

    asked = 0

    def __call__(self, moment: Moment) -> float:
        self.asked += 1
        return float(self.asked)


class Brightness(ImageMetric):
    """Mean value of the reconstruction."""

    unit: ClassVar = "image units"
    better: ClassVar = None

    def rows(self, batch: EvalBatch) -> Tensor:
        return batch.reconstruction.mean.flatten(1).mean(1)


class Batchwise(Brightness):
    """A metric with one value for a batch."""

    def rows(self, batch: EvalBatch) -> Tensor:
        return super().rows(batch) * len(batch.images)


class Unitless(Brightness):
    """A metric that does not say its unit."""

    unit: ClassVar = ""


class Ramps(Source):
    """Images that grow brighter from left to right."""

    names: ClassVar[tuple[str, ...]] = ("first", "second")
    noise: ClassVar = 0

    def fingerprint(self) -> str:
        return "ramps"

    def survey(self, progress: Any = None, *, sizes: bool = True) -> Survey:
        return Survey((8, 8), 1)

    def listing(self) -> Listing:
        return Listing(self.names)

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        row = np.arange(8, dtype=np.uint8) * (index + 1)
        return Record(np.broadcast_to(row[None, :, None] + np.uint8(self.noise), (8, 8, 1)), (8, 8))


class Doubled(Ramps):
    """A data set with two images of one name."""

    names: ClassVar = ("first", "first")


class Moving(Ramps):
    """A data set whose images change."""

    @property
    def noise(self) -> int:  # type: ignore[override]
        Moving.drawn += 1
        return Moving.drawn

    drawn: ClassVar = 0


def nothing(*, input: tuple[int, ...] = (1, 8, 8)) -> dict[str, Any]:
    """A preset whose decoder gives no image."""
    gaussian = {"gaussian": {"latent": 2}}
    return {"input": input, "encoder": ["flatten"], "bottleneck": gaussian, "decoder": [], "likelihood": "bernoulli"}


def careless(state: Any) -> ImportedModel:
    """An importer that takes whatever it is given."""
    names = TorchVAE(1, 2, 8).state_dict()
    found: ImportedModel = IMPORTERS.get("torch-vae")(
        {key: torch.nan_to_num(state.get(key, tensor)) for key, tensor in names.items()}
    )
    return found


@pytest.mark.parametrize(
    ("check", "entry"),
    [(check_layer, Scale), (check_term, Absolute), (check_metric, Brightness), (check_source, Ramps)],
)
def test_a_sound_entry_of_another_module_passes(check: Callable[..., None], entry: Any) -> None:
    check(entry)


@pytest.mark.parametrize(
    ("check", "entry", "parts"),
    [
        (check_layer, Detached, ["no gradient", "weight"]),
        (check_layer, Liar, ["(4, 8, 8)", "(4, 7, 8)"]),
        (check_layer, Company, ["batch"]),
        (check_layer, Terse, ["docstring", "'Short'"]),
        (check_layer, "cnov", ["conv"]),
        (check_likelihood, Bright, ["mean", "[0, 1]"]),
        (check_term, Total, ["one value for each image", "()"]),
        (check_term, Unmoved, ["model"]),
        (check_term, Ordered, ["order"]),
        (check_schedule, Counting, ["depends"]),
        (check_metric, Batchwise, ["batch"]),
        (check_metric, Unitless, ["unit"]),
        (check_source, Doubled, ["name"]),
        (check_source, Moving, ["image 0"]),
        (check_preset, nothing, ["decoder"]),
    ],
)
def test_what_is_wrong_is_said(check: Callable[..., None], entry: Any, parts: list[str]) -> None:
    with pytest.raises(AssertionError) as caught:
        check(entry)
    name = entry if isinstance(entry, str) else entry.__name__
    assert all(part in str(caught.value) for part in [name, *parts])


def test_importers() -> None:
    state = TorchVAE(1, 2, 8).state_dict()
    check_importer("torch-vae", state)
    with pytest.raises(AssertionError, match="ArtifactError"):
        check_importer(careless, state)


def test_a_class_inside_a_function_is_refused_with_the_reason() -> None:
    class Inner(Scale):
        """A layer that no recipe can name."""

    with pytest.raises(AssertionError, match="top level"):
        check_layer(Inner)


class Flat(Plain):
    """A discriminator whose features are no layers of scales."""

    def features(self, images: Tensor) -> Any:
        return (images.flatten(1),)


class Shared(Plain):
    """A discriminator whose features of an image depend on the others."""

    def features(self, images: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        return ((images - images.mean(0),),)


def test_a_discriminator_may_do_without_features() -> None:
    check_discriminator(Plain)


@pytest.mark.parametrize(("faulty", "fault"), [(Flat, "tuple of layers"), (Shared, "rest of the batch")])
def test_faulty_features_are_found(faulty: type[Discriminator], fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        check_discriminator(faulty)
