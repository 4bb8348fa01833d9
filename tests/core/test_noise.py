from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from convae.core.noise import BLOCK, CountedNoise, GivenNoise
from convae.core.random import torch_generator


@given(st.integers(1, 700), st.data())
def test_noise_does_not_depend_on_how_a_batch_is_split(whole: int, data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, whole - 1))
    end = data.draw(st.integers(begin + 1, whole))
    shape, kind = (3,), torch.float32
    everything = CountedNoise(5, ("noise", 2), 0, whole).normal((whole, *shape), kind)
    part = CountedNoise(5, ("noise", 2), begin, whole).normal((end - begin, *shape), kind)
    assert torch.equal(part, everything[begin:end])
    if whole <= BLOCK:
        assert torch.equal(everything, torch.randn((whole, *shape), generator=torch_generator(5, "noise", 2)))


def test_each_image_has_a_generator_by_its_place() -> None:
    def drawn(start: int, count: int) -> list[float]:
        generators = CountedNoise(1, ("dropout",), start, 9).generators(count, torch.device("cpu"))
        return [torch.rand((), generator=generator).item() for generator in generators]

    assert drawn(0, 9)[4:7] == drawn(4, 3)
    assert len(set(drawn(0, 9))) == 9


def test_streams_of_other_names_are_independent() -> None:
    noise = CountedNoise(3, (7,), 0, 4)
    latent, level = (noise.named(name).normal((4, 50), torch.float32) for name in ("latent", "level"))
    assert torch.equal(latent, CountedNoise(3, ("latent", 7), 0, 4).normal((4, 50), torch.float32))
    assert not torch.equal(latent, level)


def test_given_noise_is_handed_out_in_order() -> None:
    noise = GivenNoise(torch.arange(10.0).reshape(2, 5))
    assert noise.normal_like(torch.empty(2, 2)).tolist() == [[0, 1], [5, 6]]
    assert noise.normal_like(torch.empty(2, 3, 1)).flatten(1).tolist() == [[2, 3, 4], [7, 8, 9]]
    assert noise.used == 5
