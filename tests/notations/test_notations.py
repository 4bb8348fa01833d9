"""Four notations, one network: each is read, built, written and read back to the same stored form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml as pyyaml

import convae
from convae.core.description import Spec
from convae.core.errors import ConfigError, ConvaeError, ShapeError
from convae.describe import NOTATIONS, resolve, write
from convae.model.construct import construct
from convae.model.layers.base.network import Network
from convae.model.presets import PRESETS
from convae.model.summary import summarize

FACES: dict[str, Any] = {
    "input": (512, 512, 3),
    "latent": 512,
    "encode": [
        (32, 3, (2, 2)),
        (64, 3, (2, 2)),
        (128, 3, (2, 2)),
        (256, 3, (2, 2)),
        (512, 3, (2, 2)),
        (1024, 3, (2, 2)),
        (1024, 3, (2, 2)),
    ],
    "decode": None,
    "name": "face_cvae_1",
}
ENCODER = [
    "C2d_3_128_3_1_1",
    "2*VAERB_128_128",
    "C2d_128_128_3_4_0",
    "VAERB_128_256",
    "VAERB_256_256",
    "C2d_256_256_3_4_0",
    "3*VAERB_256_256",
    "VAEA_256",
    "VAERB_256_256",
    "GN_32_256",
    "SiLU",
    "C2d_256_8_3_1_1",
    "C2d_8_8_1_1_0",
]
DECODER = [
    "C2d_4_4_1_1_0",
    "C2d_4_512_3_1_1",
    "VAERB_512_512",
    "VAEA_512",
    "4*VAERB_512_512",
    "UpS_4",
    "C2d_512_512_3_1_1",
    "VAERB_512_256",
    "2*VAERB_256_256",
    "UpS_4",
    "C2d_256_256_3_1_1",
    "VAERB_256_128",
    "2*VAERB_128_128",
    "GN_32_128",
    "SiLU",
    "C2d_128_3_3_1_1",
]
FLEX: dict[str, Any] = {"input": [3, 256, 256], "encoder": ENCODER, "decoder": DECODER}


def stored(spec: Any) -> Spec:
    return construct(resolve(spec)).spec


def read_back(text: str, notation: str, folder: Path) -> Spec:
    """What the text of a notation describes, through a file."""
    path = folder / {"yaml": "model.yaml", "codes": "model.json", "arch-def": "model.py"}[notation]
    path.write_text(text, encoding="utf-8")
    return stored(path)


def test_the_arch_def_of_its_document_builds_at_512() -> None:
    model = construct(resolve(FACES))
    assert model.input_shape == (3, 512, 512)
    assert model.name == "face_cvae_1"
    shapes = [row.shape for row in summarize(model) if row.layer.split()[0] in ("conv", "conv-transpose", "unflatten")]
    down = [(32, 256), (64, 128), (128, 64), (256, 32), (512, 16), (1024, 8), (1024, 4)]
    up = [(1024, 4), (1024, 8), (1024, 16), (512, 32), (256, 64), (128, 128), (64, 256), (32, 512), (3, 512)]
    assert shapes == [(channels, size, size) for channels, size in down + up]


def test_the_structure_lists_of_their_document_build_as_printed() -> None:
    model = construct(resolve(FLEX))
    assert model.latent_shape == (4, 16, 16)
    assert isinstance(model.encoder, Network)
    assert isinstance(model.decoder, Network)
    assert (len(model.encoder), len(model.decoder)) == (16, 21)
    assert "causal" not in str(model)


def test_an_arch_def_is_read_from_python_and_json_and_python_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "arch.py"
    path.write_text(f"import os  # not run\nos.abort()\narch_def = {FACES!r}\n")
    (tmp_path / "arch.json").write_text(json.dumps(FACES))
    assert resolve(path) == resolve(FACES) == resolve(tmp_path / "arch.json")


def test_structure_lists_may_lie_in_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "enc.json").write_text(json.dumps(ENCODER))
    (tmp_path / "dec.json").write_text(json.dumps(DECODER))
    (tmp_path / "model.yaml").write_text("input: [3, 256, 256]\nencoder: enc.json\ndecoder: dec.json\n")
    assert stored(tmp_path / "model.yaml") == stored(FLEX)
    with pytest.raises(ConfigError, match=r"none\.json: cannot be read"):
        resolve({**FLEX, "encoder": "none.json"})


@pytest.mark.parametrize("name", PRESETS.names())
@pytest.mark.parametrize("notation", NOTATIONS)
def test_what_can_be_written_reads_back_as_the_same_model(name: str, notation: str, tmp_path: Path) -> None:
    spec = stored(name)
    try:
        text = write(spec, notation)
    except ConfigError as error:
        assert "--as yaml" in str(error)
        assert notation != "yaml"
        return
    assert read_back(text, notation, tmp_path) == spec


@pytest.mark.parametrize(("spec", "notation"), [(FLEX, "codes"), (FACES, "arch-def"), ("celeba-beta", "arch-def")])
def test_these_can_be_written(spec: Any, notation: str, tmp_path: Path) -> None:
    text = write(stored(spec), notation)
    assert read_back(text, notation, tmp_path) == stored(spec)


def test_codes_are_written_as_their_document_prints_them() -> None:
    written = json.loads(write(stored(FLEX), "codes"))
    assert written["encoder"] == [*ENCODER[:3], "VAERB_128_256", *ENCODER[4:]]
    assert written["decoder"] == DECODER


def test_an_arch_def_is_written_as_its_document_prints_it() -> None:
    text = write(stored({**FACES, "encode": FACES["encode"][:2]}), "arch-def")
    assert "'input': (512, 512, 3)," in text
    assert "'decode': None," in text
    assert "'encode': [(32, 3, 2), (64, 3, 2)]," in text


EVERY_CODE: dict[str, Any] = {
    "input": [3, 16, 16],
    "encoder": [
        *["C2d_3_32_3_1_1", "BN_32", "LReLU", "C2d_32_32_3_1_2_2_4", "BRB_32_64", "CNX_64", "SE_64_8", "MHA_64_4"],
        *["LN_64", "PReLU", "IN_64", "GELU", "MaxP_2", "PixU_2", "AvgP_2_1", "C2d_256_8_2_1_0", "Tanh"],
    ],
    "decoder": ["CT2d_4_8_3_2_0_1", "Sig", "CT2d_8_16_4_2_1", "ReLU", "PixS_2", "C2d_4_3_15_1_0"],
}


def test_every_code_is_read_and_written_as_it_was(tmp_path: Path) -> None:
    spec = {**EVERY_CODE, "decoder": [*EVERY_CODE["decoder"][:-1], "C2d_4_3_1_1_0"]}
    with pytest.raises(ShapeError, match=r"\(C2d_4_3_1_1_0\): .* got 3×24×24"):
        stored(spec)
    spec["decoder"] = ["CT2d_4_8_3_1_0", "Sig", "CT2d_8_16_4_2_1", "ReLU", "PixS_2", "C2d_4_3_1_1_0"]
    written = write(stored(spec), "codes")
    assert read_back(written, "codes", tmp_path) == stored(spec)
    for side in ("encoder", "decoder"):
        assert json.loads(written)[side] == spec[side]


def test_what_has_no_code_is_named() -> None:
    spec = {**FACES, "input": [16, 16, 1]}
    with pytest.raises(ConfigError, match=r"model\.decoder\[2\] \(unflatten\): .*--as yaml"):
        write(stored(spec), "codes")


@pytest.mark.parametrize("axes", [1, 3])
def test_codes_reach_other_numbers_of_axes(axes: int, tmp_path: Path) -> None:
    sizes = [8] * axes
    spec = {
        "input": [1, *sizes],
        "encoder": [f"C{axes}d_1_4_3_2_1", "ReLU", f"C{axes}d_4_4_1"],
        "decoder": [f"CT{axes}d_2_4_4_2_1", f"C{axes}d_4_1_1_1_0"],
    }
    written = write(stored(spec), "codes")
    assert read_back(written, "codes", tmp_path) == stored(spec)
    assert f"CT{axes}d_2_4_4_2_1" in written


def with_encoder(*layers: Any) -> dict[str, Any]:
    return {**FLEX, "input": [3, 64, 64], "encoder": list(layers)}


FAULTS: list[tuple[Any, list[str]]] = [
    (
        with_encoder("C2d_3_128_3_1_1", "SiLU", "C2d_64_128_3_1_1"),
        ["model.encoder[2] (C2d_64_128_3_1_1): ", "64 input channels, got 128 (128×64×64)"],
    ),
    (
        with_encoder("C2d_3_64_3_1_1", "2*VAERB_32_64"),
        ["model.encoder[1][0] (2*VAERB_32_64): ", "32 input channels, got 64"],
    ),
    (with_encoder("C2d_3_31_3_1_1", "GN_32_31"), ["model.encoder[1] (GN_32_31)", "31 channels", "32 groups"]),
    (
        with_encoder("C2D_3_128_3"),
        ["model.encoder[0] ('C2D_3_128_3'): ", "C2d_in_out_kernel_[stride]"],
    ),
    *(
        (with_encoder(text), [f"model.encoder[0] ({text!r}): ", "VAERB_in_out", "N*"])
        for text in (
            "2xVAERB_8_8",
            "2 * VAERB_8_8",
            "VAERB_8_8*2",
            " VAERB_8_8",
            "VAERB_8_8_",
            "VAERB-8-8",
            "VAERB_８_8",
        )
    ),
    *(
        (with_encoder(text), [f"model.encoder[0] ('{text}'): unknown layer code '{word}': did you mean '{code}'?"])
        for text, word, code in (
            ("VAEBR_8_8", "VAEBR", "VAERB"),
            ("Conv_3_64", "Conv", "C2d"),
            ("BatchNorm_8", "BatchNorm", "BN"),
            ("Linear(3, 4)", "Linear", "Lin"),
        )
    ),
    (with_encoder({"SiLU": None}), ["model.encoder[0]: ", "{'SiLU': None}"]),
    (with_encoder("VAERB_3"), ["model.encoder[0] ('VAERB_3'): ", "VAERB_in_out, got 1"]),
    (with_encoder("C2d_3_8_3_0_1"), ["model.encoder[0] (C2d_3_8_3_0_1)", "stride", "greater than 0"]),
    (with_encoder("C2d_3_8_99_1_0"), ["model.encoder[0] (C2d_3_8_99_1_0)", "at least 99", "3×64×64"]),
    (
        with_encoder("C2d_3_8_3_1_1", "C2d_8_8_3_65_1"),
        ["model.encoder[1] (C2d_8_8_3_65_1): ", "stride", "65", "64", "8×64×64"],
    ),
    (with_encoder("C2d_3_8_3_1_1", "MaxP_2_65"), ["model.encoder[1] (MaxP_2_65): ", "stride", "65"]),
    (with_encoder("0*SiLU"), ["1 to 10000 repeats"]),
    (with_encoder("99999*SiLU"), ["model.encoder: ", "10000 layers"]),
    (with_encoder("C2d_3_99999999999_1"), ["numbers below a billion"]),
    (with_encoder("C1d_3_8_3"), ["model.encoder[0] (C1d_3_8_3): ", "1 spatial axes", "3×64×64"]),
    (with_encoder("5000*SiLU", "5001*SiLU"), ["model.encoder: ", "10000 layers"]),
    ({**FLEX, "decoder": DECODER[:-1]}, ["model.decoder[14] (SiLU): ", "3×256×256", "got 128×256×256"]),
    (
        {**FACES, "encode": [(32, 3, (2, 2, 2))]},
        ["model.encode[0] (32, 3, (2, 2, 2)): ", "one stride or 2", "got 3"],
    ),
    (
        {**FACES, "encode": [(8, 3, 2), (8, 3, 999)]},
        ["model.encoder, from encode[1] (8, 3, 999): ", "stride", "999", "256"],
    ),
    ({**FACES, "laten": 3}, ["unknown key 'laten': did you mean 'latent'?"]),
    (
        {**FACES, "decode": [(32, 3, 2), (16, 3, 2)]},
        ["model.decoder, after decode[1] (16, 3, 2): ", "3×512×512", "got 3×16×16"],
    ),
]


@pytest.mark.parametrize(("spec", "parts"), FAULTS, ids=range(len(FAULTS)))
def test_the_first_fault_is_named_as_it_was_written(spec: Any, parts: list[str]) -> None:
    with pytest.raises((ConfigError, ShapeError)) as caught:
        construct(resolve(spec))
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("notation", "spec"),
    [
        (
            "arch-def",  # its convolutions alone would not lead back to the input
            {
                "input": [1, 4, 4],
                "encoder": [{"conv": {"channels": 8, "stride": 2}}, "flatten"],
                "bottleneck": {"gaussian": {"latent": 2}},
                "decoder": [
                    *[{"linear": {"features": 32}}, {"unflatten": {"to": [8, 2, 2]}}],
                    *[{"conv-transpose": {"channels": 8, "stride": 2}}] * 2,
                    *[{"resize": {"to": [4, 4]}}, {"conv": {"channels": 1}}],
                ],
            },
        ),
        (
            "codes",  # a number of ten digits
            {
                "input": [1, 10**9],
                "encoder": [{"conv": {"channels": 2, "kernel": 10**9, "padding": 0}}],
                "decoder": [{"upsample": {"scale": 10**9}}],
                "max_parameters": 10**10,
            },
        ),
    ],
)
def test_what_a_notation_cannot_say_is_told_with_one_that_can(notation: str, spec: Any) -> None:
    with pytest.raises(ConfigError, match="--as yaml"):
        write(stored(spec), notation)


@pytest.mark.parametrize(
    ("input", "decode"),
    [
        ((37, 53, 2), None),
        ((64, 1), None),
        ((9, 10, 11, 1), None),
        ((30, 30, 1), [(8, 5, (4, 4))]),
        ((31, 30, 1), [(8, 3, (2, 4)), (4, 3, (2, 1))]),
    ],
)
def test_decoders_return_to_the_inputs_size(input: tuple[int, ...], decode: Any) -> None:
    spec = {"input": input, "latent": 2, "encode": [(4, 3, 2), (8, 3, 2)], "decode": decode}
    model = convae.build(spec)
    assert model.sample(1).shape == (1, input[-1], *input[:-1])


def test_lists_inside_lists_have_limits(tmp_path: Path) -> None:
    deep: Any = ["relu"]
    for _ in range(60):
        deep = [{"residual": {"layers": deep}}]
    with pytest.raises(ConfigError, match="deep"):
        resolve_and_build({**FLEX, "encoder": deep})
    bomb = "a: &a [relu, relu, relu, relu, relu, relu, relu, relu, relu, relu]\n"
    for first, second in zip("abcdefg", "bcdefgh", strict=True):
        bomb += f"{second}: &{second} [{', '.join([f'{{residual: {{layers: *{first}}}}}'] * 10)}]\n"
    (tmp_path / "bomb.yaml").write_text(bomb)
    layers = pyyaml.safe_load(bomb)["h"]
    with pytest.raises(ConfigError, match="more than 10000 layers"):
        resolve_and_build({**FLEX, "encoder": layers})


def resolve_and_build(spec: Any) -> None:
    with pytest.raises(ConvaeError) as caught:
        construct(resolve(spec))
    raise caught.value
