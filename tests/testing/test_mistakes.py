"""Mistakes that are easily made in an entry of another package, each found by the check of its kind."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from testing.plain_discriminator import Plain
from testing.test_checks import Absolute, Brightness, Ramps, Scale
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from convae.core.errors import ConfigError, ShapeError
from convae.data import Record
from convae.evaluation import EncodedSplit, LatentMetric
from convae.features import FeatureNetwork
from convae.latents import EvalBatch
from convae.model import (
    ContextLayer,
    Flow,
    Layer,
    LikelihoodHead,
    Prior,
    ReceptiveField,
    require_images_like,
)
from convae.model.bottlenecks.gaussian import Gaussian
from convae.model.likelihoods.bernoulli import Bernoulli, BernoulliLikelihood
from convae.objective import Critic, LossInputs, Term, batch_mean
from convae.testing import (
    check_bottleneck,
    check_discriminator,
    check_feature_network,
    check_flow,
    check_layer,
    check_likelihood,
    check_metric,
    check_optimizer,
    check_prior,
    check_source,
    check_term,
)
from convae.types import Context, Likelihood, Shape, normal_like


class Unregistered(Layer):
    """A layer with a tensor that is no buffer."""

    keeps_shape = True

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.filters = [torch.ones(shape[0])]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.filters[0].view(-1, *(1,) * (x.ndim - 2))


class InPlace(Layer):
    """A layer that clamps its input in place."""

    keeps_shape = True

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp_(-0.5, 0.5) * 2


class Unseeded(Scale):
    """A layer that begins with values of torch's default generator."""

    def reset(self, generator: Any) -> None:
        nn.init.normal_(self.own)

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.own = nn.Parameter(torch.empty(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.own * self.weight


class Single(Layer):
    """A layer with a kernel of float32 in a model of float64."""

    keeps_shape = True

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.movedim(1, -1), torch.ones(x.shape[1], x.shape[1])).movedim(-1, 1)


class Report(ContextLayer):
    """A layer that reports one cost of the batch."""

    keeps_shape = True

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        if context is not None:
            context.terms["activity"] = x.square().mean()
        return x


class Counted(Layer):
    """A layer whose exported graph is for one number of images."""

    keeps_shape = True

    def forward(self, x: Tensor) -> Tensor:
        return x + x.new_zeros(len(x)).view(-1, *(1,) * (x.ndim - 1))


class Halved(Layer):
    """A layer that adds pairs of rows, without a receptive field."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        if shape[1] % 2:
            raise ShapeError("the number of rows must be even")

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, :, ::2], x[:, :, 1::2]]).sum(0)


class Pairs(Halved):
    """A layer that adds pairs of rows."""

    def receptive_field(self) -> ReceptiveField:
        others = (1.0,) * (len(self.shape_in) - 2)
        return ReceptiveField((2.0, *others), (2.0, *others))


class OfClass(ContextLayer):
    """A layer that adds a learned vector of the class."""

    keeps_shape = True

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.table = nn.Embedding(2, shape[0])

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        if context is None or context.labels is None:
            return x
        own: Tensor = self.table(context.labels)
        return x + own.view(*x.shape[:2], *(1,) * (x.ndim - 2))


class Placed(Layer):
    """A layer with a tensor that is always on the CPU."""

    keeps_shape = True

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.arange(x.shape[1], device="cpu").view(-1, *(1,) * (x.ndim - 2))


class Drawn(Gaussian):
    """A Gaussian whose noise is not that of the context."""

    example: ClassVar = {"latent": 3}

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        posterior = self.posterior(x)
        latent = posterior.mean + torch.randn_like(posterior.mean)
        (context or Context()).report_latent(self.stream, latent, posterior)
        return latent


class ClampingLikelihood(BernoulliLikelihood):
    def log_prob_values(self, x: Any) -> Tensor:
        return super().log_prob_values(x.clamp_(0.1, 0.9))


class Clamping(Bernoulli):
    """A likelihood that clamps the images in place."""

    def forward(self, raw: Tensor) -> ClampingLikelihood:
        return ClampingLikelihood(raw.float())


@dataclass(frozen=True)
class BetaLikelihood(Likelihood):
    a: Tensor

    @property
    def mean(self) -> Tensor:
        return self.a / (self.a + 1.5)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        return self.mean

    def log_prob_values(self, x: Any) -> Any:
        density = torch.distributions.Beta(self.a, torch.full_like(self.a, 1.5), validate_args=False)
        return density.log_prob(require_images_like(x, self.a))


class Beta(LikelihoodHead):
    """A density that is infinite at 0."""

    def forward(self, raw: Tensor) -> BetaLikelihood:
        return BetaLikelihood(raw.float().exp())


class HalfLikelihood(BetaLikelihood):
    def log_prob_values(self, x: Any) -> Any:
        return -(x - self.mean).square().to(self.a.dtype)


class Half(LikelihoodHead):
    """A likelihood in the type of the raw values."""

    def forward(self, raw: Tensor) -> HalfLikelihood:
        return HalfLikelihood(raw.exp())


class SummedLikelihood(BetaLikelihood):
    def log_prob_values(self, x: Any) -> Any:
        return -(x - self.mean).square().flatten(1).mean(1)[:, None]


class Summed(LikelihoodHead):
    """A likelihood that takes the mean over the values."""

    def forward(self, raw: Tensor) -> SummedLikelihood:
        return SummedLikelihood(raw.float().exp())


class Normal(Prior):
    """A normal distribution, learned."""

    def __init__(self, bottleneck: Any) -> None:
        super().__init__(bottleneck)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def reset(self, generator: torch.Generator | None = None) -> None:
        nn.init.zeros_(self.log_scale)

    def sample(self, count: int, noise: Any = None, labels: Any = None, temperature: float = 1.0) -> Tensor:
        own = normal_like(self.like.new_empty(count, *self.latent_shape), noise)
        return temperature * self.log_scale.exp() * own

    def log_prob(self, z: Tensor) -> Tensor:
        found: Tensor = -0.5 * (z / self.log_scale.exp()).square() - self.log_scale - 0.5 * math.log(2 * math.pi)
        return found.flatten(1).sum(1)


class Histogram(Prior):
    """A distribution over the codes at each place, learned."""

    draws_codes = True

    def __init__(self, bottleneck: Any) -> None:
        super().__init__(bottleneck)
        if not bottleneck.is_discrete:
            raise ConfigError("it is over codes")
        self.logits = nn.Parameter(torch.zeros(math.prod(self.code_shape), max(bottleneck.codebook_sizes)))

    def reset(self, generator: torch.Generator | None = None) -> None:
        nn.init.zeros_(self.logits)

    def sample(self, count: int, noise: Any = None, labels: Any = None, temperature: float = 1.0) -> Tensor:
        uniform = torch.special.ndtr(normal_like(self.like.new_empty(count, *self.logits.shape), noise))
        codes: Tensor = (self.logits / temperature - (-uniform.log()).log()).argmax(2)
        return codes.view(count, *self.code_shape)

    def log_prob(self, z: Tensor) -> Tensor:
        codes = self.bottleneck.nearest_codes(z).flatten(1)
        places = torch.arange(codes.shape[1], device=codes.device)
        return self.logits.log_softmax(1)[places, codes].sum(1)


class Averaged(Normal):
    """A prior with a mean over the latent values in place of a sum."""

    def log_prob(self, z: Tensor) -> Tensor:
        return super().log_prob(z) / z[0].numel()


class Wide(Normal):
    """A prior with samples that are wider than its density."""

    def sample(self, count: int, noise: Any = None, labels: Any = None, temperature: float = 1.0) -> Tensor:
        return super().sample(count, noise, labels, 2 * temperature)


class Deaf(Normal):
    """A prior that does not take a generator for each sample."""

    def sample(self, count: int, noise: Any = None, labels: Any = None, temperature: float = 1.0) -> Tensor:
        return super().sample(count, noise if isinstance(noise, torch.Generator) else None, labels, temperature)


class Unlearned(Normal):
    """A prior whose parameter has no gradient."""

    def log_prob(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            return super().log_prob(z)


class Fixed(Normal):
    """A prior whose exported graph is for one number of samples."""

    def sample(self, count: int, noise: Any = None, labels: Any = None, temperature: float = 1.0) -> Tensor:
        z = super().sample(count, noise, labels, temperature)
        return z + z.new_zeros(len(z))[:, None]


class CountedFlow(Flow):
    """A flow whose exported graph is for one number of latents."""

    def __init__(self, shape: Shape, features: Shape | None = None) -> None:
        super().__init__(shape, features)
        self.log_scale = nn.Parameter(torch.zeros(shape))

    def forward(self, u: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return u * self.log_scale.exp(), self.log_scale.sum().expand(len(u))

    def inverse(self, z: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z * (-self.log_scale).exp(), -self.log_scale.sum().expand(len(z))

    def reset(self, generator: torch.Generator | None = None) -> None:
        nn.init.zeros_(self.log_scale)


class Centered(Absolute):
    """A term that centers the images in place."""

    def forward(self, inputs: LossInputs) -> Tensor:
        inputs.images.sub_(0.5)
        return super().forward(inputs)


class Relative(Absolute):
    """A term that keeps a running mean."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def forward(self, inputs: LossInputs) -> Tensor:
        found = super().forward(inputs)
        self.get_buffer("scale").mul_(1.1)
        return found * self.get_buffer("scale")


class Net(Critic):
    def __init__(self, *, scale: float, is_scalar: bool) -> None:
        super().__init__()
        self.scale, self.is_scalar = nn.Parameter(torch.tensor(scale)), is_scalar

    def loss(self, inputs: LossInputs) -> Any:
        found = (self.scale * inputs.reconstruction.detach()).square().flatten(1).sum(1)
        return found.mean() if self.is_scalar else found


class WithCritic(Absolute):
    """A term with a network of its own."""

    is_scalar, is_random, is_renewed = False, False, False

    def __init__(self) -> None:
        super().__init__()
        self._critic: tuple[Net, ...] = ()

    def bind(self, latent_shape: Shape, image_shape: Shape) -> None:
        if not self._critic or self.is_renewed:
            scale = float(torch.rand(())) if self.is_random else 0.5
            self._critic = (Net(scale=scale, is_scalar=self.is_scalar),)

    @property
    def critic(self) -> Net | None:
        return next(iter(self._critic), None)


class ScalarCritic(WithCritic):
    """A term whose network has one loss for the batch."""

    is_scalar = True


class RandomCritic(WithCritic):
    """A term whose network begins with random weights."""

    is_random = True


class RenewedCritic(WithCritic):
    """A term that makes a new network whenever it is bound."""

    is_renewed = True


class LinearNet(Critic):
    """A critic that computes in the type of its weights."""

    def __init__(self, image_shape: Shape) -> None:
        super().__init__()
        self.line = nn.Linear(math.prod(image_shape), 1)
        nn.init.constant_(self.line.weight, 0.01)
        nn.init.zeros_(self.line.bias)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.line(images.flatten(1)).squeeze(1)
        return scores

    def loss(self, inputs: LossInputs) -> Tensor:
        return F.softplus(-self(inputs.images)) + F.softplus(self(inputs.reconstruction.detach()))


class Judged(Absolute):
    """A term with a linear discriminator."""

    def __init__(self) -> None:
        super().__init__()
        self._critic: tuple[LinearNet, ...] = ()

    def bind(self, latent_shape: Shape, image_shape: Shape) -> None:
        self._critic = self._critic or (LinearNet(image_shape),)

    @property
    def critic(self) -> LinearNet | None:
        return next(iter(self._critic), None)

    def forward(self, inputs: LossInputs) -> Tensor:
        return F.softplus(-self._critic[0](inputs.reconstruction))


class ScalarRows(Brightness):
    """A metric with a mean over the batch in place of rows."""

    def rows(self, batch: EvalBatch) -> Any:
        return super().rows(batch).mean()


class ClampedRows(Brightness):
    """A metric that clamps the images in place."""

    def rows(self, batch: EvalBatch) -> Tensor:
        return batch.images.clamp_(0.4, 0.6).flatten(1).mean(1)


class Reused(Ramps):
    """A data set that returns the same array for each image."""

    names: ClassVar[Any] = tuple(map(str, range(20)))
    pixels: ClassVar = np.zeros((8, 8, 1), np.uint8)

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        self.pixels[:] = index
        return Record(self.pixels, (8, 8))


class Features(FeatureNetwork):
    """A network with random weights of torch's default generator."""

    name, sha256 = "random", "0" * 64

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def maps(self, images: Any) -> list[Tensor]:
        return [self.layer(images).relu()]


class Nameless(FeatureNetwork):
    """A network that states neither its name nor a checksum."""

    def maps(self, images: Any) -> list[Tensor]:
        return [images.square()]


class Shifted(Plain):
    """A discriminator that shifts the images in place."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return super().forward(images if images.requires_grad else images.sub_(0.5))


@pytest.mark.parametrize(
    ("check", "entry", "fault"),
    [
        (check_layer, Unregistered, "filters"),
        (check_layer, InPlace, "in place"),
        (check_layer, Unseeded, r"determine .*\.own"),
        (check_layer, Single, "compute in float64"),
        (check_layer, Report, "activity"),
        (check_layer, Counted, r"x\.shape"),
        (check_layer, Placed, "device"),
        (check_layer, Halved, "receptive_field"),
        (check_bottleneck, Drawn, "two passes"),
        (check_likelihood, Clamping, "in place"),
        (check_likelihood, Beta, "of the value 0"),
        (check_likelihood, Half, "bfloat16"),
        (check_likelihood, Summed, "log_prob_values"),
        (check_prior, Averaged, "density of sample"),
        (check_prior, Wide, "density of sample"),
        (check_prior, Deaf, "generator"),
        (check_prior, Unlearned, "log_scale"),
        (check_prior, Fixed, r"x\.shape"),
        (check_flow, CountedFlow, r"x\.shape"),
        (check_term, Centered, "in place"),
        (check_term, Relative, "earlier calls"),
        (check_term, ScalarCritic, "loss of its critic"),
        (check_term, RandomCritic, "scale of its critic"),
        (check_term, RenewedCritic, "bind"),
        (check_metric, ScalarRows, "one row"),
        (check_metric, ClampedRows, "in place"),
        (check_source, Reused, "threads"),
        (check_feature_network, Features, "other weights"),
        (check_feature_network, Nameless, "name"),
        (check_discriminator, Shifted, "in place"),
    ],
)
def test_a_mistake_is_found(check: Callable[..., None], entry: Any, fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        check(entry)


class WeightNorm(Layer):
    """Convolutions with weight norm, dropout, and modules of torch."""

    over_positions = True

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(shape) - 1]
        body = weight_norm(convolution(shape[0], 6, 3, padding=1)), nn.GroupNorm(2, 6), nn.SiLU(), nn.Dropout(0.1)
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.body(x)
        return found


class Centers(Term):
    """Squared distance of a latent from the mean of its class."""

    unit: ClassVar = "squared latent units"

    def forward(self, inputs: LossInputs) -> Tensor:
        assert inputs.labels is not None
        z = inputs.posterior.mean.flatten(1)
        hot = F.one_hot(inputs.labels.clamp_min(0), 5) * (inputs.labels >= 0)[:, None].to(z)
        centers = batch_mean(hot[:, :, None] * z[:, None]) / batch_mean(hot).clamp_min(1e-6)[:, None]
        return (z - hot @ centers).square().sum(1) * hot.sum(1)


class SpectralNorm(Plain):
    """A linear map whose largest singular value is estimated in every pass of the training."""

    def __init__(self, image_shape: Shape) -> None:
        super().__init__(image_shape)
        self.register_buffer("v", torch.ones(torch.Size(image_shape).numel()))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.training:
            with torch.no_grad():
                self.get_buffer("v").add_(self.layer.weight[0]).div_(math.sqrt(2))
        return (super().forward(images)[0] / (self.layer.weight @ self.get_buffer("v")).abs(),)


class Entropy(LatentMetric):
    """Mean entropy of the posteriors."""

    unit: ClassVar = "nats"
    better: ClassVar = None

    def rows(self, encoded: EncodedSplit) -> Tensor:
        return 0.5 * encoded.logvar.float().flatten(1).sum(1)


class Counting(torch.optim.Optimizer):
    """Gradient descent with a step that depends on a count in its group, and on another of each parameter."""

    def __init__(self, groups: Any, lr: float) -> None:
        super().__init__(groups, {"lr": lr, "count": 0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # as authors write it
        for group in self.param_groups:
            group["count"] += 1
            for parameter in group["params"]:
                if parameter.grad is not None:
                    steps = self.state[parameter]["steps"] = self.state[parameter].get("steps", 0) + 1
                    size = group["lr"] * (1 - 0.9**steps) / group["count"]
                    parameter.sub_(parameter.grad, alpha=size)


@pytest.mark.parametrize(
    ("check", "entry"),
    [
        (check_layer, WeightNorm),
        (check_layer, Pairs),
        (check_layer, OfClass),
        (check_prior, Normal),
        (check_prior, Histogram),
        (check_term, Centers),
        (check_term, WithCritic),
        (check_term, Judged),
        (check_discriminator, SpectralNorm),
        (check_metric, Entropy),
        (check_optimizer, Counting),
    ],
)
def test_what_is_sound_passes(check: Callable[..., None], entry: Any) -> None:
    check(entry)
