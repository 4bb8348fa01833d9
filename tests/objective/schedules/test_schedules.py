"""Schedules: exact at their ends, continuous where they should be, in steps, epochs and fractions, composable."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from convae.core.errors import ConfigError
from convae.objective.schedules.base import Moment, build_schedule

PER_EPOCH, EPOCHS = 7, 20
STEPS = PER_EPOCH * EPOCHS
values = st.floats(-100, 100)
positive = st.floats(1e-3, 100)
moments = st.integers(0, STEPS)
lengths = st.integers(1, EPOCHS)


def at(step: int, steps: int = STEPS, per_epoch: int = PER_EPOCH) -> Moment:
    return Moment(step, step / per_epoch, step / steps)


def made(written: Any) -> Any:
    return build_schedule(written, "here")


def trace(written: Any, steps: int = STEPS) -> list[float]:
    one = made(written)
    return [one(at(step, steps)) for step in range(steps + 1)]


@given(values, moments)
def test_a_number_is_a_constant(value: float, step: int) -> None:
    assert made(value)(at(step)) == made({"constant": {"value": value}})(at(step)) == value


@pytest.mark.parametrize("name", ["linear", "cosine", "exponential"])
@given(positive, positive, lengths, st.integers(0, EPOCHS))
def test_a_way_meets_its_ends_exactly_and_holds_them(
    name: str, start: float, end: float, length: int, after: int
) -> None:
    one = made({name: {"start": start, "end": end, "epochs": length, "after": after}})
    for epoch in range(EPOCHS + 1):
        if epoch <= after:
            assert one(at(epoch * PER_EPOCH)) == start
        if epoch >= after + length:
            assert one(at(epoch * PER_EPOCH)) == end


@pytest.mark.parametrize("name", ["linear", "cosine", "exponential"])
@given(positive, positive, lengths)
def test_a_way_is_monotonous_and_takes_no_leaps(name: str, start: float, end: float, length: int) -> None:
    line = trace({name: {"start": start, "end": end, "epochs": length}})
    sign = math.copysign(1, end - start)
    tolerance = 1e-12 * max(start, end)
    assert all((after - before) * sign >= -tolerance for before, after in pairwise(line))
    slope = math.log(max(start, end) / min(start, end)) * max(start, end) if name == "exponential" else abs(end - start)
    steepest = slope * (math.pi / 2 if name == "cosine" else 1) / (length * PER_EPOCH)
    leaps = [abs(after - before) for before, after in pairwise(line)]
    assert max(leaps) <= steepest * (1 + 1e-9) + tolerance


@pytest.mark.parametrize("name", ["linear", "cosine", "exponential"])
@given(lengths, st.integers(0, EPOCHS), moments)
def test_epochs_and_steps_are_the_same_clock(name: str, length: int, after: int, step: int) -> None:
    in_epochs = made({name: {"start": 1, "end": 3, "epochs": length, "after": after}})
    in_steps = made({name: {"start": 1, "end": 3, "steps": length * PER_EPOCH, "after": after * PER_EPOCH}})
    assert in_epochs(at(step)) == pytest.approx(in_steps(at(step)), rel=1e-12)


@given(st.floats(0.01, 1), st.floats(0, 0.99), moments)
def test_fractions_are_fractions_of_the_training(fraction: float, after: float, step: int) -> None:
    assume(after + fraction <= 1)
    one = made({"linear": {"fraction": fraction, "after": after}})
    assert one(at(step)) == pytest.approx(min(1, max(0, (step / STEPS - after) / fraction)), abs=1e-12)
    rest = made({"linear": {"after": after}})
    assert made({"linear": {"fraction": 0.1, "after": 0.9}})(at(STEPS)) == pytest.approx(1)
    assert rest(at(step)) == pytest.approx(max(0, (step / STEPS - after) / (1 - after)), abs=1e-12)
    assert rest(at(STEPS)) == 1


def test_formulas_half_way() -> None:
    half = at(STEPS // 2)
    assert made({"linear": {"start": 2, "end": 8}})(half) == 5
    assert made({"cosine": {"start": 2, "end": 8}})(half) == pytest.approx(5)
    assert made("cosine")(at(STEPS // 4)) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert made({"exponential": {"start": 2, "end": 8}})(half) == pytest.approx(4)


def test_a_staircase_jumps_at_its_times() -> None:
    one = made({"staircase": {"epochs": {500: 0, 600: 1, 800: 2}}})
    found = [one(Moment(epoch * 7, float(epoch), epoch / 1000)) for epoch in (0, 499, 500, 599, 600, 799, 800, 1000)]
    assert found == [0, 0, 0, 0, 1, 1, 2, 2]
    assert one(Moment(4199, 599.999, 0.6)) == 0
    later = made({"staircase": {"start": 1, "steps": {20: 0.1}}})
    assert [later(at(step)) for step in (0, 19, 20, 21)] == [1, 1, 0.1, 0.1]
    fractions = made({"staircase": {"fraction": {0: 1, 0.3: 2, 0.7: 3}}})
    assert [fractions(at(step, 10)) for step in range(11)] == [1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]


@given(st.dictionaries(st.integers(0, EPOCHS), values, min_size=2), moments)
def test_a_staircase_is_a_sequence_of_numbers(stairs: dict[int, float], step: int) -> None:
    from_zero = {0: stairs[min(stairs)], **stairs}
    staircase, sequence = made({"staircase": {"epochs": stairs}}), made({"sequence": {"epochs": from_zero}})
    assert staircase(at(step)) == sequence(at(step))


def test_a_step_decay_falls_by_its_factor() -> None:
    one = made({"step-decay": {"start": 8, "factor": 0.5, "epochs": 5}})
    assert [one(at(epoch * PER_EPOCH)) for epoch in (0, 4, 5, 9, 10, 15, 20)] == [8, 8, 4, 4, 2, 1, 0.5]
    tenths = made({"step-decay": {"factor": 0.5, "fraction": 0.1}})
    assert [tenths(at(step, 10)) for step in range(11)] == [0.5**step for step in range(11)]


def test_cycles_are_those_of_fu() -> None:
    """r(τ) of equation 7: τ is the fraction of the running cycle; the weight is τ / 0.5 below 0.5, then 1."""
    line = trace("cyclical", 400)
    wanted = [min(1.0, (step % 100) / 100 / 0.5) for step in range(400)]
    assert line[:400] == pytest.approx(wanted)
    assert line[400] == 1


def test_cycles_of_a_cosine_are_warm_restarts() -> None:
    line = trace({"cyclical": {"of": "cosine", "cycles": 3, "steps": 90}}, 100)
    wanted = [(1 + math.cos(math.pi * (step % 30) / 30)) / 2 for step in range(90)]
    assert line[:90] == pytest.approx(wanted)
    assert line[90:] == [0] * 11


@given(st.integers(1, 9), st.sampled_from([{"epochs": 15}, {"steps": 90}, {"fraction": 0.6}, {}]), moments)
def test_cycles_repeat(cycles: int, span: dict[str, float], step: int) -> None:
    one = made({"cyclical": {"of": {"linear": {}}, "cycles": cycles, **span}})
    length = {"epochs": 15 * PER_EPOCH, "steps": 90, "fraction": 0.6 * STEPS}.get(next(iter(span), ""), STEPS)
    place = step / length * cycles
    assume(abs(place - round(place)) > 1e-6)
    assert one(at(step)) == pytest.approx(place % 1 if place < cycles else 1, abs=1e-9)


@given(st.integers(1, EPOCHS - 1), st.integers(0, STEPS))
def test_the_clock_of_a_part_starts_when_the_part_begins(begin: int, step: int) -> None:
    part = {"linear": {"epochs": 5, "end": 7}}
    one = made({"sequence": {"epochs": {0: -1, begin: part}}})
    alone = made(part)
    shifted = step - begin * PER_EPOCH
    assert one(at(step)) == pytest.approx(-1 if shifted < 0 else alone(at(shifted)), abs=1e-12)
    in_steps = made({"sequence": {"steps": {0: -1, begin * PER_EPOCH: part}}})
    assert in_steps(at(step)) == pytest.approx(one(at(step)), abs=1e-9)


def test_a_part_without_a_length_lasts_until_the_next_begins_or_training_ends() -> None:
    line = trace({"sequence": {"steps": {0: 0, 20: "linear", 60: "cosine"}}}, 100)
    assert line[:20] == [0] * 20
    assert line[20:60] == pytest.approx([step / 40 for step in range(40)])
    assert line[60:] == pytest.approx([(1 + math.cos(math.pi * step / 40)) / 2 for step in range(41)])


def test_sequences_may_be_nested() -> None:
    inner = {"sequence": {"fraction": {0: 1, 0.5: 2}}}
    assert trace({"sequence": {"steps": {0: 0, 4: inner, 8: inner}}}, 12) == [0] * 4 + [1, 1, 2, 2] + [1, 1, 2, 2, 2]


@given(values, values, moments)
def test_sums_and_products(first: float, second: float, step: int) -> None:
    parts = [{"linear": {"start": first, "end": second}}, {"cosine": {"epochs": 10}}, second]
    results = [made(part)(at(step)) for part in parts]
    assert made({"sum": {"of": parts}})(at(step)) == math.fsum(results)
    assert made({"product": {"of": parts}})(at(step)) == math.prod(results)


ROW_A7 = {"sequence": {"epochs": {0: 0, 500: "linear", 600: 1, 800: 2, 1000: 3, 1200: 4, 1400: 5}}}
ROW_A7_AS_SUM = {
    "sum": {
        "of": [
            {"linear": {"after": 500, "epochs": 100}},
            {"staircase": {"start": 0, "epochs": {800: 1, 1000: 2, 1200: 3, 1400: 4}}},
        ]
    }
}


@pytest.mark.parametrize("written", [ROW_A7, ROW_A7_AS_SUM], ids=["sequence", "sum"])
@pytest.mark.parametrize("per_epoch", [1, 7, 313])
def test_the_two_stage_schedule_is_exact_over_1500_epochs(written: Any, per_epoch: int) -> None:
    one = made(written)
    for epoch in range(1501):
        if epoch < 500:
            wanted = 0.0
        elif epoch < 600:
            wanted = (epoch - 500) / 100
        else:
            wanted = 1.0 + sum(epoch >= jump for jump in (800, 1000, 1200, 1400))
        assert one(at(epoch * per_epoch, 1500 * per_epoch, per_epoch)) == wanted, epoch
    rate = made({"staircase": {"epochs": {0: 1.0, 1000: 0.1}}})
    assert [1e-4 * rate(at(epoch, 1500, 1)) for epoch in (0, 999, 1000, 1500)] == pytest.approx(
        [1e-4, 1e-4, 1e-5, 1e-5]
    )


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("linaer", r"^here: unknown schedule 'linaer': did you mean 'linear'\?$"),
        ({"linear": {"epoch": 3}}, r"^here\.linear: unknown key 'epoch': did you mean 'epochs'\?$"),
        ({"linear": {"epochs": 3, "steps": 4}}, r"^here\.linear: .*several of epochs, steps, fraction"),
        ({"linear": {"epochs": -3}}, r"^here\.linear: epochs: .*greater than 0"),
        ({"linear": {"fraction": 0.5, "after": 0.7}}, "after .* fraction"),
        ({"cosine": {"after": 1}}, "after .* fraction"),
        ({"exponential": {"end": 0}}, r"^here\.exponential: end: .*greater than 0"),
        (math.nan, r"^here\.constant: value: .*finite"),
        ({"step-decay": {}}, r"^here\.step-decay: .*epochs, steps and fraction"),
        ({"staircase": {}}, r"^here\.staircase: .*one of epochs, steps, fraction: a mapping"),
        ({"staircase": {"epochs": {5: 1}}}, "start"),
        ({"staircase": {"epochs": {-5: 1, 0: 2}}}, "greater than or equal to 0"),
        ({"sequence": {"epochs": {5: 1}}}, "starts at 5"),
        ({"sequence": {"epochs": {0: "cosin"}}}, r"^here\.sequence: from 0: unknown schedule 'cosin'"),
        ({"sequence": {"epochs": {0: [1]}}}, r"^here\.sequence: from 0: needs a number, or .*, got \[1\]$"),
        ({"cyclical": {"of": {"sum": {"of": []}}}}, r"^here\.cyclical: of\.sum: of: must have at least 1 item"),
        ({"linear": {}, "cosine": {}}, "a name or a mapping of one name"),
    ],
)
def test_a_fault_names_its_place_and_the_mend(written: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as fault:
        made(written)
    assert "\n" not in str(fault.value)
