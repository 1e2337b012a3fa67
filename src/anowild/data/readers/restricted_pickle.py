"""Restricted unpickling of CIFAR's batches.

A pickle is a program that may import and call anything. What is guaranteed here:

- Nothing is imported and nothing real is called. The few names that a pickled NumPy array needs give
  inert stand-ins defined in this file; any other name, and any instruction beyond those that plain
  values need, ends the reading.
- The result is a dict with keys of text. Its values are text, bytes, integers, lists of these, and
  arrays of uint8.
- Sizes that a file claims allocate nothing. Memory is bounded by the size of the file, ``MAX_BYTES``,
  and by a small constant for each of at most ``_MAX_OPCODES`` instructions. So is the time.

The unpickler of the standard library that is written in Python is used, because the set of its
instructions can be narrowed. The one written in C allocates what a file claims for its memo.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

#: Size of a file; the largest batch of CIFAR has 155 MB.
MAX_BYTES = 1 << 28
_MAX_OPCODES = 1 << 22  # the largest batch of CIFAR takes about 300,000
_MAX_KEYS = 64
_MAX_AXES = 4

_ALLOWED = """
    PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 STRING BINSTRING
    SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS SETITEM SETITEMS GLOBAL
    STACK_GLOBAL REDUCE BUILD PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET
"""
_DAMAGED = "its pickle is cut off or damaged"


def loads(data: bytes) -> dict[str | bytes, Any]:
    """Read a pickle of any protocol; strings of Python 2 become bytes, arrays are read-only.

    Raises:
        ValueError: damaged, or of anything else; the message is a clause such as "it names os.system,
            which is no plain value".
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES} bytes")
    try:
        content = _Unpickler(data).load()
    except _RefusedError:
        raise
    except Exception:  # of many kinds, on damaged files
        raise ValueError(_DAMAGED) from None
    if not isinstance(content, dict) or len(content) > _MAX_KEYS:
        raise ValueError("it is no dict of a few values")
    return {key: _plain(value) for key, value in content.items()}


class _RefusedError(ValueError):
    """Refusal with a clause for the user."""


class _Inert:
    """Stand-in for a name; it has no attributes that a pickle could set."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any] | None = None) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments) if self._call else self.__setstate__(arguments)

    def __setstate__(self, state: Any) -> None:
        raise _RefusedError("its pickle makes something that is no array of bytes")


class _Dtype(_Inert):
    __slots__ = ()

    def __init__(self, name: Any, align: Any, copy: Any) -> None:
        if name not in ("u1", b"u1"):
            raise _RefusedError("it holds an array that is not of bytes")

    def __setstate__(self, state: Any) -> None:
        """Ignore the byte order: single bytes have none."""


class _Array(_Inert):
    __slots__ = ("array",)

    def __init__(self, *state: Any) -> None:
        self.array: np.ndarray[Any, Any] | None = None
        if state:
            self.__setstate__((1, *state))

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not (isinstance(dtype, _Dtype) and isinstance(data, bytes) and len(shape) <= _MAX_AXES):
            super().__setstate__(state)
        if not all(type(n) is int and n >= 0 for n in shape) or math.prod(shape) != len(data):
            raise _RefusedError("its pickle holds an array whose data do not fit its shape")
        self.array = np.ndarray(shape, np.uint8, data, order="F" if fortran else "C")


class _TextDict(dict[Any, Any]):
    __slots__ = ()

    def __setitem__(self, key: Any, value: Any) -> None:
        # To hash a tuple of tuples that share their entries could take forever.
        if not isinstance(key, str | bytes):
            raise _RefusedError("its pickle has keys that are no text")
        super().__setitem__(key, value)


class _Opcodes(dict[int, Any]):
    """Allowed instructions, counted."""

    left = _MAX_OPCODES

    def __getitem__(self, code: int) -> Any:
        self.left -= 1
        if code not in self or self.left < 0:
            raise _RefusedError("its pickle holds instructions that plain values do not need")
        return super().__getitem__(code)


_PurePython: Any = pickle._Unpickler


class _Unpickler(_PurePython):  # type: ignore[misc]
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        codes = {getattr(pickle, name)[0] for name in _ALLOWED.split()}
        self.dispatch = _Opcodes({code: _PurePython.dispatch[code] for code in codes})
        self.dispatch[pickle.EMPTY_DICT[0]] = lambda _: self.append(_TextDict())
        self.dispatch[pickle.DICT[0]] = _Unpickler._load_empty_dict
        # The standard library would allocate a bytearray of the size that the file claims.
        self.dispatch[pickle.BYTEARRAY8[0]] = self.dispatch[pickle.BINBYTES8[0]]
        self._to_encode = len(data)

    def find_class(self, module: str, name: str) -> Any:
        match module.replace("numpy._core.", "numpy.core."), name:
            case "numpy.core.multiarray", "_reconstruct":
                return _Inert(lambda kind, shape, code: _Array())
            case "numpy.core.numeric", "_frombuffer":
                return _Inert(
                    lambda data, dtype, shape, order: _Array(shape, dtype, order == "F", data)
                )
            case "numpy", "ndarray":
                return _Inert()
            case "numpy", "dtype":
                return _Inert(_Dtype)
            case "builtins" | "__builtin__", "bytes":  # Python 3 writes empty bytes so for Python 2
                return _Inert(lambda: b"")
            case "_codecs", "encode":
                return _Inert(self._encode)
        raise _RefusedError(
            f"it names {ascii(f'{module}.{name}'[:80])[1:-1]}, which is no plain value"
        )

    def _load_empty_dict(self) -> None:
        if self.pop_mark():
            raise _RefusedError(_DAMAGED)
        self.append(_TextDict())

    def _encode(self, text: str, codec: str) -> bytes:
        # The same text could be encoded again and again, into more than memory holds.
        self._to_encode -= len(text)
        if codec != "latin1" or self._to_encode < 0:
            raise _RefusedError(_DAMAGED)
        return text.encode("latin-1")


def _plain(value: Any) -> Any:
    if isinstance(value, _Array) and value.array is not None:
        return value.array
    entries = value if type(value) is list else [value]
    if not all(isinstance(entry, str | bytes | int) for entry in entries):
        raise ValueError("its pickle holds more than plain values")
    return value
