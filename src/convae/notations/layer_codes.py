"""Layer codes: a layer as a short word with numbers, such as `C2d_3_128_3_1_1` or `4*VAERB_512_512`.

The numbers are the arguments of the torch module of that name, in order; `N*` repeats. If a code states its input
channels, they are checked. Lists of codes are the notation of FlexVAE's structure files.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convae.core.description import MAX_LAYERS, LayerSpec, Spec
from convae.core.errors import ConfigError
from convae.core.names import nearest_name, short_repr, unknown_message
from convae.core.types import Shape

Given = dict[str, Any]
Complete = Callable[[str, Mapping[str, Any]], Given]
"""Completes the arguments of a layer with defaults, given its name and arguments."""


@dataclass(frozen=True)
class Word:
    """The meaning of the letters of a code.

    Attributes:
        layer: name of the layer.
        numbers: names of the numbers, in order; `in` is the input channels, names in brackets are optional.
        read: arguments of the layer from the numbers by name.
        write: numbers by name from the full arguments and the input shape of the layer; None if the code cannot express
            them.
        axes: number of spatial axes; None for any.
        usual: least number of numbers to write; 0 for as few as possible.
    """

    layer: str
    numbers: tuple[str, ...] = ()
    read: Callable[[dict[str, int]], Given] = lambda _: {}
    write: Callable[[Given, Shape], dict[str, int] | None] = lambda _given, _shape: {}
    axes: int | None = None
    usual: int = 0

    @property
    def names(self) -> list[str]:
        """The names of all numbers."""
        return [number.strip("[]") for number in self.numbers]

    @property
    def needed(self) -> int:
        """Number of required numbers."""
        return sum(not number.startswith("[") for number in self.numbers)


def _padding(numbers: dict[str, int]) -> str | int:
    """`same` if the padding keeps the sizes at stride 1, so that equal networks have equal descriptions."""
    padding, span = numbers.get("padding", 0), numbers.get("dilation", 1) * (numbers["kernel"] - 1)
    return "same" if 2 * padding == span else padding


def _read_conv(numbers: dict[str, int]) -> Given:
    rest: Given = {name: numbers[name] for name in ("stride", "dilation", "groups") if name in numbers}
    return {"channels": numbers["out"], "kernel": numbers["kernel"], "padding": _padding(numbers), **rest}


def _read_transposed(numbers: dict[str, int]) -> Given:
    rest: Given = {"output_padding": numbers.get("output padding", 0)}
    if "stride" in numbers:
        rest["stride"] = numbers["stride"]
    return {"channels": numbers["out"], "kernel": numbers["kernel"], "padding": _padding(numbers), **rest}


def _are_numbers(given: Given, *names: str) -> bool:
    """Whether these arguments are single numbers, not one per axis."""
    return all(isinstance(given[name], int) for name in names)


def _write_padding(given: Given, dilation: int) -> int | None:
    if given["padding"] != "same":
        return given["padding"] if isinstance(given["padding"], int) else None
    span = dilation * (given["kernel"] - 1)
    return None if span % 2 else span // 2


def _write_conv(given: Given, shape: Shape) -> dict[str, int] | None:
    if not given["bias"] or not _are_numbers(given, "kernel", "stride", "dilation", "groups"):
        return None
    padding = _write_padding(given, given["dilation"])
    if padding is None:
        return None
    numbers = {"in": shape[0], "out": given["channels"], "kernel": given["kernel"], "stride": given["stride"]}
    return {**numbers, "padding": padding, "dilation": given["dilation"], "groups": given["groups"]}


def _write_transposed(given: Given, shape: Shape) -> dict[str, int] | None:
    if not given["bias"] or not _are_numbers(given, "kernel", "stride"):
        return None
    padding, added = _write_padding(given, 1), given["output_padding"]
    if added is None:
        added = given["stride"] - 1 if given["padding"] == "same" else 0
    if padding is None or not isinstance(added, int):
        return None
    numbers = {"in": shape[0], "out": given["channels"], "kernel": given["kernel"], "stride": given["stride"]}
    return {**numbers, "padding": padding, "output padding": added}


def _simple(layer: str, **numbers: str) -> Word:
    """A code whose numbers are the input channels (`in`) and arguments of the layer."""
    names = {number.replace("_", " "): argument for number, argument in numbers.items()}

    def read(given: dict[str, int]) -> Given:
        return {names[name]: value for name, value in given.items() if names[name] != "in"}

    def write(given: Given, shape: Shape) -> dict[str, int] | None:
        full = {name: shape[0] if argument == "in" else given[argument] for name, argument in names.items()}
        return full if all(isinstance(value, int) for value in full.values()) else None

    return Word(layer, tuple(names), read, write)


def _pool(layer: str) -> Word:
    def write(given: Given, _shape: Shape) -> dict[str, int] | None:
        given = {**given, "stride": given["kernel"] if given["stride"] is None else given["stride"]}
        return {name: given[name] for name in ("kernel", "stride")} if _are_numbers(given, "kernel", "stride") else None

    def read(numbers: dict[str, int]) -> Given:
        return {name: value for name, value in numbers.items() if name == "kernel" or value != numbers["kernel"]}

    return Word(layer, ("kernel", "[stride]"), read, write)


_CONV = ("in", "out", "kernel", "[stride]", "[padding]")
WORDS: dict[str, Word] = {
    **{f"C{n}d": Word("conv", (*_CONV, "[dilation]", "[groups]"), _read_conv, _write_conv, n, 5) for n in (2, 1, 3)},
    **{
        f"CT{n}d": Word("conv-transpose", (*_CONV, "[output padding]"), _read_transposed, _write_transposed, n, 5)
        for n in (2, 1, 3)
    },
    "VAERB": _simple("residual-block", **{"in": "in", "out": "channels"}),
    "BRB": _simple("bottleneck-residual", **{"in": "in", "out": "channels"}),
    "CNX": _simple("convnext", **{"in": "in"}),
    "SE": _simple("squeeze-excitation", **{"in": "in", "reduction": "reduction"}),
    "VAEA": _simple("attention", **{"in": "in"}),
    "MHA": _simple("attention", **{"in": "in", "heads": "heads"}),
    "GN": _simple("group-norm", groups="groups", **{"in": "in"}),
    "BN": _simple("batch-norm", **{"in": "in"}),
    "LN": _simple("layer-norm", **{"in": "in"}),
    "IN": _simple("instance-norm", **{"in": "in"}),
    "ReLU": Word("relu"),
    "LReLU": Word("leaky-relu"),
    "PReLU": Word("prelu"),
    "GELU": Word("gelu"),
    "SiLU": Word("silu"),
    "Tanh": Word("tanh"),
    "Sig": Word("sigmoid"),
    "MaxP": _pool("max-pool"),
    "AvgP": _pool("avg-pool"),
    "UpS": _simple("upsample", scale="scale"),
    "PixS": _simple("pixel-shuffle", scale="scale"),
    "PixU": _simple("pixel-unshuffle", scale="scale"),
    "Flat": Word("flatten"),
    "Lin": _simple("linear", **{"in": "in", "out": "features"}),
}
"""All codes, in the order of preference for writing."""
_FORM = re.compile(r"(?:(?P<times>\d+)\*)?(?P<letters>[A-Za-z]\w*?)(?P<numbers>(?:_\d+)*)", re.ASCII)
_ATTEMPT = re.compile(r"[*(,]|[_-]\s*-?\d|^\s*\d", re.ASCII)
"""Marks of a mistyped code, which no layer name contains: a repeat, or numbers after letters."""


def is_code(text: str, names: Container[str]) -> bool:
    """Whether an item of a list is meant as a code: known letters, or marks of numbers or a repeat.

    Args:
        text: the item.
        names: registered layers, which are not codes.
    """
    form = _FORM.fullmatch(text)
    is_known = form is not None and form["letters"] in WORDS
    return is_known or (bool(_ATTEMPT.search(text)) and text not in names)


def count_repeats(text: str) -> int:
    """Number of repetitions of a code."""
    form = _FORM.fullmatch(text)
    return int(form["times"][:9]) if form is not None and form["times"] else 1


def read_code(text: str, side: str, place: str) -> list[LayerSpec]:
    """Reads a layer code into its layer, repeated as the code says.

    Args:
        text: the code.
        side: path of the list, such as `model.encoder`, for messages.
        place: index in the list, such as `[3]`.

    Raises:
        ConfigError: unknown letters, or the wrong number of numbers.
    """
    where = f"{side}{place} ({short_repr(text)})"
    form = _FORM.fullmatch(text)
    if form is None or form["letters"] not in WORDS:
        raise ConfigError(f"{where}: {_explain_unknown(text)}")
    word = WORDS[form["letters"]]
    digits = form["numbers"].split("_")[1:]
    times = form["times"] or "1"
    if not word.needed <= len(digits) <= len(word.numbers):
        raise ConfigError(f"{where}: expected {_form_of(form['letters'])}, got {len(digits)} numbers")
    if max(map(len, [*digits, times])) > 9 or not 1 <= int(times) <= MAX_LAYERS:
        raise ConfigError(f"{where}: expected numbers below a billion and 1 to {MAX_LAYERS} repeats")
    numbers = dict(zip(word.names, map(int, digits), strict=False))
    places = [place] if times == "1" else [f"{place}[{time}]" for time in range(int(times))]
    return [LayerSpec(word.layer, word.read(numbers), place, text, numbers.get("in"), word.axes) for place in places]


def _form_of(letters: str) -> str:
    """The form of a code, with names in place of its numbers."""
    numbers = WORDS[letters].numbers
    return letters + "".join(f"_{name}" for name in numbers) if numbers else f"{letters} without numbers"


def _explain_unknown(text: str) -> str:
    """Explains an unknown code; suggests the nearest one by its letters or by the name of its layer."""
    found = re.search(r"[A-Za-z][A-Za-z0-9]*", re.sub(r"^\W*\d+\s*[xX](?=[A-Za-z])", "", text), re.ASCII)
    letters = found[0] if found else text
    choices = {**{WORDS[code].layer: code for code in reversed(WORDS)}, **{code: code for code in WORDS}}
    close = nearest_name(letters, choices)
    if close is None:
        return unknown_message("layer code", letters, WORDS)
    code = choices[close]
    if code.lower() == letters.lower():
        return f"not a layer code. Write {_form_of(code)}, with N* before it to repeat it"
    return f"unknown layer code '{letters}': did you mean '{code}'?"


def write_codes(spec: Spec, layers: Mapping[str, Sequence[tuple[LayerSpec, Shape]]], complete: Complete) -> str:
    """Writes a model as JSON with layer codes; consecutive equal codes become `N*CODE`.

    Args:
        spec: canonical description of the model.
        layers: layers of `encoder` and `decoder` with their input shapes.
        complete: completes the arguments of a layer.

    Raises:
        ConfigError: no code can express a layer; the message names it.
    """
    written = spec.model_dump(mode="json")
    for side, rows in layers.items():
        codes = []
        for layer, shape in rows:
            code = None
            with contextlib.suppress(ConfigError):  # a number too large for a code
                code = write_code(layer, shape, complete)
            if code is None:
                where = layer.location(f"model.{side}")
                raise ConfigError(f"{where}: no layer code exists for these arguments. Use --as yaml")
            codes.append(code)
        groups = ((code, len(list(group))) for code, group in itertools.groupby(codes))
        written[side] = [code if times == 1 else f"{times}*{code}" for code, times in groups]
    return json.dumps(written, indent=2, ensure_ascii=False) + "\n"


def write_code(layer: LayerSpec, shape: Shape, complete: Complete) -> str | None:
    """The code of a layer with this input shape; None if no code can express it."""
    arguments = complete(layer.name, layer.arguments)
    for letters, word in WORDS.items():
        if word.layer != layer.name or word.axes not in (None, len(shape) - 1):
            continue
        numbers = word.write(arguments, shape)
        if numbers is None:
            continue
        for count in range(word.usual or word.needed, len(word.numbers) + 1):
            text = "_".join([letters, *(str(numbers[name]) for name in word.names[:count])])
            (read,) = read_code(text, layer.name, "")
            if complete(layer.name, read.arguments) == arguments:
                return text
    return None
