"""Strict MessagePack: what is refused, why and where; whatever is taken comes back."""

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec.packing import SCAN_ABOVE_BYTES, Bounds, PackedError, pack, scan, unpack
from schemas.errors import DecodeError

BOUNDS = Bounds(max_bytes=1 << 18, max_depth=4, max_values=1000)

REFUSED = {
    "empty": (b"", "form", "document", "cut off"),
    "cut in a length": (b"\xc6\x00", "form", "document", "cut off"),
    "cut in a str": (b"\x81\xa5ab", "form", "", "cut off"),
    "cut in a map": (b"\x82\xa1a\x01", "form", "a", "cut off"),
    "two values": (b"\x01\x02", "form", "document", "1 octets follow"),
    "unused format": (b"\x81\xa1a\xc1", "types", "a", "format 0xc1"),
    "float 32": (b"\x81\xa1a\xca\x00\x00\x00\x00", "types", "a", "float"),
    "NaN": (b"\x81\xa1a\xcb\x7f\xf8" + bytes(6), "types", "a", "float"),
    "extension": (msgpack.packb({"a": {"b": msgpack.ExtType(5, b"x")}}), "types", "a.b", "extension"),
    "timestamp": (msgpack.packb([1, msgpack.Timestamp(1)]), "types", "1", "extension"),
    "number as key": (b"\x81\x01\x02", "keys", "document", "not a str"),
    "bin as key": (b"\x81\xc4\x01a\x02", "keys", "document", "not a str"),
    "nil as key": (b"\x81\xa1a\x81\xc0\x01", "keys", "a", "not a str"),
    "key twice": (b"\x82\xa1a\x01\xa1a\x02", "keys", "document", "'a' occurs twice"),
    "key twice below": (b"\x81\xa1m\x92\x00\x82\xa1a\x01\xa1a\x02", "keys", "m.1", "'a' occurs twice"),
    "key twice in two spellings": (b"\x82\xa1a\x01\xd9\x01a\x02", "keys", "document", "'a' occurs twice"),
    "not UTF-8": (b"\x81\xa1a\xa1\xff", "form", "a", "UTF-8"),
    "too deep": (b"\x91" * 5 + b"\xc0", "bounds", "0.0.0.0", "deeper than 4"),
    "far too deep": (b"\x91" * 100_000, "bounds", "0.0.0.0", "deeper than 4"),
    "too many values": (b"\xdc\x03\xe8" + b"\xc0" * 1000, "bounds", "999", "more than 1000 values"),
    "huge array claimed": (b"\xdd\xff\xff\xff\xff", "form", "0", "cut off"),
    "huge map claimed": (b"\xdf\xff\xff\xff\xff", "form", "", "cut off"),
    "huge bin claimed": (b"\xc6\xff\xff\xff\xff", "form", "document", "cut off"),
    "huge str claimed": (b"\xdb\xff\xff\xff\xff", "form", "document", "cut off"),
    "too long": (b"\xc6\x00\x04\x00\x00" + bytes(1 << 18), "bounds", "document", "at most 262144"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_names_the_kind_and_the_place(name):
    body, kind, where, message = REFUSED[name]
    for refuse in (unpack, scan):
        with pytest.raises(PackedError, match=message) as caught:
            refuse(body, BOUNDS)
        assert caught.value.kind == kind
        assert caught.value.problems[0].where == (where or "document")
        assert isinstance(caught.value, DecodeError)


def test_a_small_body_that_claims_much_costs_nothing():
    for body in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff" * 1000, b"\x90" * SCAN_ABOVE_BYTES * 2):
        with pytest.raises(PackedError):
            unpack(body, BOUNDS._replace(max_bytes=1 << 20))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)
WIDE = Bounds(max_bytes=1 << 18, max_depth=40, max_values=1000)


@settings(deadline=None)
@given(VALUES)
def test_what_is_packed_comes_back(value):
    assert unpack(pack(value, WIDE), WIDE) == value


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"", b"\x81\xa1a", b"\x82\xa1a\xa1b", b"\x92", b"\xde\x00\x02\xa1a"]))
def test_the_decoder_takes_exactly_what_the_scanner_passes(octets, head):
    verdicts = []
    for judge in (scan, unpack):
        try:
            judge(head + octets, BOUNDS)
            verdicts.append("taken")
        except PackedError as error:
            verdicts.append((error.kind, str(error)))
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize(
    "value", [1.5, {"a": 1.5}, {1: 2}, {"a": 2**64}, {"a": object()}, {"a": "\ud800"}, {b"a": b""}]
)
def test_what_no_reader_would_take_is_not_packed(value):
    with pytest.raises(PackedError):
        pack(value, BOUNDS)


def test_a_map_with_more_entries_than_the_bounds_is_not_packed():
    with pytest.raises(PackedError, match="more than 1000 values"):
        pack({str(number): b"" for number in range(500)}, BOUNDS)
    assert pack({str(number): b"" for number in range(499)}, BOUNDS)
