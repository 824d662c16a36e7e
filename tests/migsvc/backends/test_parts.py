import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migsvc.backends.config import MAX_IMAGE_BYTES, Boot, Image, VmConfig, parse_config
from migsvc.backends.console import ConsoleRing
from migsvc.backends.guard import Guard
from migsvc.backends.methods import METHODS
from migsvc.backends.pacing import MAX_AHEAD_NS, MAX_STEPS, MIN_STEPS, TARGET_SLICE_NS, Pacer, SliceSize
from migsvc.backends.params import Param, check_params
from migsvc.backends.ram import GuestRam
from migsvc.backends.rpc import FrameDecoder, FrameError, encode, error_from_map, error_to_map
from migsvc.errors import ConflictError, IllegalStateError, InputError, LimitError, NotOwnerError, WorkerError

# Frames


@given(st.lists(st.dictionaries(st.text(max_size=8), st.binary(max_size=64) | st.integers(0, 99))), st.integers(1, 50))
def test_frames_cut_anywhere_give_the_same_messages(messages, size):
    raw = b"".join(encode(message) for message in messages)
    decoder = FrameDecoder()
    found = [m for at in range(0, len(raw), size) for m in decoder.feed(raw[at : at + size])]
    assert found == messages


@given(st.binary(max_size=200))
def test_any_bytes_give_messages_or_a_frame_error(raw):
    with contextlib.suppress(FrameError):
        assert all(isinstance(message, dict) for message in FrameDecoder(1000).feed(raw))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x01\x02",
        msgpack.packb([1]),
        msgpack.packb({1: 2}),
        msgpack.packb({"a": msgpack.ExtType(1, b"x")}),
    ],
)
def test_a_body_that_is_not_one_map_with_text_keys_is_refused(body):
    with pytest.raises(FrameError):
        list(FrameDecoder().feed(len(body).to_bytes(4, "little") + body))


def test_a_frame_nested_without_end_is_refused():
    body = b"\x81\xa1a" * 5000 + b"\xc0"
    with pytest.raises(FrameError):
        list(FrameDecoder().feed(len(body).to_bytes(4, "little") + body))


def test_a_frame_that_announces_too_much_is_refused_before_it_is_read():
    with pytest.raises(FrameError, match="4294967295 bytes"):
        list(FrameDecoder().feed(b"\xff\xff\xff\xff"))


def test_errors_cross_as_their_own_class_with_everything_they_carry():
    error = IllegalStateError("bad", [{"rule": "INV-001"}], hint="mend it", where="events")
    back = error_from_map(msgpack.unpackb(msgpack.packb(error_to_map(error))))
    assert type(back) is IllegalStateError
    assert (back.detail, back.hint, back.findings) == (error.detail, error.hint, error.findings)
    assert back.extra == error.extra


@pytest.mark.parametrize("raw", [None, {}, {"type": "OSError", "detail": "x"}, {"type": "T"}, {"type": "__doc__"}])
def test_an_unknown_error_is_a_worker_error(raw):
    assert type(error_from_map(raw)) is WorkerError


# Parameters

PARAMS = (
    Param("n", int, least=1, most=5),
    Param("word", str, "a", choices=("a", "b")),
    Param("data", bytes, b"", most=3),
)


def test_defaults_are_filled_in():
    assert check_params("m", PARAMS, {"n": 2}) == {"n": 2, "word": "a", "data": b""}


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ([], "must be a map"),
        ({}, "n is missing"),
        ({"n": True}, "must be int, not bool"),
        ({"n": 6}, "must be 1 to 5, not 6"),
        ({"n": -1}, "must be 1 to 5"),
        ({"n": "1"}, "must be int, not str"),
        ({"n": 1, "word": "c"}, "one of a, b"),
        ({"n": 1, "data": b"1234"}, "of length 0 to 3, not 4"),
        ({"n": 1, "m": 1}, "unknown parameter 'm'"),
    ],
)
def test_wrong_parameters_are_named(raw, text):
    with pytest.raises(InputError, match=text):
        check_params("m", PARAMS, raw)


def test_all_that_is_wrong_is_listed():
    with pytest.raises(InputError, match="unknown parameter 'x'; n is missing; word"):
        check_params("m", PARAMS, {"x": 1, "word": "c"})


def test_every_method_is_documented_and_its_defaults_are_legal():
    for name, method in METHODS.items():
        assert method.doc, name
        given_all = {p.name: p.default for p in method.params if isinstance(p.default, int | str | bytes)}
        required = {p.name for p in method.params} - set(given_all)
        fill = {
            p.name: {int: p.least, dict: {}, list: [0], bytes: b""}[p.kind] for p in method.params if p.name in required
        }
        check_params(name, method.params, {**given_all, **fill})


@given(
    st.builds(
        VmConfig,
        backend=st.text(max_size=8),
        guest=st.none() | st.text(max_size=8),
        guest_params=st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=3),
        images=st.lists(
            st.builds(Image, st.integers(0, 1), st.integers(0, 2**64 - 1), st.binary(max_size=9)), max_size=3
        ).map(tuple),
        boot=st.none()
        | st.builds(Boot, st.sampled_from(["bios", "multiboot"]), st.binary(max_size=9), st.text(max_size=9)),
        entry=st.none() | st.integers(0, 0x10FFEF),
        cpu_model=st.none() | st.text(max_size=8),
        board=st.none() | st.text(max_size=8),
        ram_bytes=st.none() | st.integers(1, 64 << 30),
        epoch=st.integers(1, 2**60),
        incoming=st.booleans(),
        paced=st.booleans(),
    )
)
def test_a_configuration_crosses_the_socket_unchanged(config):
    assert parse_config(msgpack.unpackb(msgpack.packb(config.to_map()))) == config


@pytest.mark.parametrize(
    "wrong",
    [
        {"guest_params": {"a": "b"}},
        {"images": [{"gpa": 1}]},
        {"images": [1]},
        {"boot": {"kind": "floppy", "data": b""}},
        {"boot": {"kind": "bios"}},
        {"boot": {"kind": "bios", "data": "text"}},
        {"boot": {"kind": "bios", "data": bytes(MAX_IMAGE_BYTES)}, "images": [{"gpa": 0, "data": b"x"}]},
        {"entry": 1 << 21},
        {"ram_bytes": 1 << 40},
        {"epoch": 0},
        {"x": 1},
    ],
)
def test_a_wrong_configuration_is_refused(wrong):
    with pytest.raises(InputError):
        parse_config(wrong)


# Guard


def test_a_grant_opens_once_and_may_be_repeated():
    guard = Guard(3, incoming=True)
    for epoch in (2, 3):
        with pytest.raises(ConflictError):
            guard.grant(epoch)
    guard.grant(4)
    guard.grant(4)
    guard.require(4)
    with pytest.raises(ConflictError):
        guard.grant(5)


def test_a_fence_is_for_good_and_may_be_repeated():
    guard = Guard(3, incoming=False)
    with pytest.raises(ConflictError):
        guard.fence(3)
    guard.require(3)
    guard.fence(4)
    guard.fence(4)
    for call in (guard.require, lambda: guard.grant(5), lambda: guard.grant(4)):
        with pytest.raises(NotOwnerError):
            call()


# Console


def test_the_ring_keeps_the_last_bytes_under_their_offsets():
    ring = ConsoleRing(max_bytes=5)
    ring.append(b"abc")
    ring.append(b"defg")
    assert (ring.base, ring.end) == (2, 7)
    assert ring.read(0, 100) == (2, b"cdefg")
    assert ring.read(4, 2) == (4, b"ef")
    assert ring.read(99, 100) == (7, b"")


@pytest.mark.parametrize(("offset", "data"), [(0, b"abcd"), (5, b"x"), (-1, b"abcdef")])
def test_history_that_does_not_end_at_the_present_end_is_refused(offset, data):
    ring = ConsoleRing()
    ring.restart(5)
    with pytest.raises(InputError, match="does not end where"):
        ring.load(offset, data)
    assert (ring.base, ring.end) == (5, 5)


def test_history_is_cut_to_the_bound():
    ring = ConsoleRing(max_bytes=3)
    ring.restart(10)
    ring.load(4, b"456789")
    assert ring.read(0, 100) == (7, b"789")


# Pacing


def test_a_slice_comes_to_take_its_time():
    size = SliceSize()
    for _ in range(100):
        size.learn(size.steps, size.steps * 500)
    assert TARGET_SLICE_NS * 0.9 < size.steps * 500 < TARGET_SLICE_NS * 1.1
    for _ in range(100):
        size.learn(size.steps, 1)
    assert size.steps == MAX_STEPS
    for _ in range(100):
        size.learn(size.steps, 1 << 50)
    assert size.steps == MIN_STEPS


def test_an_idle_guest_sleeps_as_long_as_it_is_ahead():
    pacer = Pacer(paced=True)
    pacer.begin(0)
    assert pacer.wait_ns(1_000_000, 10_000_000, 9_000_000) == 9_000_000
    assert pacer.wait_ns(10_000_000, 5_000_000, 5_000_000) == 5_000_000


def test_a_busy_guest_never_sleeps_and_time_lost_is_caught_up_within_bounds():
    pacer = Pacer(paced=True)
    pacer.begin(0)
    assert pacer.wait_ns(1_000_000, 9_000_000, 0) == 0
    pacer.begin(0)
    assert pacer.wait_ns(10_000_000_000, 1_000_000, 0) == 0
    assert pacer.wait_ns(10_000_000_000, 60_000_000, 60_000_000) == 10_000_000


def test_a_long_wait_is_capped_and_an_unpaced_guest_never_waits():
    pacer = Pacer(paced=True)
    pacer.begin(0)
    assert pacer.wait_ns(0, 10**12, 10**12) == MAX_AHEAD_NS
    assert Pacer(paced=False).wait_ns(0, 10**12, 10**12) == 0


# RAM


def test_guest_ram_cannot_shrink_under_its_mappings():
    import os

    ram = GuestRam.create(8192)
    try:
        assert bytes(ram.map) == bytes(8192)
        for size in (4096, 12288):
            with pytest.raises(PermissionError):
                os.ftruncate(ram.fd, size)
    finally:
        ram.close()


@pytest.mark.parametrize("size", [0, -4096, 4095, (64 << 30) + 4096])
def test_a_size_of_ram_that_cannot_be_is_refused(size):
    with pytest.raises(LimitError):
        GuestRam.create(size)
