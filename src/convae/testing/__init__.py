"""Contract tests for plug-ins: layers, loss terms, metrics, data sources and the other kinds.

    from convae.testing import check_layer

    def test_my_layer():
        check_layer(MyLayer)

Each function takes a class or a registered name, and raises `AssertionError` if the contract is violated. They need no
test framework, and are also convae's own contract tests over all registered names.
"""

from convae.testing.discriminators import check_discriminator
from convae.testing.evaluation import check_metric
from convae.testing.features import check_feature_network
from convae.testing.flows import check_flow
from convae.testing.interop import check_exporter, check_importer
from convae.testing.layers import check_layer
from convae.testing.loggers import check_logger
from convae.testing.objective import check_schedule, check_term
from convae.testing.optimizers import check_optimizer
from convae.testing.parts import check_bottleneck, check_likelihood, check_preset
from convae.testing.priors import check_prior
from convae.testing.quantizers import check_quantizer
from convae.testing.sources import check_source

__all__ = [
    "check_bottleneck",
    "check_discriminator",
    "check_exporter",
    "check_feature_network",
    "check_flow",
    "check_importer",
    "check_layer",
    "check_likelihood",
    "check_logger",
    "check_metric",
    "check_optimizer",
    "check_preset",
    "check_prior",
    "check_quantizer",
    "check_schedule",
    "check_source",
    "check_term",
]
