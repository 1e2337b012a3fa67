"""Reads pickles of plain values without running anything that stands in them.

A pickle is a program for a small stack machine. Python's own machine imports and calls whatever
the program names; this one knows neither. It builds numbers, text, lists, dicts and numeric
arrays, and refuses a pickle at the first instruction that wants anything else.
"""

from __future__ import annotations

import codecs
import math
import pickletools
import re
import warnings
from collections.abc import Callable, Iterable
from enum import Enum
from io import BytesIO
from typing import Any, NoReturn

import numpy as np

from anowild.arrays import Array


def loads(data: bytes) -> Any:
    """The value that a pickle of any protocol describes.

    It consists of bytes, str, int, float, bool, None, list, tuple, dict and NumPy arrays of
    numbers, which cannot be written to. Strings of Python 2 and bytearrays come out as bytes.
    Keys of a dict are text, bytes or numbers. Time and memory grow in proportion to the length
    of the pickle.

    Raises:
        ValueError: damaged, or of anything else; the message is a clause such as "it names
            os.system, which is no plain value".
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in text that Python 3 dislikes
            return _Machine(data).run()
    except _Refused:
        raise
    except (IndexError, KeyError, ValueError):  # from Python's and NumPy's own functions
        raise _Refused("its pickle is cut off or damaged") from None


class _Refused(ValueError):
    """With a clause for the user."""


class _Symbol(Enum):
    """The only names that may stand in a pickle; they are recognized, never imported."""

    RECONSTRUCT = ("numpy.core.multiarray", "_reconstruct")
    FROMBUFFER = ("numpy.core.numeric", "_frombuffer")
    NDARRAY = ("numpy", "ndarray")
    DTYPE = ("numpy", "dtype")
    ENCODE = ("_codecs", "encode")
    BYTES = ("builtins", "bytes")


class _Dtype:
    """A type of number, such as u1; its byte order comes later."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.order = "|"

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.name)


class _Pending:
    """An array that has no shape and no data yet."""

    built: Array | None = None


class _Arguments(tuple[Any, ...]):
    """A tuple that holds something that is no value."""


#: What may stand on the stack, and in arguments, but never in a result.
_INERT = (_Symbol, _Dtype, _Pending, _Arguments)
_DTYPE = re.compile(r"[ui][1248]|f[248]|b1")
_BYTE_ORDER = re.compile(r"[<>|]")
_ORDER = re.compile(r"[CF]")
_RENAMED = {"__builtin__": "builtins"}
_MOST_AXES = 32

# Python's own tables tell how the argument of each instruction is stored. Those for strings of
# Python 2 are replaced: they would make text of what is bytes.
_Read = Callable[[BytesIO], Any]


def _read_quoted(file: BytesIO) -> bytes:
    line = file.readline()
    text = line.strip()
    if line[-1:] != b"\n" or len(text) < 2 or text[:1] not in b"'\"" or text[:1] != text[-1:]:
        raise _Refused("its pickle is cut off or damaged")
    return codecs.escape_decode(text[1:-1])[0]


_OWN: dict[str, Any] = {
    "STRING": _read_quoted,
    "BINSTRING": pickletools.read_bytes4,
    "SHORT_BINSTRING": pickletools.read_bytes1,
}
_OPCODES: dict[bytes, tuple[str, _Read | None]] = {
    op.code.encode("latin-1"): (op.name, _OWN.get(op.name, op.arg.reader if op.arg else None))
    for op in pickletools.opcodes
}

# fmt: off
_PUSH_ARGUMENT = frozenset((
    "INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
))
# fmt: on
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}


class _Machine:
    def __init__(self, data: bytes) -> None:
        self.file = BytesIO(data)
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks that wait under the marks
        self.memo: dict[int, Any] = {}
        self.to_encode = len(data)

    def run(self) -> Any:
        while True:
            code = self.file.read(1)
            if code not in _OPCODES:
                raise _Refused("its pickle is cut off or damaged")
            name, read = _OPCODES[code]
            argument = read(self.file) if read else None
            if name == "STOP":
                return _plain(self.stack.pop())
            self.step(name, argument)

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO" | "FRAME":
                pass
            case _ if name in _PUSH_ARGUMENT:
                stack.append(argument)
            case _ if name in _CONSTANTS:
                stack.append(_CONSTANTS[name]())
            case "BYTEARRAY8":
                stack.append(bytes(argument))
            case "MARK":
                self.below.append(stack)
                self.stack = []
            case "POP" if stack:
                stack.pop()
            case "POP" | "POP_MARK":
                self.above_mark()
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.put(argument)
            case "MEMOIZE":
                self.put(len(self.memo))
            case "GET" | "BINGET" | "LONG_BINGET":
                self.get(argument)
            case "TUPLE":
                self.push_tuple(self.above_mark())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self.push_tuple(self.pop(int(name[-1])))
            case "LIST":
                self.push_above_mark([])
            case "APPEND":
                self.extend(self.pop(1))
            case "APPENDS":
                self.extend(self.above_mark())
            case "DICT":
                items = self.above_mark()
                self.stack.append({})
                self.update(items)
            case "SETITEM":
                self.update(self.pop(2))
            case "SETITEMS":
                self.update(self.above_mark())
            case "GLOBAL":
                self.push_symbol(*argument.split(" ", 1))
            case "STACK_GLOBAL":
                self.push_symbol(*self.pop(2))
            case "REDUCE":
                stack.append(self.call(*self.pop(2)))
            case "BUILD":
                stack.append(self.build(*self.pop(2)))
            case _:
                raise _Refused(f"its pickle holds more than plain values ({name})")

    def pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def above_mark(self) -> list[Any]:
        """Take everything down to the last mark."""
        items = self.stack
        self.stack = self.below.pop()
        return items

    def put(self, number: int) -> None:
        # Larger numbers could be chosen to fall on the same place of a hash table.
        if not 0 <= number < 1 << 32:
            raise _Refused("its pickle is cut off or damaged")
        self.memo[number] = self.stack[-1]

    def get(self, number: int) -> None:
        value = self.memo[number]
        if isinstance(value, _Pending) and value.built is not None:
            value = value.built
        self.stack.append(value)

    def push_tuple(self, items: list[Any]) -> None:
        inert = any(isinstance(item, _INERT) for item in items)
        self.stack.append(_Arguments(items) if inert else tuple(items))

    def push_above_mark(self, into: list[Any]) -> None:
        items = self.above_mark()
        self.stack.append(into)
        self.extend(items)

    def extend(self, items: list[Any]) -> None:
        into = self.stack[-1]
        if type(into) is not list:
            raise _Refused("its pickle is cut off or damaged")
        into.extend(_plain(item) for item in items)

    def update(self, items: list[Any]) -> None:
        into = self.stack[-1]
        if type(into) is not dict or len(items) % 2:
            raise _Refused("its pickle is cut off or damaged")
        for key, value in zip(items[::2], items[1::2], strict=True):
            into[_key(key)] = _plain(value)

    def push_symbol(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise _Refused("its pickle is cut off or damaged")
        plain = _RENAMED.get(module, module.replace("numpy._core.", "numpy.core."))
        try:
            self.stack.append(_Symbol((plain, name)))
        except ValueError:  # no member of the enumeration
            raise _Refused(
                f"it names {ascii(f'{module}.{name}'[:80])[1:-1]}, which is no plain value"
            ) from None

    def call(self, symbol: Any, arguments: Any) -> Any:
        """The few calls that are known, done by hand."""
        match symbol, arguments:
            case _Symbol.RECONSTRUCT, (_Symbol.NDARRAY, (0,), b"b" | "b"):
                return _Pending()
            case _Symbol.FROMBUFFER, (bytes() as data, _Dtype() as dtype, shape, order):
                return _array(data, dtype, shape, order)
            case _Symbol.DTYPE, (name, False | 0, True | 1):
                return _Dtype(_text(name, _DTYPE))
            case _Symbol.BYTES, ():
                return b""
            case _Symbol.ENCODE, (str() as text, "latin1"):
                # The same text could be encoded again and again, into more than memory holds.
                self.to_encode -= len(text)
                if self.to_encode >= 0:
                    return text.encode("latin-1")
        _refuse_call()

    def build(self, target: Any, state: Any) -> Any:
        """Complete an array or its dtype."""
        match target, state:
            case _Dtype(), (3, order, None, None, None, -1, -1, 0):
                target.order = _text(order, _BYTE_ORDER)
                return target
            case _Pending(built=None), (1, shape, _Dtype() as dtype, bool() | 0 | 1 as f, bytes()):
                target.built = _array(state[4], dtype, shape, "F" if f else "C")
                return target.built
        _refuse_call()


def _refuse_call() -> NoReturn:
    raise _Refused("its pickle makes something that is no array of plain numbers")


def _plain(value: Any) -> Any:
    if isinstance(value, _INERT):
        raise _Refused("its pickle holds more than plain values")
    return value


def _key(value: Any) -> Any:
    # A tuple or a long number is hashed anew each time, which a hostile file could make endless.
    if isinstance(value, int) and value.bit_length() > 64:
        raise _Refused("its pickle has a key that is too long a number")
    if not isinstance(value, str | bytes | int | float | None):
        raise _Refused("its pickle has keys that are neither text nor numbers")
    return value


def _text(value: Any, allowed: re.Pattern[str]) -> str:
    """A short word; Python 2 wrote it as bytes."""
    word = value.decode("ascii") if isinstance(value, bytes) else value
    if not isinstance(word, str) or not allowed.fullmatch(word):
        raise _Refused("its pickle holds an array that is not of plain numbers")
    return word


def _array(data: bytes, dtype: _Dtype, shape: Any, order: Any) -> Array:
    sizes: Iterable[Any] = shape if type(shape) is tuple and len(shape) <= _MOST_AXES else (-1,)
    if not all(type(size) is int and 0 <= size < 1 << 31 for size in sizes):
        raise _Refused("its pickle holds an array of an impossible shape")
    kind = dtype.numpy()
    if math.prod(sizes) * kind.itemsize != len(data):
        raise _Refused("its pickle holds an array whose data do not fit its shape")
    in_order: Any = _text(order, _ORDER)
    return np.ndarray(shape, kind, buffer=data, order=in_order)
