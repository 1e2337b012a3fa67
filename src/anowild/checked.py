"""Values of JSON files, checked against the types of a dataclass before anything relies on them."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

T = TypeVar("T")

#: Characters of a wrong value that a message shows.
_SHOWN = 40


@dataclass(frozen=True)
class Range:
    """Bounds of a number, both included, as in ``Annotated[int, Range(1, 64)]``."""

    least: float = -math.inf
    most: float = math.inf

    def __str__(self) -> str:
        if self.most == math.inf:
            return f"at least {self.least:g}"
        return f"from {self.least:g} to {self.most:g}"


#: A whole number of 0 or more that fits into 64 bits, also as a float.
Count = Annotated[int, Range(0, 2**53)]
#: A finite number of 0 or more.
Amount = Annotated[float, Range(0)]
#: A share or a probability.
Share = Annotated[float, Range(0, 1)]


def checked(kind: type[T], value: Any, where: str) -> T:
    """Convert a value from JSON to a type.

    Args:
        kind: a dataclass, or a type that is made of None, bool, int, float (finite), str, Any, Literal,
            Annotated with :class:`Range`, sequences and mappings from str.
        value: as `json.loads` gives it.
        where: what is checked, for the message: "calibration.combined".

    Raises:
        ValueError: the value, or one inside of it, is missing, unknown, of another type or out of bounds; the
            message names it.
    """
    result: T = _converted(kind, value, where)
    return result


def _converted(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        converted = _converted(arguments[0], value, where)
        bounds = arguments[1]
        if not bounds.least <= converted <= bounds.most:
            raise _wrong(where, value, str(bounds))
        return converted
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        (kind,) = (option for option in arguments if option is not types.NoneType)
        return _converted(kind, value, where)
    if origin is Literal:
        if not isinstance(value, str | int) or value not in arguments:
            raise _wrong(where, value, f"one of {', '.join(map(str, arguments))}")
        return value
    if origin in (list, tuple, Sequence):
        return _sequence(origin, arguments, value, where)
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise _wrong(where, value, "an object")
        return {
            key: _converted(arguments[1], item, f"{where}.{key}") for key, item in value.items()
        }
    return _plain(kind, value, where)


def _sequence(origin: Any, arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _wrong(where, value, "a list")
    found = [_converted(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    return tuple(found) if origin is tuple else found


def _plain(kind: Any, value: Any, where: str) -> Any:
    words = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}
    if kind is float and type(value) in (int, float):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    elif type(value) is kind and not (kind is str and "\0" in value):
        return value
    raise _wrong(where, value, words[kind])


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise _wrong(where, value, "an object")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = [name for name in value if name not in fields]
    if unknown:
        raise ValueError(f"{where}.{unknown[0]} is not known to this version")
    hints = _hints(kind)
    found = {}
    for name, field in fields.items():
        if name in value:
            found[name] = _converted(hints[name], value[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where}.{name} is missing")
    try:
        return kind(**found)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _wrong(where: str, value: Any, rule: str) -> ValueError:
    try:
        shown = repr(value)
    except ValueError:  # a whole number of thousands of digits
        shown = "a huge number"
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}..."
    return ValueError(f"{where} is {shown}: it must be {rule}")
