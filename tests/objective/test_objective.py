"""The objective: terms weighed and added, weights that change, and faults named with their place."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from convae.core.errors import ConfigError, ShapeError
from convae.core.types import Batch
from convae.objective import LossInputs, Term
from convae.objective.objective import build_objective
from convae.objective.schedules.base import Moment


class Column(Term):
    """One value for each value of the latent."""

    unit: ClassVar = "1"

    def forward(self, inputs: LossInputs) -> Any:
        return inputs.output.latent


class Scalar(Term):
    """One value for the batch."""

    unit: ClassVar = "1"

    def forward(self, inputs: LossInputs) -> Any:
        return inputs.output.latent.mean()


@pytest.mark.parametrize(("term", "shape"), [("Column", r"\(3, 2\)"), ("Scalar", r"\(\)")])
def test_a_term_has_one_value_for_each_image(term: str, shape: str, passed: Any, drawn: Any) -> None:
    x, y, mean = drawn(3, 1, 4, 4, word="x"), drawn(3, 1, 4, 4, word="y"), drawn(3, 2, word="m")
    given = passed(x, y, mean=mean)
    with pytest.raises(ShapeError, match=f"objective.*{term}.*{shape}"):
        build_objective({f"{__name__}:{term}": {}})(Batch.of(given.images), given.output, given.moment)


def test_the_total_is_the_weighted_sum_of_means(passed: Any, drawn: Any) -> None:
    x, y, mean = drawn(3, 1, 12, 12, word="x"), drawn(3, 1, 12, 12, word="y"), drawn(3, 2, word="m")
    given = passed(x, y, mean=mean)
    made = build_objective(
        {"squared-error": {"weight": 2.5}, "kl": {"weight": 0.1}, "ssim": {}, "sparse": {"weight": 0}}
    )
    losses = made(Batch.of(given.images, given.labels), given.output, given.moment)
    means = {name: term.mean().item() for name, term in losses.terms.items()}
    assert list(means) == ["squared-error", "kl", "ssim", "sparse"]
    assert losses.total.item() == pytest.approx(2.5 * means["squared-error"] + 0.1 * means["kl"] + means["ssim"])
    assert means["sparse"] > 0
    assert made.units == {
        "squared-error": "squared image units",
        "kl": "nats",
        "ssim": "1 − SSIM",
        "sparse": "latent units",
    }


def test_weights_follow_their_schedules_and_terms_do_not(passed: Any, drawn: Any) -> None:
    x, y, mean = drawn(3, 1, 4, 4, word="x"), drawn(3, 1, 4, 4, word="y"), drawn(3, 2, word="m")
    made = build_objective({"reconstruction": {}, "kl": {"weight": {"linear": {"end": 4, "epochs": 10}}}})
    totals = []
    for epoch in (0, 5, 10, 20):
        moment = Moment(epoch * 7, float(epoch), epoch / 20)
        given = passed(x, y, mean=mean, moment=moment)
        losses = made(Batch.of(given.images, given.labels), given.output, moment)
        weight = made.weights(moment)["kl"]
        assert weight == min(4.0, 0.4 * epoch)
        totals.append((losses.total - losses.terms["reconstruction"].mean()).item())
        assert totals[-1] == pytest.approx(weight * mean.square().sum(1).mean().item() / 2)
    assert totals[0] == 0


def test_the_formula_of_flexvae_is_a_line_for_each_symbol(passed: Any, drawn: Any) -> None:
    """Loss = α·reconstruction + kld_weight·KLD + β·(1 − SSIM) + sparse."""
    x, y = drawn(3, 1, 12, 12, word="x"), drawn(3, 1, 12, 12, word="y")
    given = passed(x, y, mean=drawn(3, 2, word="m"))
    made = build_objective(
        {"squared-error": {"weight": 10}, "kl": {"weight": 0.25}, "ssim": {"weight": 50}, "sparse": {"weight": 1}}
    )
    losses = made(Batch.of(given.images, given.labels), given.output, given.moment)
    alpha, kld, beta, sparse = (losses.terms[name].mean() for name in ("squared-error", "kl", "ssim", "sparse"))
    torch.testing.assert_close(losses.total, 10 * alpha + 0.25 * kld + 50 * beta + sparse)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({}, "^objective: needs at least one term of absolute-error, "),
        ({"reconstuction": {}}, r"^objective\.reconstuction: unknown term 'reconstuction': did you mean 'recons"),
        ({"kl": {"wieght": 2}}, r"^objective\.kl: unknown key 'wieght': did you mean 'weight'\?$"),
        ({"free-bits": {"nat": 2}}, r"^objective\.free-bits: unknown key 'nat': did you mean 'nats'\?$"),
        ({"kl": {"weight": "linaer"}}, r"^objective\.kl\.weight: unknown schedule 'linaer': did you mean 'linear'\?$"),
        ({"kl": {"weight": {"linear": {"epochs": 0}}}}, r"^objective\.kl\.weight\.linear: epochs: "),
        ({"kl": {"weight": [1, 2]}}, r"^objective\.kl\.weight: needs a number, or a schedule .*, got \[1, 2\]$"),
        ({"kl": {"weight": None}}, r"^objective\.kl\.weight: needs a number, .*, got None$"),
        ({"kl": {"weight": True}}, r"^objective\.kl\.weight: needs a number, .*, got True$"),
        ({"kl": {"weight": {500: 0, 600: 1}}}, r"^objective\.kl\.weight: .*\{staircase: \{epochs: \{0: 0, 10: 1\}\}\}"),
        ({"free-bits": {"nats": -1}}, r"^objective\.free-bits: nats: .*greater than or equal to 0"),
        ({"capacity": {"nats": {"linaer": {}}}}, r"^objective\.capacity: nats: unknown schedule 'linaer'"),
    ],
)
def test_a_fault_names_its_place_and_the_nearest_name(written: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as fault:
        build_objective(written)
    assert "\n" not in str(fault.value)


def test_what_a_term_lacks_is_named_with_the_term(passed: Any) -> None:
    given = passed(torch.rand(2, 1, 4, 4))
    with pytest.raises(ConfigError, match=r"^objective\.classification: the model has no classifier"):
        build_objective({"classification": {}})(Batch.of(given.images, given.labels), given.output, given.moment)
