"""Every piece keeps the contract of its kind; what is special to a piece is tested beside it."""

import torch
from convae_plugin_example.blur_pool import BlurPool
from convae_plugin_example.logistic import Logistic
from convae_plugin_example.mae import MAE
from convae_plugin_example.rings import Rings
from convae_plugin_example.total_variation import TotalVariation

from convae.testing import check_layer, check_likelihood, check_metric, check_source, check_term


def test_the_pieces_keep_their_contracts() -> None:
    check_layer(BlurPool)
    check_term(TotalVariation)
    check_metric(MAE)
    check_source(Rings, {"count": 5, "size": 8})
    check_likelihood(Logistic)


def test_blur_pool_weighs_neighbors_one_two_one() -> None:
    x = torch.zeros(1, 1, 8)
    x[..., 4] = 4
    assert BlurPool((1, 8), stride=1)(x)[..., 3:6].flatten().tolist() == [1, 2, 1]


def test_the_logistic_density_is_that_of_torch() -> None:
    raw, x = torch.randn(2, 1, 4, 4), torch.rand(2, 1, 4, 4)
    base = torch.distributions.Uniform(0.0, 1.0, validate_args=False)
    transforms = [
        torch.distributions.SigmoidTransform().inv,
        torch.distributions.AffineTransform(raw.sigmoid(), 0.05),
    ]
    wanted = torch.distributions.TransformedDistribution(base, transforms).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(Logistic()(raw).log_prob(x), wanted, rtol=1e-3, atol=1e-2)
