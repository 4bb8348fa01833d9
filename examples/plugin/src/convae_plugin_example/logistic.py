from dataclasses import dataclass

from torch import Generator, Tensor
from torch.nn import functional as F

from convae.model import LikelihoodHead, require_images_like, uniform_like
from convae.types import Likelihood, PositiveFloat


@dataclass(frozen=True)
class LogisticLikelihood(Likelihood):
    location: Tensor
    scale: float

    @property
    def mean(self) -> Tensor:
        return self.location

    def sample(self, generator: Generator | None = None) -> Tensor:
        return (self.location + self.scale * uniform_like(self.location, generator).logit(1e-6)).clamp(0, 1)

    def log_prob_values(self, x: Tensor) -> Tensor:
        z = (require_images_like(x, self.location) - self.location) / self.scale
        return -z - 2 * F.softplus(-z) - self.location.new_tensor(self.scale).log()


class Logistic(LikelihoodHead):
    """Logistic distribution of a fixed scale for each value, around a sigmoid of the decoder's output."""

    def __init__(self, *, scale: PositiveFloat = 0.05) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, raw: Tensor) -> LogisticLikelihood:
        return LogisticLikelihood(raw.float().sigmoid(), self.scale)
