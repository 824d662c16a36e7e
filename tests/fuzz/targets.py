"""Fuzz targets: each takes any octets; whatever it raises, or an oracle that does not hold, is a finding.

A decoder may refuse (SchemaError, StreamError, PackingError); nothing else. What it takes comes out again unchanged.
Run by `tests/fuzz/test_fuzz_corpus.py` on the corpus, by `make fuzz` for as long as one likes.
"""

from __future__ import annotations

import importlib.util
import io
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from emulator.bridge import host_profile
from migsvc.stream import MachineLoader, StreamError
from migsvc.stream.packing import PackingError, pack_map, unpack_map
from migsvc.stream.verify import verify_stream
from migsvc.stream.verify_values import RefusedError, Unpacker
from schemas.codec.documents import (
    machine_from_json,
    pack_machine,
    pack_vcpu,
    unpack_machine,
    unpack_vcpu,
    vcpu_from_json,
)
from schemas.codec.packing import unpack
from schemas.codec.sections import SECTIONS_BOUNDS, LazyVcpu, decode_sections, encode_sections
from schemas.codec.text import TextBounds, decode_json
from schemas.compat import HostProfile, baseline, check_compat
from schemas.diff import diff_states
from schemas.errors import SchemaError
from schemas.evolution import SchemaExport, load_export
from schemas.invariants import check_state
from schemas.ordering import check_order, restore_order
from schemas.paths import format_path, get, parse
from schemas.shadow import SmmCarrier, convert_carrier
from schemas.state import MachineState, VcpuState, VmState, section_problems
from schemas.uapi import SECTIONS, VCPU_SECTIONS
from schemas.views.page import page
from schemas.views.sections import vcpu_of, view_vcpu, views_json
from schemas.views.text import page_lines

KIT = Path(__file__).parents[1] / "migsvc" / "stream" / "conftest.py"


def _load_kit():
    spec = importlib.util.spec_from_file_location("fuzz_stream_kit", KIT)
    kit = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = kit  # dataclasses look their module up by name
    spec.loader.exec_module(kit)
    return kit


KIT_MODULE = _load_kit()
SMITH = KIT_MODULE.StreamSmith()


class Wrong(AssertionError):
    """An oracle does not hold."""


def hold(condition: bool, message: str) -> None:
    if not condition:
        raise Wrong(message)


def vcpu_json(data: bytes) -> None:
    try:
        state = vcpu_from_json(data)
    except SchemaError as error:
        return hold(bool(error.problems), "refused without a reason")
    hold(vcpu_from_json(state.model_dump_json()) == state, "JSON does not come back")
    return hold(unpack_vcpu(pack_vcpu(state)) == state, "MessagePack does not come back")


def machine_json(data: bytes) -> None:
    try:
        state = machine_from_json(data)
    except SchemaError as error:
        return hold(bool(error.problems), "refused without a reason")
    return hold(machine_from_json(state.model_dump_json()) == state, "JSON does not come back")


def vcpu_msgpack(data: bytes) -> None:
    try:
        state = unpack_vcpu(data)
    except SchemaError as error:
        return hold(bool(error.problems), "refused without a reason")
    hold(unpack_vcpu(pack_vcpu(state)) == state, "MessagePack does not come back")
    return hold(vcpu_from_json(state.model_dump_json()) == state, "JSON does not come back")


def machine_msgpack(data: bytes) -> None:
    try:
        state = unpack_machine(data)
    except SchemaError as error:
        return hold(bool(error.problems), "refused without a reason")
    return hold(unpack_machine(pack_machine(state)) == state, "MessagePack does not come back")


def sections(data: bytes) -> None:
    """The fast way and the slow way of the hot path agree; what they take unpacks and packs to the same octets."""
    for scope in ("vcpu", "vm"):
        try:
            slow = unpack(data, SECTIONS_BOUNDS)
            if not isinstance(slow, dict) or section_problems(slow, scope):
                slow = None
        except SchemaError:
            slow = None
        try:
            fast = decode_sections(data, scope)
        except SchemaError as error:
            hold(bool(error.problems), "refused without a reason")
            fast = None
        hold(fast == slow, "the two ways disagree")
        if fast is not None:
            hold(decode_sections(encode_sections(fast, scope), scope) == fast, "sections do not come back")
        if fast is not None and scope == "vcpu":
            state = LazyVcpu(fast, index=3).state()
            hold(state.to_sections() == {name: fast[name] for name in VCPU_SECTIONS if name in fast}, "octets change")
            hold(VcpuState.from_sections(fast, index=3) == state, "lazy differs")


def packing(data: bytes) -> None:
    """Two decoders written apart agree on what a MessagePack body is."""
    results = []
    for decode in (unpack_map, lambda raw: Unpacker(raw).whole()):
        try:
            results.append(decode(data))
        except (PackingError, RefusedError):
            results.append("refused")
    hold(results[0] == results[1], "the decoders disagree")
    if results[0] != "refused":
        hold(unpack_map(pack_map(results[0])) == results[0], "the map does not come back")


MAX_RAM = 16 << 20


def stream(data: bytes) -> None:
    """Reader and verifier agree. An odd first octet: the record headers and CRCs are mended first, so bodies count."""
    if not data:
        return
    octets = data[1:]
    if data[0] & 1:
        try:
            octets = SMITH.join(*SMITH.split(octets), fix_end=bool(data[0] & 2))
        except Exception:
            octets = data[1:]
    too_much = []

    def allocate(config):
        if config.memory.ram_bytes > MAX_RAM:
            too_much.append(1)
            raise MemoryError
        return bytearray(config.memory.ram_bytes)

    loader, rule = MachineLoader(allocate), None
    try:
        loader.feed(octets)
        loader.close()
    except StreamError as error:
        rule = error.rule
    except MemoryError:
        hold(bool(too_much), "out of memory")
        return
    report = verify_stream(io.BytesIO(octets).read)
    hold(report.ok == (rule is None), f"reader {rule}, verifier {report.violations[:3]}")


def profile_json(data: bytes) -> None:
    try:
        profile = decode_json(HostProfile, data)
    except SchemaError as error:
        return hold(bool(error.problems), "refused without a reason")
    hold(decode_json(HostProfile, profile.model_dump_json()) == profile, "JSON does not come back")
    check_compat(profile, PROFILE).model_dump_json()
    check_compat(PROFILE, profile).model_dump_json()
    return hold(bool(baseline([PROFILE, profile]).model_dump_json()), "no baseline")


def export_json(data: bytes) -> None:
    """An export, as it is and with its digest made right."""
    try:
        mended = decode_json(SchemaExport, data, TextBounds(max_bytes=len(data), max_values=len(data) + 1))
        data = json.dumps({**json.loads(data), "digest": mended.computed_digest()}).encode()
    except SchemaError:
        pass
    try:
        load_export(data)
    except SchemaError as error:
        hold(bool(error.problems), "refused without a reason")


def paths(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    try:
        parts = parse(text)
        hold(parse(format_path(parts)) == parts, "the path does not come back")
        get(SAMPLE, parts)
    except SchemaError as error:
        hold(bool(error.problems), "refused without a reason")


def structs(data: bytes) -> None:
    """Octets of any struct: raw -> model -> raw and model -> JSON -> model are identities."""
    row = SECTIONS[data[0] % len(SECTIONS)] if data else SECTIONS[0]
    raw = data[1:]
    refused = row.model.misfit(raw) is not None
    try:
        held = row.model.unpack(raw)
    except SchemaError:
        return hold(refused, "unpack and misfit disagree")
    hold(not refused, "unpack and misfit disagree")
    hold(held.pack() == raw, "octets change")
    return hold(row.model.model_validate_json(held.model_dump_json()) == held, "JSON does not come back")


def overlaid(data: bytes) -> VcpuState | None:
    """Return a vCPU with every section over which the octets are laid, piece by piece; None if a count became wrong."""
    raw, at = dict(FULL.to_sections()), 0
    while at + 4 <= len(data):
        name = list(raw)[data[at] % len(raw)]
        place, length = int.from_bytes(data[at + 1 : at + 3], "little"), data[at + 3] % 33
        piece, body = data[at + 4 : at + 4 + length], bytearray(raw[name])
        place %= len(body)
        body[place : place + len(piece)] = piece[: len(body) - place]
        raw[name] = bytes(body)
        at += 4 + length
    return None if section_problems(raw, "vcpu") else VcpuState.from_sections(raw)


def legality(data: bytes) -> None:
    """No rule and no compatibility rule fails on any state."""
    state = overlaid(data)
    if state is None:
        return
    for vendor in (None, "GenuineIntel", "AuthenticAMD"):
        for finding in check_state(state, host_vendor=vendor):
            json.dumps(finding.model_dump(mode="json"))
    machine = MachineState(memory=SMITH.memory, vm=VmState(), vcpus=[state])
    check_compat(machine, PROFILE).model_dump_json()


def views(data: bytes) -> None:
    """The decoded views lose nothing; the page of any state can be written."""
    state = overlaid(data)
    if state is None:
        return
    decoded = view_vcpu(state)
    hold(vcpu_of(decoded, index=state.index) == state, "the views lose something")
    json.dumps(views_json(decoded))
    for everything in (False, True):
        list(page_lines(page(state, everything=everything)))


def conversions(data: bytes) -> None:
    """Carriers, versions and differences of any state: no failure, and the difference to itself is none."""
    state = overlaid(data)
    if state is None:
        return
    for carrier in (None, *SmmCarrier):
        try:
            convert_carrier(state, carrier, None)
        except SchemaError as error:
            hold(bool(error.problems), "refused without a reason")
    hold(not diff_states(state, state).changes, "a state differs from itself")
    diff_states(FULL, state).model_dump_json()
    order = [step.name for step in restore_order(state)]
    hold(not check_order(order, restore_order(state)), "the restore order breaks its own rows")


def sample_vcpu() -> VcpuState:
    """A vCPU with the required sections, three MSRs and two CPUID leaves."""
    raw = {name: body for name, body in SMITH.vcpus[0].items() if VCPU_SECTIONS[name].required}
    raw["msrs"] = struct.pack("<II", 3, 0) + b"".join(
        struct.pack("<IIQ", number, 0, value)
        for number, value in ((0x1B, 0xFEE00900), (0xC0000080, 0x500), (0x277, 0x0007040600070406))
    )
    raw["cpuid2"] = struct.pack("<II", 2, 0) + b"".join(
        struct.pack("<7I12x", *leaf)
        for leaf in ((0, 0, 0, 0xD, 0x756E6547, 0x6C65746E, 0x49656E69), (0xD, 0, 1, 7, 0x340, 0x340, 0))
    )
    return VcpuState.from_sections(raw)


SAMPLE = sample_vcpu()
FULL = VcpuState.from_sections({**SMITH.vcpus[0], **SAMPLE.to_sections()})
"""With every optional section."""
PROFILE = host_profile("host")


class Target(NamedTuple):
    run: Callable[[bytes], None]
    max_bytes: int
    form: str = "octets"
    """What a mutator may take it for: octets, json or msgpack."""


TARGETS: dict[str, Target] = {
    "vcpu_json": Target(vcpu_json, 1 << 16, "json"),
    "machine_json": Target(machine_json, 1 << 16, "json"),
    "vcpu_msgpack": Target(vcpu_msgpack, 1 << 15, "msgpack"),
    "machine_msgpack": Target(machine_msgpack, 1 << 15, "msgpack"),
    "sections": Target(sections, 1 << 15, "msgpack"),
    "packing": Target(packing, 1 << 12, "msgpack"),
    "stream": Target(stream, 1 << 16),
    "profile_json": Target(profile_json, 1 << 16, "json"),
    "export_json": Target(export_json, 1 << 17, "json"),
    "paths": Target(paths, 512),
    "structs": Target(structs, 1 << 14),
    "legality": Target(legality, 4096),
    "views": Target(views, 4096),
    "conversions": Target(conversions, 4096),
}
