from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from convae.core.random import numpy_generator, stream_key, stream_keys, torch_generator

words = st.lists(st.integers(0, 9) | st.text("ab", max_size=2), max_size=3)


@given(st.integers(0, 5), words, st.integers(0, 5), words)
def test_keys_are_equal_for_equal_streams_alone(
    seed: int, first: list[int | str], other: int, second: list[int | str]
) -> None:
    same = (seed, [str(word) for word in first]) == (other, [str(word) for word in second])
    assert (stream_key(seed, *first) == stream_key(other, *second)) is same
    assert 0 <= stream_key(seed, *first) < 2**63


@given(st.integers(0, 5), words, st.lists(st.integers(0, 10**6), max_size=4))
def test_keys_of_many_numbers_are_those_of_each(seed: int, names: list[int | str], numbers: list[int]) -> None:
    assert list(stream_keys(seed, *names, numbers=numbers)) == [stream_key(seed, *names, each) for each in numbers]


def test_a_stream_depends_on_its_counters_and_on_nothing_else() -> None:
    torch.manual_seed(1)
    drawn = torch.randn(4, generator=torch_generator(3, "latent", 7))
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert torch.equal(drawn, torch.randn(4, generator=torch_generator(3, "latent", 7)))
    assert torch.equal(state, torch.random.get_rng_state())
    assert not torch.equal(drawn, torch.randn(4, generator=torch_generator(3, "latent", 8)))


def test_numpy_streams_likewise_and_the_values_are_pinned() -> None:
    drawn = numpy_generator(0, "order", 1).permutation(6)
    assert np.array_equal(drawn, numpy_generator(0, "order", 1).permutation(6))
    assert stream_key(0, "order", 1) == stream_key(0, "order", "1")
    assert stream_key(0) == 4246866556266386882, "old runs would no longer resume"
