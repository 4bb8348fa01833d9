"""Contract tests for pieces of any package: a layer, a loss term, a metric, a data set and the others.

    from convae.testing import check_layer

    def test_my_layer():
        check_layer(MyLayer)

Each function takes a class, or the name of a registered entry, and raises `AssertionError` with what is wrong. The
checks need no test framework. Over all of convae's own entries, the same functions are its contract tests.
"""

from convae.testing.evaluation import check_metric
from convae.testing.interop import check_importer
from convae.testing.models import check_bottleneck, check_layer, check_likelihood, check_preset, check_prior
from convae.testing.objective import check_schedule, check_term
from convae.testing.sources import check_source

__all__ = [
    "check_bottleneck",
    "check_importer",
    "check_layer",
    "check_likelihood",
    "check_metric",
    "check_preset",
    "check_prior",
    "check_schedule",
    "check_source",
    "check_term",
]
