"""Reads the arrays and texts of a pickle without unpickling: nothing in the file is ever imported or called.

The opcodes are taken apart by `pickletools` and followed on a stack of plain values. What a pickle would have Python
call or build stays a `Call`, a note of the name and the arguments; a hostile pickle therefore is a strange note.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convae.core.errors import DataError


@dataclass
class Call:
    """What a pickle would have called, and what it would have given to the result."""

    name: Any
    arguments: Any = ()
    state: Any = None


@dataclass
class _Machine:
    """The stack, the marks on it, and the memo of a pickle."""

    stack: list[Any] = field(default_factory=list)
    marks: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def since_mark(self) -> list[Any]:
        """What was pushed since the last mark, taken off."""
        items, self.stack = self.stack, self.marks.pop()
        return items


def _mark(machine: _Machine, _: Any) -> None:
    machine.marks.append(machine.stack)
    machine.stack = []


def _put_items(machine: _Machine, items: list[Any]) -> None:
    machine.stack[-1].update(zip(items[::2], items[1::2], strict=True))


def _list(machine: _Machine, _: Any) -> None:
    items = machine.since_mark()
    machine.stack.append(items)


def _marked_tuple(machine: _Machine, _: Any) -> None:
    items = machine.since_mark()
    machine.stack.append(tuple(items))


def _dict(machine: _Machine, _: Any) -> None:
    items = machine.since_mark()
    machine.stack.append({})
    _put_items(machine, items)


def _append(machine: _Machine, _: Any) -> None:
    item = machine.stack.pop()
    machine.stack[-1].append(item)


def _appends(machine: _Machine, _: Any) -> None:
    items = machine.since_mark()
    machine.stack[-1].extend(items)


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _put_items(machine, [key, value])


def _set_items(machine: _Machine, _: Any) -> None:
    items = machine.since_mark()
    _put_items(machine, items)


def _reduce(machine: _Machine, _: Any) -> None:
    arguments = machine.stack.pop()
    machine.stack.append(Call(machine.stack.pop(), arguments))


def _build(machine: _Machine, _: Any) -> None:
    state = machine.stack.pop()
    machine.stack[-1].state = state


def _stack_global(machine: _Machine, _: Any) -> None:
    name = machine.stack.pop()
    machine.stack.append(f"{machine.stack.pop()} {name}")


def _tuple(count: int) -> Callable[[_Machine, Any], None]:
    def pack(machine: _Machine, _: Any) -> None:
        machine.stack[-count:] = [tuple(machine.stack[-count:])]

    return pack


def _push(convert: Callable[[Any], Any]) -> Callable[[_Machine, Any], None]:
    return lambda machine, value: machine.stack.append(convert(value))


_OPCODES: dict[str, Callable[[_Machine, Any], Any]] = {
    **dict.fromkeys(["PROTO", "FRAME", "STOP"], lambda machine, value: None),
    **dict.fromkeys(["BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1"], _push(lambda value: value)),
    **dict.fromkeys(["UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "GLOBAL"], _push(lambda value: value)),
    # The texts of Python 2, which may hold any bytes.
    **dict.fromkeys(["STRING", "BINSTRING", "SHORT_BINSTRING"], _push(lambda value: value.encode("latin-1"))),
    **dict.fromkeys(["BINBYTES", "SHORT_BINBYTES"], _push(lambda value: value)),
    "NONE": _push(lambda _: None),
    "NEWTRUE": _push(lambda _: True),
    "NEWFALSE": _push(lambda _: False),
    "EMPTY_LIST": _push(lambda _: []),
    "EMPTY_DICT": _push(lambda _: {}),
    "EMPTY_TUPLE": _push(lambda _: ()),
    "MARK": _mark,
    "LIST": _list,
    "TUPLE": _marked_tuple,
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "DICT": _dict,
    "APPEND": _append,
    "APPENDS": _appends,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    **dict.fromkeys(["PUT", "BINPUT", "LONG_BINPUT"], lambda machine, n: machine.memo.update({n: machine.stack[-1]})),
    "MEMOIZE": lambda machine, _: machine.memo.update({len(machine.memo): machine.stack[-1]}),
    **dict.fromkeys(["GET", "BINGET", "LONG_BINGET"], lambda machine, n: machine.stack.append(machine.memo[n])),
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "BUILD": _build,
}


def read_pickle(content: bytes, path: str | Path) -> dict[str, Any]:
    """The dictionary that a pickle holds: numbers, texts, lists, and `Call`s in place of objects.

    Raises:
        DataError: not a pickle, or one that holds more than plain values and arrays.
    """
    machine = _Machine()
    try:
        for opcode, value, _ in pickletools.genops(content):
            step = _OPCODES.get(opcode.name)
            if step is None:
                raise DataError(f"{path}: its pickle uses {opcode.name}, which plain values and arrays do not need")
            step(machine, value)
        (found,) = machine.stack
        return {_text(key): value for key, value in found.items()}
    except DataError:
        raise
    except Exception as error:  # A damaged pickle can be wrong in any way.
        raise DataError(f"{path}: damaged, or not a pickle of plain values and arrays: get it again") from error


def pickled_bytes(value: Any, shape: tuple[int, ...], path: str | Path) -> NDArray[np.uint8]:
    """An array of bytes from the note that `read_pickle` makes of one.

    Raises:
        DataError: it is something else, or of another shape.
    """
    fault = DataError(f"{path}: does not hold an array of bytes of the shape {shape}: get it again")
    try:
        made = value.name in {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"}
        _, state_shape, kind, by_column, content = value.state
        sound = made and state_shape == shape and kind.arguments[0] in {b"u1", "u1"} and isinstance(content, bytes)
        if not sound:
            raise fault
        return np.frombuffer(content, np.uint8).reshape(shape, order="F" if by_column else "C")
    except (AttributeError, TypeError, ValueError, IndexError) as error:
        raise fault from error


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
