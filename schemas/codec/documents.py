"""State documents as one piece: a vCPU or a machine as JSON or as MessagePack, decoded strictly, checked as a whole.

JSON shows every field by its kernel name (`state.model_dump_json()` writes it). MessagePack holds the raw structs:
vCPU `{schema_version, index, sections}`, machine `{schema_version, memory, vm, vcpus: [sections, …]}`.
What is checked: form, bounds, types, ranges, sizes. Whether the state is legal is for `schemas.invariants`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel

from ..errors import MAX_PROBLEMS, FieldError, Problem, SchemaError, parse_as
from ..memory import MemoryMap
from ..state import MAX_VCPUS, MachineState, VcpuState, VmState, section_problems
from ..versions import SCHEMA_VERSION, SUPPORTED_SCHEMA_VERSIONS, foreign_sections
from .packing import Bounds, pack, unpack
from .text import TextBounds, loads

__all__ = [
    "MACHINE_TEXT_BOUNDS",
    "VCPU_TEXT_BOUNDS",
    "machine_from_json",
    "machine_from_value",
    "pack_machine",
    "pack_vcpu",
    "unpack_machine",
    "unpack_vcpu",
    "vcpu_from_json",
]

M = TypeVar("M", bound=BaseModel)

VCPU_BOUNDS = Bounds(max_bytes=1 << 20, max_depth=2, max_values=256)
MACHINE_BOUNDS = Bounds(max_bytes=256 << 20, max_depth=4, max_values=1 << 17)
"""1,024 vCPUs of 250 KiB and 64 sections each, which is more than any has."""

VCPU_TEXT_BOUNDS = TextBounds(max_bytes=2 << 20, max_values=1 << 15, max_names=64)
"""1,024 MSRs and 256 CPUID entries are 6,000 values and 150 KiB; an XSAVE area of 64 KiB is 128 KiB of hex."""
MACHINE_TEXT_BOUNDS = TextBounds(max_bytes=128 << 20, max_values=1 << 21, max_names=64)
"""1,024 vCPUs of about 60 KiB and 1,500 values each, and as much again."""


def vcpu_from_json(raw: bytes | str) -> VcpuState:
    """Return the vCPU of a JSON document.

    Raises:
        DecodeError: not JSON of the strict form. FieldError: it does not fit; the places are listed.
    """
    return parse_as(VcpuState, loads(raw, VCPU_TEXT_BOUNDS))


def machine_from_json(raw: bytes | str) -> MachineState:
    """Return the machine of a JSON document.

    Raises:
        DecodeError: not JSON of the strict form. FieldError: it does not fit; the places are listed.
    """
    return machine_from_value(loads(raw, MACHINE_TEXT_BOUNDS))


def machine_from_value(value: Any) -> MachineState:
    """Return the machine of decoded JSON; stops when `MAX_PROBLEMS` are found, however many vCPUs there are.

    Raises:
        FieldError: it does not fit; the places are listed.
    """
    _require_keys(value, {"memory", "vm", "vcpus"})
    problems: list[Problem] = []
    memory = _part(MemoryMap, value["memory"], "memory", problems)
    vm = _part(VmState, value["vm"], "vm", problems)
    vcpus = []
    for number, one in enumerate(_vcpu_list(value["vcpus"])):
        if len(problems) < MAX_PROBLEMS:
            vcpus.append(_part(VcpuState, one, f"vcpus.{number}", problems))
    if problems:
        raise FieldError(problems)
    return parse_as(MachineState, {"memory": memory, "vm": vm, "vcpus": vcpus})


def pack_vcpu(state: VcpuState) -> bytes:
    """Return the MessagePack document of a vCPU."""
    document = {"schema_version": SCHEMA_VERSION, "index": state.index, "sections": state.to_sections()}
    return pack(document, VCPU_BOUNDS)


def unpack_vcpu(body: bytes) -> VcpuState:
    """Return the vCPU of a MessagePack document.

    Raises:
        DecodeError: not MessagePack of the strict form. SchemaError: it does not fit; every problem is listed.
    """
    document = unpack(body, VCPU_BOUNDS)
    _require_keys(document, {"schema_version", "index", "sections"})
    version, index = document["schema_version"], document["index"]
    problems = _version_problems(version)
    if type(index) is not int or not 0 <= index < MAX_VCPUS:
        problems.append(Problem(where="index", message=f"{_shown(index)} is no integer from 0 to {MAX_VCPUS - 1}"))
    problems += _sections_problems(document["sections"], "vcpu", version, "sections")
    if problems:
        raise FieldError(problems)
    return VcpuState.from_sections(document["sections"], index=index)


def pack_machine(state: MachineState) -> bytes:
    """Return the MessagePack document of a machine without its memory's contents."""
    vm, vcpus = state.to_sections()
    memory = state.memory.model_dump()
    memory["slots"] = list(memory["slots"])
    return pack({"schema_version": SCHEMA_VERSION, "memory": memory, "vm": vm, "vcpus": vcpus}, MACHINE_BOUNDS)


def unpack_machine(body: bytes) -> MachineState:
    """Return the machine of a MessagePack document.

    Raises:
        DecodeError: not MessagePack of the strict form. SchemaError: it does not fit; every problem is listed.
    """
    document = unpack(body, MACHINE_BOUNDS)
    _require_keys(document, {"schema_version", "memory", "vm", "vcpus"})
    version = document["schema_version"]
    problems = _version_problems(version)
    memory = _part(MemoryMap, document["memory"], "memory", problems)
    problems += _sections_problems(document["vm"], "vm", version, "vm")
    for number, sections in enumerate(_vcpu_list(document["vcpus"])):
        if len(problems) < MAX_PROBLEMS:
            problems += _sections_problems(sections, "vcpu", version, f"vcpus.{number}", number)
    if problems or memory is None:
        raise FieldError(problems)
    return MachineState.from_sections(memory, document["vm"], document["vcpus"])


def _require_keys(value: Any, wanted: set[str]) -> None:
    if not isinstance(value, dict) or value.keys() != wanted:
        got = f"it has {', '.join(sorted(map(_shown, value))[:8])}" if isinstance(value, dict) else type(value).__name__
        text = f"must have {', '.join(sorted(wanted))} and nothing else; {got}"
        raise FieldError([Problem(where="document", message=text)])


def _shown(value: Any) -> str:
    return repr(value)[:64]


def _vcpu_list(value: Any) -> Iterable[Any]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_VCPUS:
        raise FieldError([Problem(where="vcpus", message=f"must be a list of 1 to {MAX_VCPUS} vCPUs")])
    return value


def _part(model: type[M], value: Any, where: str, problems: list[Problem]) -> M | None:
    """Return a part of a document, or None and its problems, with their place, in the list."""
    try:
        return parse_as(model, value)
    except SchemaError as error:
        problems += [problem.model_copy(update={"where": f"{where}.{problem.where}"}) for problem in error.problems]
        return None


def _version_problems(version: Any) -> list[Problem]:
    if type(version) is int and version in SUPPORTED_SCHEMA_VERSIONS:
        return []
    known = " or ".join(map(str, SUPPORTED_SCHEMA_VERSIONS))
    return [Problem(where="schema_version", message=f"{_shown(version)} is not known", hint=f"known: {known}")]


def _sections_problems(sections: Any, scope: str, version: Any, where: str, index: int = 0) -> list[Problem]:
    """Return what is wrong with a map of raw sections in a document of this version."""
    if not isinstance(sections, dict):
        return [Problem(where=where, message=f"{type(sections).__name__} instead of a map of sections")]
    problems = section_problems(sections, scope, index)
    if problems or _version_problems(version):
        return problems
    foreign = foreign_sections(set(sections), scope, version)
    return [
        Problem(where=f"{where}.{name}", message=f"schema version {version} has no such section") for name in foreign
    ]
