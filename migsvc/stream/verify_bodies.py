"""The verifier's view of record bodies: one check for each type of record."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import Any

from schemas.memory import MemoryMap, MemorySlot
from schemas.state import VcpuState, section_problems, sections_digest
from schemas.versions import VERSIONS

from .records import (
    DIGEST_ALGORITHM,
    MAX_PAGES_PER_RECORD,
    MAX_ROUNDS,
    MAX_RUNS_PER_MEMORY,
    MAX_RUNS_PER_ZERO,
    MAX_VCPUS,
    PAGE_BYTES,
)
from .verify_values import Pages, RefusedError, Unpacker

Finding = tuple[str, str]
"""(rule, text)."""


class Machine:
    """What the verifier knows of the machine in the stream."""

    def __init__(self, budget: int) -> None:
        """Take the budget for guest pages in octets."""
        self.budget = budget
        self.schema_version = 0
        self.snapshot = False
        self.memory_checked = False
        self.config: dict[str, Any] | None = None
        self.map: MemoryMap | None = None
        self.pages: Pages | None = None
        self.round = [0, 0, 0]
        self.ends = {"MEMORY": 0, "ZERO": 0}
        self.vcpus: list[dict[str, Any]] = []
        self.state = hashlib.sha256(b"migsvc state 1\0")
        self.digests: dict[str, str] = {}

    def summary(self) -> dict[str, Any]:
        """Return what was learnt, JSON-ready."""
        config = {k: v for k, v in (self.config or {}).items() if k != "memory"}
        ram_bytes = self.map.ram_bytes if self.map else None
        return {
            "config": config, "ram_bytes": ram_bytes, "rounds": self.round[0], "vcpus": self.vcpus,
            "digests": self.digests, "memory_checked": self.memory_checked,
        }  # fmt: skip


def check_body(name: str, body: bytes, machine: Machine) -> Iterator[Finding]:
    """Yield what is wrong with the body of a record (END excepted), and note what it says.

    Raises:
        RefusedError: the body cannot be understood.
    """
    return _CHECKS[name](body, machine)


def _is(value: object, kind: str) -> bool:
    if kind == "u64":
        return type(value) is int and 0 <= value < 1 << 64
    return isinstance(value, str) and 0 < len(value) < 256


_CONFIG_KINDS = {
    "vm_id": "name", "vm_name": "name", "backend": "name", "guest": "name", "epoch": "u64", "source_host": "name",
    "schema_version": "u64", "memory": "", "vcpus": "u64", "machine": "", "digest_algorithm": "u64",
}  # fmt: skip


def _config(body: bytes, machine: Machine) -> Iterator[Finding]:
    value = Unpacker(body).whole()
    if set(value) != set(_CONFIG_KINDS):
        raise RefusedError("STR-040", "missing or unknown keys")
    for name, kind in _CONFIG_KINDS.items():
        if kind and not _is(value[name], kind) and not (name == "guest" and value[name] is None):
            raise RefusedError("STR-040", f"{name} is not a {kind}")
    parameters, memory = value["machine"], value["memory"]
    if not 1 <= value["vcpus"] <= MAX_VCPUS or not isinstance(parameters, dict) or len(parameters) > 64:
        raise RefusedError("STR-040", "vcpus or machine is out of bounds")
    if not all(_is(k, "name") and (_is(v, "u64") or _is(v, "name")) for k, v in parameters.items()):
        raise RefusedError("STR-040", "machine holds something else than str -> u64 or str")
    if not isinstance(memory, dict) or set(memory) != {"ram_bytes", "slots"} or not _is(memory["ram_bytes"], "u64"):
        raise RefusedError("STR-040", "memory is not {ram_bytes, slots}")
    if not isinstance(memory["slots"], list):
        raise RefusedError("STR-040", "slots is not an array")
    machine.config = value
    machine.map = _memory_map(memory)
    machine.pages = Pages(machine.map.ram_bytes, ascending=machine.snapshot, budget=machine.budget)
    if value["digest_algorithm"] != DIGEST_ALGORITHM:
        yield "STR-042", f"digest algorithm {value['digest_algorithm']} is not known"
    if value["schema_version"] != machine.schema_version:
        yield "STR-043", f"schema version {value['schema_version']} differs from the file header's"


def _memory_map(memory: dict[str, Any]) -> MemoryMap:
    slots = []
    for row in memory["slots"]:
        if not isinstance(row, list) or len(row) != 6 or not all(_is(n, "u64") for n in row):
            raise RefusedError("STR-040", "a slot is not six u64")
        slots.append(row)
    try:
        made = [
            MemorySlot(as_id=r[0], slot=r[1], gpa=r[2], size_bytes=r[3], flags=r[4], backing_offset_bytes=r[5])
            for r in slots
        ]
        found = MemoryMap(slots=tuple(made), ram_bytes=memory["ram_bytes"])
    except ValueError as error:
        raise RefusedError("STR-041", f"the memory map is not legal: {str(error)[:200]}") from error
    end = 0
    for _, _, offset, size in sorted(found.extents(), key=lambda e: e[2]):
        if offset != end:
            raise RefusedError("STR-041", f"no slot shows the backing at {end:#x}")
        end = offset + size
    if end != found.ram_bytes:
        raise RefusedError("STR-041", f"no slot shows the backing at {end:#x}")
    return found


def _runs(body: bytes, machine: Machine, name: str) -> list[tuple[int, int]]:
    """Return the (offset, size) of each run of MEMORY or ZERO."""
    as_id, count = struct.unpack_from("<II", body)
    pages = name == "MEMORY"
    if not 1 <= count <= (MAX_RUNS_PER_MEMORY if pages else MAX_RUNS_PER_ZERO) or 8 + 16 * count > len(body):
        raise RefusedError("STR-050", f"{count} runs do not fit")
    runs = [struct.unpack_from("<QQ", body, 8 + 16 * i) for i in range(count)]
    total = sum(n for _, n in runs)
    if len(body) - 8 - 16 * count != (total * PAGE_BYTES if pages else 0) or (pages and total > MAX_PAGES_PER_RECORD):
        raise RefusedError("STR-050", f"{total} pages and {count} runs do not fit a body of {len(body)} octets")
    if machine.map is None:
        raise RefusedError("STR-020", "the memory map is not known")
    spans = []
    for gpa, n in runs:
        inside = [
            (e.backing_offset_bytes + gpa - e.gpa, n * PAGE_BYTES)
            for e in machine.map.extents()
            if e.as_id == as_id and n > 0 and e.gpa <= gpa and gpa + n * PAGE_BYTES <= e.gpa + e.size_bytes
        ]
        if not inside or gpa % PAGE_BYTES:
            raise RefusedError("STR-051", f"{n} pages at {gpa:#x} of address space {as_id} are not inside one extent")
        spans += inside
    for offset, size in spans:
        if offset < machine.ends[name]:
            raise RefusedError("STR-053", f"offset {offset:#x} comes after {machine.ends[name]:#x} in one round")
        machine.ends[name] = offset + size
    machine.round[1 if pages else 2] += total
    return spans


def _memory(body: bytes, machine: Machine) -> Iterator[Finding]:
    spans = _runs(body, machine, "MEMORY")
    at = 8 + 16 * len(spans)
    for offset, size in spans:
        if machine.pages is not None:
            machine.pages.write(offset, memoryview(body)[at : at + size])
        at += size
    return iter(())


def _zero(body: bytes, machine: Machine) -> Iterator[Finding]:
    for offset, size in _runs(body, machine, "ZERO"):
        if machine.pages is not None:
            machine.pages.clear(offset, size)
    if machine.snapshot:
        yield "STR-054", "ZERO in a stream flagged SNAPSHOT"


def _round_end(body: bytes, machine: Machine) -> Iterator[Finding]:
    number, reserved, pages, zero_pages = struct.unpack("<IIQQ", body)
    before, counted = machine.round[0], machine.round[1:]
    machine.round, machine.ends = [number, 0, 0], {"MEMORY": 0, "ZERO": 0}
    if reserved:
        yield "STR-005", "reserved octets of ROUND_END are not zero"
    if number != before + 1 or number > MAX_ROUNDS:
        yield "STR-055", f"round {number} ends after round {before}"
    if [pages, zero_pages] != counted:
        yield "STR-056", f"ROUND_END counts {pages} and {zero_pages} pages, there were {counted[0]} and {counted[1]}"
    if machine.snapshot and number > 1:
        yield "STR-054", "a second round in a stream flagged SNAPSHOT"


def _sections(raw: bytes, machine: Machine, scope: str) -> dict[str, Any]:
    value = Unpacker(raw).whole()
    for name, body in value.items():
        if not isinstance(body, bytes):
            raise RefusedError("STR-060", f"section {name[:64]} is not bin")
    problems = section_problems(value, scope)
    if problems:
        raise RefusedError("STR-060", "; ".join(map(str, problems))[:1000])
    for version in VERSIONS:
        known = version.vm_sections if scope == "vm" else version.vcpu_sections
        later = sorted(set(value).difference(known))
        if version.number == machine.schema_version and later:
            raise RefusedError("STR-060", f"schema version {version.number} has no section {', '.join(later)}")
    machine.state.update(sections_digest(value))
    return value


def _vm_state(body: bytes, machine: Machine) -> Iterator[Finding]:
    _sections(body, machine, "vm")
    return iter(())


def _vcpu_state(body: bytes, machine: Machine) -> Iterator[Finding]:
    index, reserved = struct.unpack_from("<II", body)
    if reserved:
        yield "STR-005", "reserved octets of VCPU_STATE are not zero"
    if machine.config is None or index != len(machine.vcpus) or index >= machine.config["vcpus"]:
        yield "STR-022", f"vCPU {index} after {len(machine.vcpus)} vCPUs"
    vcpu = VcpuState.from_sections(_sections(body[8:], machine, "vcpu"))
    machine.vcpus.append({
        "index": index,
        "rip": f"{vcpu.regs.rip:#x}",
        "smm": bool(vcpu.events.smi.smm),
        "shadow": int(vcpu.events.interrupt.shadow.current),
        "smm_shadow": int(vcpu.events.interrupt.shadow.smm),
    })  # fmt: skip


def _digest(body: bytes, machine: Machine) -> Iterator[Finding]:
    algorithm, reserved, state, memory, root = struct.unpack("<II32s32s32s", body)
    machine.digests = {"state": state.hex(), "memory": memory.hex(), "root": root.hex()}
    if reserved:
        yield "STR-005", "reserved octets of DIGEST are not zero"
    if machine.config is None or machine.map is None or machine.pages is None:
        raise RefusedError("STR-020", "CONFIG was not understood")
    if len(machine.vcpus) != machine.config["vcpus"]:
        yield "STR-022", f"{len(machine.vcpus)} vCPUs instead of {machine.config['vcpus']}"
    if algorithm != machine.config["digest_algorithm"]:
        yield "STR-070", f"digest algorithm {algorithm} is not CONFIG's"
    if state != machine.state.digest():
        yield "STR-071", "the sections have another state digest"
    layout = struct.pack("<Q", machine.map.ram_bytes)
    for s in sorted(machine.map.slots, key=lambda s: (s.as_id, s.gpa)):
        layout += struct.pack("<IIQQIQ", s.as_id, s.slot, s.gpa, s.size_bytes, s.flags, s.backing_offset_bytes)
    if root != hashlib.sha256(b"migsvc root 1\0" + layout + state + memory).digest():
        yield "STR-073", "the root digest is not that of the map, the state and the memory digest"
    if not machine.pages.over_budget:
        machine.memory_checked = True
        if memory != machine.pages.digest():
            yield "STR-072", "the memory as applied has another digest"


_CHECKS = {
    "CONFIG": _config,
    "MEMORY": _memory,
    "ZERO": _zero,
    "ROUND_END": _round_end,
    "VM_STATE": _vm_state,
    "VCPU_STATE": _vcpu_state,
    "DIGEST": _digest,
}
"""Record name -> check of its body."""
