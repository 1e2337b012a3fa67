"""The restricted unpickler, against Python's own and against hostile pickles."""

from __future__ import annotations

import builtins
import codecs
import os
import pickle
import struct
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from anowild.data.readers import restricted_pickle
from anowild.data.readers.restricted_pickle import loads

PROTOCOLS = range(6)
_WORDS = st.text() | st.binary()
_VALUES = _WORDS | st.integers(-(2**63), 2**63)
_CONTENTS = st.dictionaries(
    _WORDS,
    _VALUES | st.lists(_VALUES) | hnp.arrays(np.uint8, hnp.array_shapes(max_dims=4, min_side=0)),
    max_size=64,
)


@given(_CONTENTS, st.sampled_from(PROTOCOLS))
def test_loads_returns_what_was_dumped(content: dict[Any, Any], protocol: int) -> None:
    found = loads(pickle.dumps(content, protocol))
    assert list(found) == list(content)
    for key, value in content.items():
        assert type(found[key]) is type(value)
        if isinstance(value, np.ndarray):
            assert np.array_equal(found[key], value)
        else:
            assert repr(found[key]) == repr(value)  # the entries of a list are of the same types


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_loads_keeps_shared_arrays_shared(protocol: int, order: Any) -> None:
    array = np.asarray(np.arange(6, dtype=np.uint8).reshape(2, 3), order=order)
    content = pickle.dumps({"array": array, "again": array}, protocol)
    old = content.replace(b"cnumpy._core.", b"cnumpy.core.")  # as NumPy 1 names it
    for found in (loads(content), loads(old)):
        assert found["again"] is found["array"]
        assert np.array_equal(found["array"], array)
        assert not found["array"].flags.writeable


def test_what_python_2_and_numpy_1_wrote_is_read() -> None:
    # As the first lines of CIFAR's own files have it.
    content = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\n"
        b"q\x04K\x00\x85U\x01b\x87Rq\x05(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87"
        b"Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x06\x00\x00\x00"
        b"\x00\x01\x02\xfd\xfe\xfftbU\x06labelsq\x08]q\t(K\x06K\teu."
    )
    found = loads(content)
    assert found[b"labels"] == [6, 9]
    assert np.array_equal(found[b"data"], [[0, 1, 2], [253, 254, 255]])
    assert found[b"data"].dtype == np.uint8


@pytest.mark.parametrize(
    "content",
    [
        b"(dp0\nS'label_names'\np1\n(lp2\nS'air\\xffplane'\np3\naS\"it's\"\np4\nasS'n'\nI01\ns.",
        b"\x80\x02}(U\x01aT\x02\x00\x00\x00\xe9\xe8u.",
        b"(dVt\\u20ac\nI-3\ns.",
    ],
)
def test_strings_of_python_2_are_bytes(content: bytes) -> None:
    assert loads(content) == pickle.loads(content, encoding="bytes")


class _Calls:
    """Pickles as a call of anything."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def hostile(sentinel: Path) -> dict[str, Any]:
    return {
        "os.system": _Calls(os.system, f"touch {sentinel}"),
        "eval": _Calls(builtins.eval, f"open({str(sentinel)!r}, 'w')"),
        "exec": _Calls(builtins.exec, f"open({str(sentinel)!r}, 'w')"),
        "open": _Calls(builtins.open, str(sentinel), "w"),
        "getattr": _Calls(getattr, "x", "upper"),
        "np.fromfile": _Calls(np.fromfile, "/etc/hostname"),
        "np.save": _Calls(np.save, str(sentinel), 1),
        "np.ndarray": _Calls(np.ndarray, (2,)),
        "np.zeros": _Calls(np.zeros, (1 << 40,)),
        "objects": np.array([None, _Calls(os.system, f"touch {sentinel}")]),
        "records": np.zeros(2, [("a", "u1")]),
        "dates": np.zeros(2, "M8[s]"),
        "text": np.array(["a"]),
        "complex": np.zeros(2, complex),
        "a function": os.system,
        "a class": Fraction,
        "an object": Fraction(1, 2),
        "an ordered dict": OrderedDict(a=1),
        "a set": {1, 2},
        "a tuple": (1, 2),
        "a float": 1.5,
        "a dict in a dict": {"a": {"b": 1}},
        "floats": np.zeros(2, np.float32),
        "a complex number": 1j,
        "another codec": _Calls(codecs.encode, "x", "rot13"),
        "a dtype alone": np.dtype("u1"),
        "a deep one": [{"a": (1, [_Calls(os.system, f"touch {sentinel}")])}],
    }


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"data": x}, lambda x: {"data": [1, x]}])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", hostile(Path("x")))
def test_loads_refuses_anything_else_and_runs_nothing(
    tmp_path: Path, name: str, protocol: int, wrap: Callable[[Any], Any]
) -> None:
    sentinel = tmp_path / "sentinel"
    content = pickle.dumps(wrap(hostile(sentinel)[name]), protocol)
    with pytest.raises(ValueError, match=r"^it(s|) "):
        loads(content)
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "state",
    [
        {"__call__": 1},
        (None, {"_call": 1}),
        (None, {"__class__": 1}),
        (None, {"__setstate__": 1}),
        (None, {"__doc__": 1}),
    ],
)
@pytest.mark.parametrize("name", ["numpy\nndarray", "numpy\ndtype", "_codecs\nencode"])
def test_loads_refuses_to_change_the_stand_ins(state: Any, name: str) -> None:
    written = pickle.dumps(state, 2)[2:-1]
    for target in (f"c{name}\n".encode(), b"}"):
        with pytest.raises(ValueError, match=r"^it(s|) "):
            loads(b"}Vx\n" + target + written + b"bs.")


_U1 = b"cnumpy\ndtype\n(Vu1\nI00\nI01\ntR(I3\nV|\nNNNI-1\nI-1\nI0\ntb"
_EMPTY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR"


@pytest.mark.parametrize(
    "content",
    {
        "nothing": b"",
        "no stop": b"\x80\x02",
        "stop alone": b".",
        "extension": b"\x80\x02\x82\x01.",
        "extension 2": b"\x83\x01\x00.",
        "extension 4": b"\x84\x01\x00\x00\x00.",
        "persistent": b"Pfile\n.",
        "persistent, binary": b"Vfile\nQ.",
        "instance": b"(V1\nios\nsystem\n.",
        "object": b"(cos\nsystem\nV1\no.",
        "new object": b"cos\nsystem\n)\x81.",
        "out-of-band buffer": b"\x97.",
        "symbol": b"cnumpy\nndarray\n.",
        "symbol in a list": b"]cnumpy\nndarray\na.",
        "symbol in a tuple": b"cnumpy\nndarray\n\x85.",
        "symbol as a key": b"}cnumpy\nndarray\nNs.",
        "tuple as a key": b"})Ns.",
        "list as a key": b"}]Ns.",
        "pending array": _EMPTY + b".",
        "pending array in a list": b"]" + _EMPTY + b"2(I1\n(I1\nt" + _U1 + b"I00\nC\x01xtb0a.",
        "array built twice": _EMPTY + b"2(I1\n(I1\nt" + _U1 + b"I00\nC\x01xtb" * 2 + b".",
        "array too large": _EMPTY + b"(I1\n(I99999\nI99999\nt" + _U1 + b"I00\nC\x01xtb.",
        "array too small": _EMPTY + b"(I1\n(I0\nt" + _U1 + b"I00\nC\x01xtb.",
        "negative shape": _EMPTY + b"(I1\n(I-1\nI-1\nt" + _U1 + b"I00\nC\x01xtb.",
        "shape of text": _EMPTY + b"(I1\nVx\n" + _U1 + b"I00\nC\x01xtb.",
        "many axes": _EMPTY + b"(I1\n(" + b"I1\n" * 99 + b"t" + _U1 + b"I00\nC\x01xtb.",
        "objects": _EMPTY + b"(I1\n(I1\nt" + _U1.replace(b"u1", b"O8") + b"I00\nC\x08abcdefghtb.",
        "long bytes": b"B\xff\xff\xff\x7fabc.",
        "longer bytes": b"\x8e" + b"\xff" * 7 + b"\x7fabc.",
        "long string": b"T\xff\xff\xff\x7fabc.",
        "negative string": b"T\xff\xff\xff\xffabc.",
        "long text": b"X\xff\xff\xff\x7fabc.",
        "long number": b"\x8b\xff\xff\xff\x7fabc.",
        "long bytearray": b"\x96" + b"\xff" * 7 + b"\x7fabc.",
        "number of digits": b"I" + b"9" * 9999 + b"\n.",
        "long key": b"}\x8a\xff" + b"\x01" * 255 + b"Ns.",
        "far memo": b"Np99999999999999999999\n0N.",
        "no memo": b"h\x05.",
        "no mark": b"t.",
        "no list": b"NNa.",
        "odd items": b"}(Nu.",
        "float": b"F1.5\n.",
        "far memo, binary": b"Nr\xff\xff\xff\x7f0N.",
        "far memo, read": b"j\xff\xff\xff\x7f.",
        "long frame": b"\x80\x04\x95" + b"\xff" * 7 + b"\x7fN.",
        "longer text": b"\x8d" + b"\xff" * 7 + b"\x7fabc.",
        "digits in a shape": _EMPTY + b"(I1\n(" + (b"I" + b"9" * 4000 + b"\n") * 4 + b"t" + _U1
        + b"I00\nC\x01xtb.",
        "dict of a list": b"(VaVbd.",
        "unhashable constructor": b"]R.",
        "build on a dict": b"}}NNsb.",
        "build on nothing": b"b.",
        "stack global of numbers": b"K\x01K\x01\x93.",
        "unquoted": b"Sabc\n.",
        "open quote": b"S'\n.",
        "bad escape": b"S'\\x1'\n.",
    }.values(),
)  # fmt: skip
def test_loads_refuses_forged_instructions(content: bytes) -> None:
    # As a value where it can be, for at the top only a dict is returned.
    for wrapped in (content, b"}Vx\n" + content[:-1] + b"s."):
        tracemalloc.start()
        with pytest.raises(ValueError, match=r"^it(s|) "):
            loads(wrapped)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20


def _value(content: bytes) -> bytes:
    """Return a pickle of a dict with this value."""
    return b"}Vx\n" + content + b"s."


def test_loads_bounds_what_is_encoded_again() -> None:
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20)
    again = b"c_codecs\nencode\n(g0\nVlatin1\ntR"
    found = loads(_value(b"(" + text + b"p0\n" + again + b"l"))
    assert found["x"][1] == b"a" * (1 << 20)
    with pytest.raises(ValueError, match="its pickle"):
        loads(_value(b"(" + text + b"p0\n" + again * 10_000 + b"l"))


def test_loads_ends_on_depth_and_sharing() -> None:
    with pytest.raises(ValueError, match="more than plain values"):
        loads(_value(b"]" * 200_000 + b"a" * 199_999))
    shared = b")p0\n" + b"(g0\ng0\ntp0\n" * 5000
    with pytest.raises(ValueError, match="more than plain values"):
        loads(_value(b"(" + shared + b"l"))
    with pytest.raises(ValueError, match="no text"):  # the hash of the key would never end
        loads(b"}(" + shared + b"l}" + b"g0\nNs.")


def test_loads_bounds_instructions_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restricted_pickle._Opcodes, "left", 1000)
    assert loads(_value(b"(" + b"K\x01" * 900 + b"l"))["x"] == [1] * 900
    with pytest.raises(ValueError, match="instructions"):
        loads(_value(b"(" + b"K\x01" * 1000 + b"l"))
    monkeypatch.setattr(restricted_pickle, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        loads(_value(b"(" + b"K\x01" * 50 + b"l"))


def _flipped(content: bytes, at: int) -> bytes:
    changed = bytearray(content)
    changed[at // 8] ^= 1 << at % 8
    return bytes(changed)


_REAL: list[Callable[[], Any]] = [
    lambda: {
        "data": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "labels": [1, 2],
        b"x": "é",
    },
    lambda: {"a": ["x" * 300, 10**12], "b": np.ones((2, 0, 3), np.uint8)},
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("make", _REAL)
def test_damaged_pickles_give_a_value_or_a_value_error(
    make: Callable[[], Any], protocol: int
) -> None:
    content = pickle.dumps(make(), protocol)
    refused = 0
    changed = [_flipped(content, at) for at in range(8 * len(content))]
    for damaged in changed + [content[:end] for end in range(len(content))]:
        try:
            loads(damaged)
        except ValueError:
            refused += 1
    assert refused > len(content)


@given(st.binary(max_size=100), st.data())
def test_noise_gives_a_value_or_a_value_error(noise: bytes, data: st.DataObject) -> None:
    content = pickle.dumps(_REAL[0](), data.draw(st.sampled_from(PROTOCOLS)))
    at = data.draw(st.integers(0, len(content)))
    for damaged in (noise, content[:at] + noise + content[at:]):
        try:
            loads(damaged)
        except ValueError:
            continue
