"""What layers compute, against the library's own functions or by what defines them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from convae.core.context import Context
from convae.core.errors import ShapeError
from convae.core.noise import CountedNoise
from convae.core.random import torch_generator
from convae.core.types import Shape
from convae.model.initialize import initialize
from convae.model.layers.base.network import Network


def values(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch_generator(0, "values"))


def network(shape: Shape, *layers: object) -> Network:
    made = Network(shape, list(layers), "layers")
    initialize(made, 0)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=torch_generator(1, "parameters", parameter.numel()))
    return made


def test_pixel_shuffle_is_that_of_torch() -> None:
    x = values(2, 12, 3, 5)
    assert torch.equal(network((12, 3, 5), {"pixel-shuffle": {"scale": 2}})(x), F.pixel_shuffle(x, 2))


@pytest.mark.parametrize(("shape", "scale"), [((2, 12), 3), ((2, 6, 8), [3, 2]), ((1, 4, 6, 2), [2, 3, 1])])
def test_pixel_unshuffle_and_pixel_shuffle_undo_each_other(shape: Shape, scale: int | list[int]) -> None:
    x = values(2, *shape)
    both = network(shape, {"pixel-unshuffle": {"scale": scale}}, {"pixel-shuffle": {"scale": scale}})
    assert torch.equal(both(x), x)


def test_layer_norm_is_that_of_torch_over_channels() -> None:
    x = values(2, 6, 4, 3)
    layer = network((6, 4, 3), "layer-norm")
    weight, bias = (layer.get_parameter(name) for name in ("0.weight", "0.bias"))
    wanted = F.layer_norm(x.movedim(1, -1), (6,), weight, bias, 1e-6).movedim(-1, 1)
    torch.testing.assert_close(layer(x), wanted)


def test_instance_and_group_norm_are_those_of_torch() -> None:
    x = values(2, 6, 4, 3)
    instance, group = network((6, 4, 3), "instance-norm"), network((6, 4, 3), {"group-norm": {"groups": 3}})
    weight, bias = (instance.get_parameter(name) for name in ("0.weight", "0.bias"))
    torch.testing.assert_close(instance(x), F.instance_norm(x, weight=weight, bias=bias))
    weight, bias = (group.get_parameter(name) for name in ("0.weight", "0.bias"))
    torch.testing.assert_close(group(x), F.group_norm(x, 3, weight, bias))


def test_batch_norm_moves_its_statistics_in_training_alone() -> None:
    layer = network((3, 4), "batch-norm")
    for _ in range(300):
        layer(values(16, 3, 4) * 2 + 5)
    running = layer.get_buffer("0.running_mean")
    assert running.tolist() == pytest.approx([5, 5, 5], abs=0.5)
    before = running.clone()
    layer.eval()(values(16, 3, 4))
    assert torch.equal(layer.get_buffer("0.running_mean"), before)


def test_batch_norm_cannot_train_on_single_values() -> None:
    layer = network((3, 1, 1), "batch-norm")
    with pytest.raises(ShapeError, match="one value per channel"):
        layer(values(1, 3, 1, 1))
    assert layer.eval()(values(1, 3, 1, 1)).isfinite().all()


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_is_that_of_torch_without_a_mask(heads: int) -> None:
    x = values(2, 8, 3, 4)
    layer = network((8, 3, 4), {"attention": {"heads": heads, "norm": {"group-norm": {"groups": 2}}}})[0]
    theirs = torch.nn.MultiheadAttention(8, heads, batch_first=True)
    state = {
        "in_proj_weight": layer.get_parameter("qkv.1.weight").flatten(1),
        "in_proj_bias": layer.get_parameter("qkv.1.bias"),
        "out_proj.weight": layer.get_parameter("out_proj.0.weight").flatten(1),
        "out_proj.bias": layer.get_parameter("out_proj.0.bias"),
    }
    theirs.load_state_dict(state)
    words = layer.get_submodule("qkv.0")(x).flatten(2).transpose(1, 2)
    wanted = x + theirs(words, words, words)[0].transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(layer(x), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_attention_uses_a_kernel_that_does_not_store_the_scores(memory_format: torch.memory_format) -> None:
    x = values(2, 8, 3, 4)
    layer = network((8, 3, 4), {"attention": {"heads": 2, "norm": {"group-norm": {"groups": 2}}}})
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # torch raises an error where it cannot be used
        found = layer(x.contiguous(memory_format=memory_format))
    torch.testing.assert_close(found, layer(x), atol=1e-5, rtol=1e-5)


def test_a_residual_adds_the_input_or_a_strided_map_of_it() -> None:
    x = values(2, 3, 7, 6)
    plain = network((3, 7, 6), {"residual": {"layers": ["tanh"]}})
    torch.testing.assert_close(plain(x), x + x.tanh())
    changed = network((3, 7, 6), {"residual": {"layers": [{"conv": {"channels": 5, "stride": 2}}]}})
    skip = F.conv2d(x, changed.get_parameter("0.skip.weight"), changed.get_parameter("0.skip.bias"), stride=2)
    torch.testing.assert_close(changed(x), skip + changed.get_submodule("0.branch")(x))


def test_squeeze_excitation_weighs_whole_channels() -> None:
    x = values(2, 4, 5, 6)
    gate = network((4, 5, 6), "squeeze-excitation")(x) / x
    torch.testing.assert_close(gate, gate[:, :, :1, :1].expand_as(gate))
    assert 0 < gate.min() < gate.max() < 1


def test_gaussian_noise_is_added_in_training_only_whatever_the_temperature() -> None:
    layer = network((8, 6, 6), {"gaussian-noise": {"sigma": 0.5}})
    x = torch.zeros(200, 8, 6, 6)
    assert torch.equal(layer.eval()(x), x)
    cold = Context(CountedNoise(0, (1,), 0, 200, scale=0.0))
    for context in (None, cold):
        noisy = layer.train()(x, context)
        assert noisy.std().item() == pytest.approx(0.5, rel=0.02)
        assert noisy.mean().item() == pytest.approx(0, abs=0.02)
    assert torch.equal(layer(x, cold), layer(x, cold))


def test_noise_of_varying_strength_is_uniform_over_images() -> None:
    layer = network((8, 16, 16), {"gaussian-noise": {"sigma": 0.5, "varies": True}})
    x, noise = torch.zeros(400, 8, 16, 16), CountedNoise(0, (1,), 0, 400)
    assert torch.equal(layer.eval()(x), x)
    sigmas = layer.train()(x, Context(noise)).flatten(1).std(1).sort().values
    torch.testing.assert_close(sigmas, torch.linspace(0, 0.5, 400), atol=0.05, rtol=0)
    # The noise of an image depends on its place in the batch alone.
    later = layer(x[300:], Context(CountedNoise(0, (1,), 300, 400)))
    assert torch.equal(later, layer(x, Context(noise))[300:])


@pytest.mark.parametrize(("options", "counts"), [({"least": 2, "step": 3}, (2, 5, 8)), ({"least": 8}, (8,))])
def test_nested_dropout_keeps_the_first_channels(options: dict[str, int], counts: tuple[int, ...]) -> None:
    layer = network((8, 3, 4), {"nested-dropout": options})
    x, noise = torch.ones(600, 8, 3, 4), CountedNoise(0, (1,), 0, 600)
    assert torch.equal(layer.eval()(x), x)
    found = layer.train()(x, Context(noise))
    kept = found.amax((2, 3))
    assert torch.equal(found, kept[:, :, None, None].expand_as(found))
    assert torch.equal(kept, kept.cummin(1).values)
    found_counts, frequency = kept.sum(1).long().unique(return_counts=True)
    assert found_counts.tolist() == list(counts)
    assert (frequency / 600 - 1 / len(counts)).abs().max() < 0.06
    assert torch.equal(layer(x[500:], Context(CountedNoise(0, (1,), 500, 600))), found[500:])


def test_nested_dropout_leaves_some_images_whole_and_vectors_as_maps() -> None:
    kept = network((10,), {"nested-dropout": {"rate": 0.25}})(torch.ones(2000, 10)).sum(1)
    assert (kept == 10).float().mean().item() == pytest.approx(0.75 + 0.25 / 10, abs=0.04)


def test_dropout_of_whole_channels_drops_them_whole_and_keeps_the_mean() -> None:
    x = torch.ones(200, 8, 3, 3)
    dropped = network((8, 3, 3), {"dropout": {"rate": 0.25, "whole_channels": True}})(x)
    assert dropped.flatten(2).mean(2).unique().tolist() == pytest.approx([0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("shape", "layer", "part"),
    [
        ((6, 4), {"pixel-shuffle": {"scale": 4}}, "6 channels are not divisible by 4"),
        ((6, 4, 5), "pixel-unshuffle", "sizes divisible by 2×2, got the shape 6×4×5"),
        ((6, 4), {"attention": {"heads": 4}}, "6 channels are not divisible by 4 heads"),
        ((6, 4), {"nested-dropout": {"least": 7}}, "expected least from 1 to the number of channels, 6, got 7"),
        ((6,), "attention", "channels and 1 or 2 or 3 spatial axes, got the shape 6"),
        ((1, 4), "layer-norm", "more than one channel"),
        ((4, 1), "instance-norm", "more than one position"),
        ((32, 1, 1), "group-norm", "more than one value in each of 32 groups, got the shape 32×1×1"),
        (
            (48, 4, 4),
            {"residual-block": {"channels": 48}},
            "layers[0] (group-norm): 48 channels are not divisible by 32 groups",
        ),
    ],
)
def test_what_a_layer_cannot_take_it_refuses(shape: Shape, layer: object, part: str) -> None:
    with pytest.raises(ShapeError) as caught:
        Network(shape, [layer], "encoder")
    assert part in str(caught.value)
    assert str(caught.value).startswith("encoder[0] (")
