"""The reader of plain pickles, against Python's own, and against hostile ones."""

from __future__ import annotations

import builtins
import codecs
import os
import pickle
import struct
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

from anowild.arrays import Array
from anowild.data.readers.plain_pickle import loads

PROTOCOLS = range(6)
_KEYS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text() | st.binary()
    | st.floats(allow_nan=False)
)  # fmt: skip
_PLAIN = st.recursive(
    _KEYS | st.integers() | st.integers(2**2040, 2**2060),
    lambda inner: st.lists(inner) | st.dictionaries(_KEYS, inner) | st.lists(inner).map(tuple),
    max_leaves=20,
)
_ARRAYS = hnp.arrays(
    st.one_of(
        hnp.unsigned_integer_dtypes(endianness="?"),
        hnp.integer_dtypes(endianness="?"),
        hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
        hnp.boolean_dtypes(),
    ),
    hnp.array_shapes(min_dims=0, min_side=0),
)


@given(_PLAIN, st.sampled_from(PROTOCOLS))
def test_plain_values_come_out_as_they_went_in(value: Any, protocol: int) -> None:
    found = loads(pickle.dumps(value, protocol))
    assert found == value
    assert repr(found) == repr(value)  # of the same types, at every depth


@given(_ARRAYS, st.sampled_from(PROTOCOLS), st.sampled_from("CF"))
def test_arrays_come_out_as_they_went_in(array: Array, protocol: int, order: Any) -> None:
    array = np.asarray(array, order=order)
    content = pickle.dumps({"array": array, "again": [array]}, protocol)
    old = content.replace(b"cnumpy._core.", b"cnumpy.core.")  # as NumPy 1 names it
    for found in (loads(content), loads(old)):
        assert found["again"][0] is found["array"]
        assert found["array"].dtype == array.dtype
        assert np.array_equal(found["array"], array, equal_nan=array.dtype.kind == "f")


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
        b"(L12L\nI-3\nF1.5\nVt\\u20ac\nt.",
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
        "a complex number": 1j,
        "another codec": _Calls(codecs.encode, "x", "rot13"),
        "a dtype alone": np.dtype("u1"),
        "a deep one": [{"a": (1, [_Calls(os.system, f"touch {sentinel}")])}],
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", hostile(Path("x")))
def test_anything_else_is_refused_and_not_run(tmp_path: Path, name: str, protocol: int) -> None:
    sentinel = tmp_path / "sentinel"
    content = pickle.dumps(hostile(sentinel)[name], protocol)
    with pytest.raises(ValueError, match=r"^it(s| names)"):
        loads(content)
    assert not sentinel.exists()


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
        "unhashable constructor": b"]R.",
        "build on a dict": b"}}b.",
        "build on nothing": b"b.",
        "stack global of numbers": b"K\x01K\x01\x93.",
        "unquoted": b"Sabc\n.",
        "open quote": b"S'\n.",
        "bad escape": b"S'\\x1'\n.",
    }.values(),
)  # fmt: skip
def test_forged_instructions_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"^it(s| names)"):
        loads(content)


def test_memory_does_not_grow_beyond_the_file() -> None:
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20)
    again = b"c_codecs\nencode\n(g0\nVlatin1\ntR"
    assert loads(b"(" + text + b"p0\n" + again + b"t.")[1] == b"a" * (1 << 20)
    with pytest.raises(ValueError, match="its pickle"):
        loads(b"(" + text + b"p0\n" + again * 10_000 + b"t.")


def test_depth_and_sharing_do_no_harm() -> None:
    deep = loads(b"]" * 200_000 + b"a" * 199_999 + b".")
    assert len(deep) == 1
    sharing = b")p0\n0" + b"(g0\ng0\ntp0\n0" * 5000
    shared = loads(sharing + b"g0\n.")
    assert len(shared) == 2
    with pytest.raises(ValueError, match="keys"):  # whose hash would never end
        loads(b"}" + sharing + b"g0\nNs.")


def _flipped(content: bytes, at: int) -> bytes:
    changed = bytearray(content)
    changed[at // 8] ^= 1 << at % 8
    return bytes(changed)


_REAL: list[Callable[[], Any]] = [
    lambda: {
        "data": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "labels": [1, 2],
        b"x": (1.5, "é"),
    },
    lambda: [{"a": None, "b": True}, ("x" * 300, 10**30), np.ones((2, 0, 3), ">f4")],
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
