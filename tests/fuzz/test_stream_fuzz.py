"""Any octets give records or StreamError: fed whole, one by one, and in random pieces.

The reader and the verifier are two implementations: they must agree on every stream that anybody can think of.
"""

import importlib.util
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migsvc.stream import MachineLoader, StreamError
from migsvc.stream.packing import PackingError, pack_map, unpack_map
from migsvc.stream.verify_values import RefusedError, Unpacker

KIT = Path(__file__).parents[1] / "migsvc" / "stream" / "conftest.py"


def load_kit():
    spec = importlib.util.spec_from_file_location("stream_smith_kit", KIT)
    kit = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.

    sys.modules[spec.name] = kit
    spec.loader.exec_module(kit)
    return kit


SMITH = load_kit().StreamSmith()
BASES = [SMITH.snapshot(), SMITH.migration()]


def feed(stream, pieces):
    """Return (records, error) of a loader fed in pieces of these sizes, repeated."""
    loader, records, at, i = MachineLoader(lambda config: bytearray(config.memory.ram_bytes)), [], 0, 0
    try:
        while at < len(stream):
            records += loader.feed(stream[at : at + pieces[i % len(pieces)]])
            at, i = at + pieces[i % len(pieces)], i + 1
        loader.close()
    except StreamError as error:
        return records, error.rule
    return records, None


@st.composite
def mutated(draw):
    """A good stream with a few changes: octets, cuts, splices; sometimes with headers and CRCs mended."""
    stream = bytearray(draw(st.sampled_from(BASES)))
    if draw(st.booleans()):
        return mended(draw, bytes(stream))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(stream) - 1, 0)))
        match draw(st.sampled_from(["set", "cut", "delete", "insert", "repeat"])):
            case "set":
                stream[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case "cut":
                del stream[at:]
            case "delete":
                del stream[at : at + draw(st.integers(1, 64))]
            case "insert":
                stream[at:at] = draw(st.binary(max_size=64))
            case "repeat":
                stream[at:at] = stream[at : at + draw(st.integers(1, 128))]
    return bytes(stream)


def mended(draw, stream):
    """Change bodies and the order of records, and mend every CRC, so that what lies behind the CRCs is reached."""
    header, parts = SMITH.split(stream)
    for _ in range(draw(st.integers(1, 3))):
        i = draw(st.integers(0, len(parts) - 1))
        body = bytearray(parts[i].body)
        match draw(st.sampled_from(["octet", "octet", "type", "move", "drop", "double", "head", "grow"])):
            case "octet":
                at = draw(st.integers(0, min(len(body) - 1, draw(st.sampled_from([40, 400, 20000])))))
                body[at] = draw(st.integers(0, 255))
                parts[i] = type(parts[i])(parts[i].type, bytes(body))
            case "type":
                kind = draw(st.sampled_from([*range(10), 0x8000_0001, 0xC000_0001, 0x4000_0001]))
                parts[i] = type(parts[i])(kind, bytes(body))
            case "move":
                parts.insert(draw(st.integers(0, len(parts))), parts.pop(i))
            case "drop" if len(parts) > 1:
                parts.pop(i)
            case "double":
                parts.insert(i, parts[i])
            case "head":
                header = SMITH.file_header(flags=draw(st.integers(0, 3)))
            case "grow":
                parts[i] = type(parts[i])(parts[i].type, bytes(body) + draw(st.binary(max_size=20)))
    return SMITH.join(header, parts, fix_end=draw(st.booleans()))


@settings(max_examples=300, deadline=None)
@given(stream=mutated(), pieces=st.lists(st.integers(1, 5000), min_size=1, max_size=5))
def test_mutated_streams_give_records_or_stream_error_however_they_are_cut(stream, pieces):
    whole = feed(stream, [max(len(stream), 1)])
    split = feed(stream, pieces)
    # Records that were complete before the error may differ: a piece is judged as a whole. The verdict may not.
    assert split[1] == whole[1]
    if whole[1] is None:
        assert split[0] == whole[0]


@settings(max_examples=300, deadline=None)
@given(stream=mutated())
def test_reader_and_verifier_agree_on_mutated_streams(stream):
    _, rule = feed(stream, [max(len(stream), 1)])
    report = SMITH.verify(stream)
    assert report.ok == (rule is None), (rule, report.violations[:3])


@pytest.mark.parametrize("base", range(len(BASES)))
def test_stream_fed_octet_by_octet_gives_the_same_records(base):
    assert feed(BASES[base], [1]) == feed(BASES[base], [len(BASES[base])])


@settings(max_examples=200, deadline=None)
@given(octets=st.binary(max_size=300), magic=st.booleans())
def test_any_octets_are_refused_by_both(octets, magic):
    stream = BASES[0][:64] + octets if magic else octets
    assert feed(stream, [7])[1] is not None
    assert not SMITH.verify(stream).ok


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=6,  # so that no value is nested deeper than the limit
)


@given(value=st.dictionaries(st.text(max_size=5), VALUES, max_size=5))
def test_both_decoders_return_what_was_packed(value):
    packed = pack_map(value)
    assert unpack_map(packed) == value
    assert Unpacker(packed).whole() == value


@settings(max_examples=1000, deadline=None)
@given(
    octets=st.binary(max_size=40),
    form=st.sampled_from([b"", b"\x81\xa1a", b"\x82\xa1a", b"\x92", b"\xde\x00\x02\xa1a"]),
)
def test_both_decoders_agree_on_any_octets(octets, form):
    both = []
    for decode in (unpack_map, lambda raw: Unpacker(raw).whole()):
        try:
            both.append(decode(form + octets))
        except (PackingError, RefusedError):
            both.append("refused")
    assert both[0] == both[1]


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(8))
def test_reader_and_verifier_agree_on_many_random_changes(seed):
    rng = random.Random(seed)
    for _ in range(20_000):
        stream = bytearray(rng.choice(BASES))
        header, parts = SMITH.split(bytes(stream))
        for _ in range(rng.randint(1, 3)):
            i = rng.randrange(len(parts))
            body = bytearray(parts[i].body)
            body[rng.randrange(min(len(body), rng.choice([8, 64, 512, 1 << 20])))] = rng.randrange(256)
            parts[i] = type(parts[i])(parts[i].type, bytes(body))
        forged = SMITH.join(header, parts, fix_end=rng.random() < 0.8)
        _, rule = feed(forged, [len(forged)])
        assert SMITH.verify(forged).ok == (rule is None), rule
