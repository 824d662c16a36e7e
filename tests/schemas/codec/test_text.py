"""Strict JSON: what is refused, why and where."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec.text import TextBounds, decode_json, loads
from schemas.errors import DecodeError, FieldError
from schemas.uapi.regs import KvmRegs

BOUNDS = TextBounds(max_bytes=100_000, max_values=2000, max_names=20)

REFUSED = {
    "empty": (b"", "line 1 column 1", "not JSON"),
    "cut off": (b'{"a": 1', "line 1 column 8", "not JSON"),
    "two values": (b"1 2", "line 1 column 3", "Extra data"),
    "line and column": (b'{"a":\n  tru}', "line 2 column 3", "not JSON"),
    "not UTF-8": (b'{"a": "\xff"}', "octet 7", "not UTF-8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "octet 0", "not UTF-8"),
    "byte order mark": (b"\xef\xbb\xbf{}", "line 1 column 1", "BOM"),
    "name twice": (b'{"a": 1, "a": 2}', "document", "'a' occurs twice"),
    "name twice below": (b'{"x": [0, {"y": {"a": 1, "b": 1, "a": 2}}]}', "x.1.y", "'a' occurs twice"),
    "name twice in two spellings": (b'{"x": {"a": 1, "\\u0061": 2}}', "x", "'a' occurs twice"),
    "NaN": (b'{"a": [NaN]}', "a.0", "NaN is no whole number"),
    "Infinity": (b'{"a": -Infinity}', "a", "-Infinity is no whole number"),
    "a float": (b'{"a": 1.0}', "a", "1.0 is no whole number"),
    "an exponent": (b'{"a": 1e400}', "a", "1e400 is no whole number"),
    "too many digits": (b'{"a": {"b": 1' + b"0" * 5000 + b"}}", "a.b", "5001 digits"),
    "half a surrogate pair": (b'{"a": ["\\ud800"]}', "a.0", "surrogate"),
    "half a surrogate pair as name": (b'{"a": {"\\udc00": 1}}', "a", "surrogate"),
    "too deep": (b"[" * 50_000 + b"]" * 50_000, "document", "values, at most 2000|nested too deeply"),
    "too many values": (b"[" + b"0," * 3000 + b"0]", "document", "3002 values, at most 2000"),
    "too many names": (json.dumps({"o": {str(n): n for n in range(21)}}).encode(), "o", "21 names, at most 20"),
    "too long": (b'"' + b"x" * 100_000 + b'"', "document", "at most 100000"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_names_the_place(name):
    raw, where, message = REFUSED[name]
    with pytest.raises(DecodeError, match=message) as caught:
        loads(raw, BOUNDS)
    assert [problem.where for problem in caught.value.problems] == [where]


def test_nesting_beyond_the_interpreters_recursion_is_refused():
    bounds = TextBounds(max_bytes=1 << 20, max_values=1 << 20)
    for raw in (b"[" * 200_000, b'{"a":' * 100_000, b"[1.5," + b"[" * 200_000):
        with pytest.raises(DecodeError):
            loads(raw, bounds)


def test_a_whole_surrogate_pair_is_a_character():
    assert loads(b'{"a": "\\ud83d\\ude00"}', BOUNDS) == {"a": "\U0001f600"}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(VALUES)
def test_what_json_writes_comes_back(value):
    for text in (json.dumps(value, ensure_ascii=False), json.dumps(value)):
        assert loads(text.encode(), TextBounds()) == value


def test_a_model_lists_every_place_that_does_not_fit():
    good = json.loads(KvmRegs.zero().model_dump_json())
    bad = {
        **good,
        "rax": -1,
        "rbx": 1 << 64,
        "rcx": True,
        "rdx": "0x1" + "0" * 16,
        "rsi": "12",
        "rdi": None,
        "x" * 99: 0,
    }
    del bad["rip"]
    with pytest.raises(FieldError) as caught:
        decode_json(KvmRegs, json.dumps(bad))
    places = {problem.where for problem in caught.value.problems}
    assert places == {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rip", "x" * 64}
    assert decode_json(KvmRegs, json.dumps(good)) == KvmRegs.zero()
