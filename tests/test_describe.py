"""Descriptions: presets, files and mappings; and each wrong one gives the one right sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import convae
from convae.core.errors import ConfigError, ConvaeError, ShapeError
from convae.describe import resolve
from convae.model.construct import construct

GOOD: dict[str, Any] = {
    "input": [1, 8, 8],
    "encoder": [{"conv": {"channels": 4, "stride": 2}}, "relu", "flatten"],
    "bottleneck": {"gaussian": {"latent": 2}},
    "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
}
WIDE: dict[str, Any] = {"bottleneck": {"gaussian": {"latent": 4}}}
ARCH_DEF: dict[str, Any] = {"input": [8, 8, 1], "latent": 2, "encode": [[4, 3, 2]]}


def encoder(*layers: Any, input: tuple[int, ...] = (1, 8, 8)) -> dict[str, Any]:
    return {**GOOD, "input": input, "encoder": [*layers, "flatten"]}


def test_a_name_a_mapping_and_files_describe_the_same_model(tmp_path: Path) -> None:
    given = {"preset": "torch-vae", "input": [3, 64, 64]}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(given))
    (tmp_path / "b.json").write_text(json.dumps(given))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"model": given, "train": {"epochs": 3}}))
    ways: list[str | Path | dict[str, Any]] = ["torch-vae", "torch_vae", given]
    specs = [resolve(way) for way in [*ways, tmp_path / "a.yaml", str(tmp_path / "b.json"), tmp_path / "recipe.yaml"]]
    assert all(spec == specs[0] for spec in specs)


def test_overrides_reach_whatever_describes_the_model(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"data": "digits", "model": "torch-vae"}))
    (tmp_path / "lists.yaml").write_text(yaml.safe_dump({**GOOD, "encoder": "encoder.yaml"}))
    (tmp_path / "encoder.yaml").write_text(yaml.safe_dump(GOOD["encoder"]))
    (tmp_path / "arch.py").write_text(f"arch_def = {ARCH_DEF}")
    wanted: dict[Any, Any] = {"preset": "torch-vae", "latent": 3}
    for way in ("torch-vae", {"preset": "torch-vae"}, tmp_path / "recipe.yaml"):
        assert resolve(way, ["latent=3"]) == resolve(wanted)
    bottleneck = {"gaussian": {"latent": 5}}
    assert resolve(tmp_path / "lists.yaml", ["bottleneck.gaussian.latent=5"]) == resolve(
        {**GOOD, "bottleneck": bottleneck}
    )
    assert resolve(tmp_path / "arch.py", ["latent=5"]) == resolve({**ARCH_DEF, "latent": 5})


def test_repeats_are_written_out_and_underscores_are_hyphens() -> None:
    repeat = {"repeat": {"times": 2, "layers": [{"batch_norm": None}, {"repeat": {"times": 2, "layers": ["relu"]}}]}}
    model = convae.build(encoder(repeat))
    assert [layer.name for layer in model.spec.encoder] == [*["batch-norm", "relu", "relu"] * 2, "flatten"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("w.pt", "convae import"),
        ("n.ipynb", r"\.yaml, \.yml, \.json or \.py file"),
        ("folder", "is a folder"),
        ("a" * 300 + ".yaml", "no such file"),
        ("none/at.yaml", "none/at.yaml: no such file"),
    ],
)
def test_what_describes_no_model_says_what_it_is(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "w.pt").touch()
    (tmp_path / "n.ipynb").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=message):
        resolve(tmp_path / name)


FAULTS: list[tuple[Any, list[str]]] = [
    ("torch-vea", ["unknown preset 'torch-vea': did you mean 'torch-vae'?"]),
    ("nowhere/model.yaml", ["nowhere/model.yaml: no such file"]),
    ({"preset": "torch-vae", "latent": 0}, ["preset torch-vae: latent", "greater than 0", "got 0"]),
    ({"preset": "torch-vae", "latnet": 3}, ["unknown key 'latnet': did you mean 'latent'?"]),
    (
        {"preset": "torch-vae", "input": [3]},
        ["input: ", "[1, 28, 28]", "got [3]"],
    ),
    ({**GOOD, "input": "28x28"}, ["model: input: ", "got '28x28'"]),
    ({**GOOD, "input": {"channels": 1, "height": 8}}, ["model: input: "]),
    ({**GOOD, "input": [1, True, 8]}, ["model: input.1: ", "integer", "got True"]),
    ({**GOOD, "name": ""}, ["model: name: ", "at least 1 character"]),
    ({**GOOD, 5: 3}, ["model: must be a mapping with string keys"]),
    ({"preset": "torch-vae", "input": [3, 0, 8]}, ["input.1", "greater than 0"]),
    ({"preset": "torch-vae", "likelihood": "gausian"}, ["unknown likelihood 'gausian': did you mean 'gaussian'?"]),
    ({"preset": "torch-vae", "likelihood": {"gaussian": {"sigma": 0}}}, ["likelihood gaussian", "sigma"]),
    ({"input": [1, 8, 8]}, ["model: 'encoder' is missing", "'decoder' is missing"]),
    ({**GOOD, "bottleneck": "gaussain"}, ["unknown bottleneck 'gaussain': did you mean 'gaussian'?"]),
    ({**GOOD, "bottleneck": "gaussian"}, ["bottleneck gaussian: 'latent' is missing"]),
    ({**GOOD, "encoder": "conv"}, ["model: encoder: must be a list of layers or a file"]),
    (encoder("relu", "cnov"), ["model.encoder[1] (cnov): unknown layer 'cnov': did you mean 'conv'?"]),
    (encoder({"conv": {"chanels": 3}}), ["model.encoder[0] (conv)", "did you mean 'channels'?"]),
    (encoder({"conv": {"channels": 3, "stride": 0}}), ["model.encoder[0]", "stride", "greater than 0"]),
    (encoder({"conv": {"channels": True}}), ["model.encoder[0] (conv)", "channels", "True"]),
    (
        encoder({"conv": None, "channels": 8, "stride": 2}),  # the arguments not indented under `conv:`
        ["model.encoder[0]: ", "got {conv: null, channels: 8, stride: 2}", "Indent"],
    ),
    (encoder({"conv": {}, "relu": {}}), ["model.encoder[0]: ", "one name"]),
    (
        encoder({"residual": {"layers": [{"conv": {"channels": 1, "kernel": "q"}}]}}),
        [
            "model.encoder[0] (residual",
            "layers[0] (conv): kernel: ",
        ],
    ),
    (encoder({"conv": 3}), ["model.encoder[0]: ", "conv, got 3"]),
    (encoder(7), ["model.encoder[0]: ", "got 7"]),
    (
        encoder({"repeat": {"times": 0, "layers": ["relu"]}}),
        ["model.encoder[0] (repeat): ", "1 to 10000 layers", "0 × 1"],
    ),
    (
        encoder({"repeat": {"times": True, "layers": ["relu"]}}),
        ["model.encoder[0] (repeat): ", "times", "True"],
    ),
    (encoder({"repeat": {"times": 2}}), ["model.encoder[0] (repeat): ", "times", "layers", "{'times': 2}"]),
    (encoder({"repeat": {"times": 99999, "layers": ["relu"]}}), ["model.encoder: ", "10000 layers"]),
    (
        encoder("relu", {"repeat": {"times": 3, "layers": ["relu", {"linear": {"features": 2}}]}}),
        ["model.encoder[1][1] (linear)", "0 spatial axes", "got the shape 1×8×8"],
    ),
    (
        encoder({"residual": {"layers": [{"conv": {"channels": 31}}, "group-norm"]}}),
        ["model.encoder[0] (residual", "layers[1] (group-norm)", "32 groups", "31 channels"],
    ),
]


@pytest.mark.parametrize(("spec", "parts"), FAULTS, ids=range(len(FAULTS)))
def test_a_wrong_description_gives_one_sentence(spec: Any, parts: list[str]) -> None:
    with pytest.raises(ConvaeError) as caught:
        convae.build(spec)
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("m.json", '// mine\n{"input":[1,8,8]}', "m.json line 1: not valid JSON"),
        ("m.json", '"m.json"', "m.json: must contain a mapping, got 'm.json'"),
        ("m.json", '{"input": [1, 8', "m.json line 1: not valid JSON"),
        ("m.json", '["C2d_1_8_3", "SiLU"]', "m.json: contains a list of layers"),
        ("m.json", '["C2d_1_8_3", "SiLU"]', "such as encoder: m.json"),
        ("m.yaml", "", "m.yaml: must contain a mapping, got None"),
        ("m.yaml", "model: m.yaml", "m.yaml: circular reference"),
        ("m.yaml", "model:", "m.yaml: must be a preset name, a file path or a mapping, got None"),
        ("m.yaml", "model: [SiLU]", "m.yaml: must be a preset name, a file path or a mapping, got ['SiLU']"),
    ],
)
def test_a_file_that_describes_no_model_is_named(
    name: str, text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        resolve(name)
    assert told in str(caught.value)


SHAPES: list[tuple[Any, list[str]]] = [
    (
        encoder(*[{"conv": {"channels": 4, "kernel": 5, "padding": 0}}] * 2),
        ["model.encoder[1] (conv)", "at least 5", "4×4×4"],
    ),
    (encoder({"conv": {"channels": 4, "kernel": [3, 3, 3]}}), ["kernel has 3 numbers", "or 2"]),
    (encoder({"max-pool": {"kernel": 40}}), ["model.encoder[0] (max-pool): ", "at least 40"]),
    (encoder({"conv": {"channels": 4, "groups": 3}}), ["1 input and 4 output channels", "3 groups"]),
    (
        encoder({"conv": {"channels": 4}}, {"attention": {"norm": "max-pool"}}),
        ["model.encoder[1] (attention): ", "norm", "4×8×8", "4×4×4"],
    ),
    (encoder("max-pool", "max-pool", "max-pool", "max-pool"), ["model.encoder[3] (max-pool)", "1×1×1"]),
    (encoder({"unflatten": {"to": [1, 8]}}), ["model.encoder[0]", "0 spatial axes", "1×8×8"]),
    (
        {**GOOD, "decoder": [{"linear": {"features": 63}}, {"unflatten": {"to": [1, 8, 8]}}]},
        ["model.decoder[1] (unflatten", "64 features for 1×8×8, got 63"],
    ),
    (
        {**GOOD, "decoder": [{"linear": {"features": 49}}, {"unflatten": {"to": [1, 7, 7]}}]},
        ["model.decoder[1] (unflatten): ", "got 1×7×7", "1×8×8"],
    ),
    ({**GOOD, "decoder": []}, ["model.decoder (empty list): ", "1×8×8"]),
    (
        {**GOOD, "likelihood": {"discretized-logistic": {"scale": "pixel"}}},
        ["model.decoder[1]", "got 1×8×8", "2×8×8"],
    ),
    ({**GOOD, "bottleneck": {"gaussian": {"latent": 3, "head": False}}}, ["bottleneck gaussian", "6 feature"]),
    (
        encoder({"conv-transpose": {"channels": 2, "stride": 2, "output_padding": 2}}),
        ["output_padding below the stride 2, got 2"],
    ),
]


@pytest.mark.parametrize(("spec", "parts"), SHAPES, ids=range(len(SHAPES)))
def test_a_layer_that_does_not_fit_is_named_with_what_it_got_and_needs(spec: Any, parts: list[str]) -> None:
    with pytest.raises(ShapeError) as caught:
        convae.build(spec)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            {**encoder({"conv": {"channels": 8, "padding": 10**8}}), **WIDE},
            "bottleneck gaussian: ",
        ),
        ({**GOOD, "condition": {"classes": 2**31 - 1, "channels": 2**31 - 1}}, "condition: "),
        ({"preset": "dcgan", "filters": 10**9}, r"model\.encoder\[2\] \("),
    ],
)
def test_what_no_memory_holds_is_named_without_the_words_of_the_library(written: Any, message: str) -> None:
    with pytest.raises(ConvaeError, match=rf"{message}.* \(too large\)"):
        convae.build(written)


@pytest.mark.parametrize(
    "given",
    [
        {"preset": "sd-f8", "multipliers": []},
        {"preset": "sd-f8", "blocks": 10**9},
        {"preset": "arch-def-512", "filters": []},
        {"preset": "image-vae", "layers": 2**31 - 1},
    ],
)
def test_presets_refuse_depths_that_no_network_has(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"preset {given['preset']}: {list(given)[1]}"):
        resolve(given)


def test_a_huge_model_is_refused_before_anything_is_allocated() -> None:
    huge = encoder({"conv": {"channels": 2_000_000, "kernel": 8}}, {"conv": {"channels": 2_000_000, "kernel": 8}})
    with pytest.raises(ConfigError, match="more than 2,000,000,000"):
        convae.build(huge)
    with pytest.raises(ConfigError, match=r"has [\d,]+ parameters, more than 10\b.*max_parameters"):
        convae.build({**GOOD, "max_parameters": 10})


@pytest.mark.parametrize(
    "written", [{**GOOD, "name": "own"}, {"preset": "torch-vae"}, ARCH_DEF], ids=["own", "preset", "arch_def"]
)
def test_what_a_description_allows_is_kept_with_it(written: dict[str, Any]) -> None:
    allowed = resolve({**written, "max_parameters": 5_000_000_000})
    assert allowed.max_parameters == 5_000_000_000
    assert construct(allowed).spec.max_parameters == 5_000_000_000


def test_sizes_beyond_every_memory_are_refused_by_a_sentence() -> None:
    with pytest.raises(ConvaeError, match=r"model\.encoder\[0\]"):
        convae.build(encoder({"upsample": {"scale": 10**9}}, {"upsample": {"scale": 10**9}}))


def forgetful(*, input: tuple[int, ...] = (1, 8, 8)) -> Any:
    """A preset that returns nothing."""


def test_a_preset_returns_a_description() -> None:
    with pytest.raises(ConfigError, match=r"forgetful.*encoder"):
        convae.build({"preset": f"{__name__}:forgetful"})
