"""The hot path: raw sections in MessagePack, checked without being built, built when somebody looks."""

import msgpack
import pytest
from hypothesis import given, settings

from schemas.codec.packing import SCAN_ABOVE_BYTES
from schemas.codec.sections import LazyVcpu, decode_sections, encode_sections
from schemas.errors import DecodeError, SchemaError
from schemas.state import VcpuState, section_problems
from schemas.uapi import VCPU_SECTIONS

from .conftest import SEEDS, raw_sections


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_sections_of_both_scopes_come_back(seed):
    for scope in ("vcpu", "vm"):
        sections = raw_sections(scope, seed)
        assert decode_sections(encode_sections(sections, scope), scope) == sections


def test_a_large_body_takes_the_slow_way_and_comes_back_too(sections):
    large = {**sections, "xsave": sections["xsave"][:4096] + bytes(60 * 1024)}
    body = encode_sections(large, "vcpu")
    assert len(body) > SCAN_ABOVE_BYTES
    assert decode_sections(body, "vcpu") == large


def test_a_lazy_vcpu_is_the_whole_one_when_all_of_it_is_asked_for(all_sections):
    lazy = LazyVcpu(all_sections, index=5)
    assert lazy.events is lazy.events
    assert lazy.regs == VCPU_SECTIONS["regs"].model.unpack(all_sections["regs"])
    assert lazy.state() == VcpuState.from_sections(all_sections, index=5)
    assert lazy.state().to_sections() == all_sections


def test_a_lazy_vcpu_builds_only_what_is_asked_for(sections, monkeypatch):
    built = []
    for name, row in VCPU_SECTIONS.items():
        original = row.model.unpack
        monkeypatch.setattr(row.model, "unpack", lambda raw, name=name, to=original: (built.append(name), to(raw))[1])
    lazy = LazyVcpu(sections)
    assert built == []
    assert lazy.mp_state is not None
    assert built == ["mp_state"]


def test_a_section_that_the_vcpu_does_not_have_is_none_and_an_unknown_one_an_error(sections):
    lazy = LazyVcpu({name: raw for name, raw in sections.items() if name != "sregs2"})
    assert lazy.sregs2 is None
    with pytest.raises(AttributeError, match="no section 'nonsense'"):
        _ = lazy.nonsense


BAD = {
    "missing": (lambda s: s.pop("regs"), "regs", "required section is missing"),
    "unknown": (lambda s: s.update(nonsense=b""), "nonsense", "unknown section"),
    "short": (lambda s: s.update(regs=b"short"), "regs", "5 bytes, expected 144"),
    "long": (lambda s: s.update(regs=bytes(145)), "regs", "145 bytes, expected 144"),
    "text": (lambda s: s.update(regs="text"), "regs", "str instead of bytes"),
    "nil": (lambda s: s.update(sregs2=None), "sregs2", "NoneType instead of bytes"),
    "map": (lambda s: s.update(regs={"rip": b""}), "regs", "dict instead of bytes"),
    "false count": (lambda s: s.update(msrs=b"\x02" + bytes(7) + bytes(16)), "msrs", "says 2, but 1 are there"),
    "half an entry": (lambda s: s.update(msrs=b"\x01" + bytes(7) + bytes(15)), "msrs", "a multiple of 16"),
    "too many entries": (lambda s: s.update(msrs=bytes(8 + 16 * 1025)), "msrs", "1025 elements, at most 1024"),
}


@pytest.mark.parametrize("name", BAD)
def test_sections_that_do_not_fit_are_refused_with_their_path_on_both_ways_and_by_the_writer(name, sections):
    change, where, message = BAD[name]
    bad = dict(sections)
    change(bad)
    for refuse in (
        lambda: decode_sections(msgpack.packb(bad), "vcpu", index=4),
        lambda: encode_sections(bad, "vcpu", index=4),
        lambda: LazyVcpu(bad, index=4),
    ):
        with pytest.raises(SchemaError, match=message) as caught:
            refuse()
        assert [problem.where for problem in caught.value.problems] == [f"vcpus.4.{where}"]


def test_every_problem_is_listed(sections):
    bad = {**sections, "regs": b"", "lapic": b"", "nonsense": b""}
    del bad["xsave"]
    places = {problem.where for problem in section_problems(bad, "vcpu")}
    assert places == {"vcpus.0.regs", "vcpus.0.lapic", "vcpus.0.nonsense", "vcpus.0.xsave"}


def test_a_key_twice_is_refused_where_the_last_one_would_have_won(sections):
    good = msgpack.packb(sections)
    count = len(sections)
    head = 1 if good[0] != 0xDE else 3
    twice = b"\xde" + (count + 1).to_bytes(2, "big") + good[head:] + msgpack.packb("regs") + msgpack.packb(bytes(144))
    with pytest.raises(DecodeError, match="'regs' occurs twice"):
        decode_sections(twice, "vcpu")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x90",
        b"\xc0",
        b"\xde\xff\xff",
        b"\xdf\x00\x00\x00\x01",
        b"\x81\xa4regs\xc7\x01\x05x",
        b"\x81\xa4regs\xcb" + bytes(8),
    ],
)
def test_what_is_no_map_of_octets_is_refused(body):
    with pytest.raises(SchemaError):
        decode_sections(body, "vcpu")


def test_the_scope_says_which_sections_there_are(sections):
    with pytest.raises(SchemaError, match="unknown section"):
        decode_sections(encode_sections(sections, "vcpu"), "vm")
    assert decode_sections(b"\x80", "vm") == {}
