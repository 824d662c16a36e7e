"""Changes to a state by path: `regs.rflags.IF=1`, `events.interrupt.shadow.smm=sti`, `msrs.MSR_LSTAR=0x…`.

`edit_state` applies all of them or none. What must follow a change so that it counts (the flag of an event, the copy of
a register in sregs2 or in an MSR) is set as well and told in `notes`, unless the caller sets it. Whether the result is
legal is for `schemas.invariants`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel

from .errors import FieldError, Problem, parse_as
from .layout import PackedByte
from .names.msrs import msr_number
from .paths import Parts, Place, format_path, locate, parse
from .state import MachineState, VcpuState
from .uapi.msrs import KvmMsrs
from .uapi.sregs import SpecialRegisters
from .uapi.vcpu_events import VcpuEventFlags

__all__ = ["MAX_ASSIGNMENTS", "Assignment", "Edited", "edit_state", "parse_assignment"]

MAX_ASSIGNMENTS = 1000
"""In one edit; whoever changes more writes a document."""

MAX_VALUE_CHARS = 1 << 18
"""Longest text of a value: an XSAVE area of 64 KiB in hex, and as much again."""

_NUMBER = re.compile(r"-?(0[xX][0-9a-fA-F]{1,16}|0[bB][01]{1,64}|\d{1,20})", re.ASCII)
_HEX = re.compile(r"([0-9a-fA-F]{2})*", re.ASCII)


class Assignment(NamedTuple):
    """A path and the text of the value to put there."""

    parts: Parts
    text: str


class Edited(NamedTuple):
    """The new state, and in words what was set besides what was asked for."""

    state: Any
    notes: tuple[str, ...]


def parse_assignment(text: str) -> Assignment:
    """Return the path and the value of "path=value".

    Raises:
        FieldError: there is no "=", or what precedes it is no path.
    """
    path, equals, value = text.partition("=")
    if not equals:
        raise FieldError([Problem(where=text[:64], message="no assignment", hint="write path=value: regs.rip=0xfff0")])
    return Assignment(parse(path.strip()), value.strip())


def edit_state(state: VcpuState | MachineState, assignments: Iterable[str | Assignment]) -> Edited:
    """Return the state with all values set in order; the given one stays as it is.

    Raises:
        FieldError: a path leads nowhere, a value does not fit, or two are for one place; every problem is listed.
    """
    todo = [given if isinstance(given, Assignment) else parse_assignment(given) for given in assignments]
    if len(todo) > MAX_ASSIGNMENTS:
        raise FieldError([Problem(where="edit", message=f"{len(todo)} assignments, at most {MAX_ASSIGNMENTS}")])
    problems = _given_twice(state, todo)
    made: VcpuState | MachineState = state
    for one in todo:
        try:
            place = locate(made, one.parts)
            made = place.replace(read_value(place, one.text))
        except FieldError as error:
            problems += error.problems
    if problems:
        raise FieldError(problems)
    made, notes = _followed(made, [_full(state, one.parts) for one in todo])
    return Edited(parse_as(type(state), made.model_dump(warnings=False)), notes)


def _given_twice(state: VcpuState | MachineState, todo: Sequence[Assignment]) -> list[Problem]:
    """Return what is assigned more than once: which value was meant cannot be known. A bit after its register may."""
    problems: list[Problem] = []
    seen: dict[Parts, Assignment] = {}
    for one in todo:
        first = seen.setdefault(_spot(state, one.parts), one)
        if first is not one:
            both = " and ".join(f"{format_path(given.parts)}={given.text[:64]}" for given in (first, one))
            hint = "leave one of them out"
            problems.append(Problem(where=format_path(one.parts), message=f"assigned twice, {both}", hint=hint))
    return problems


def _spot(state: VcpuState | MachineState, parts: Parts) -> Parts:
    """Return a path in one spelling, bits by number as well."""
    full = _full(state, parts)
    if len(full) > 1 and isinstance(parts[-1], str):
        try:
            register = locate(state, parts[:-1]).register
            return full if register is None else (*full[:-1], register.field(parts[-1]).low)
        except FieldError:  # it leads nowhere, which is told where it is applied
            pass
    return full


def read_value(place: Place, text: str) -> Any:
    """Return the value that a text stands for at a place: a word that it has there, a number, bytes in hex, or `null`.

    Raises:
        FieldError: it stands for nothing there.
    """
    word = text.lower()
    for number, known in place.words.items():
        if known.lower() == word:
            return number
    if word == "null":
        return None
    value = place.value
    if isinstance(value, BaseModel) and not isinstance(value, PackedByte):
        raise _unfit(place, text, f"a struct is there, set one of its fields: {', '.join(type(value).model_fields)}")
    if isinstance(value, tuple | list):
        raise _unfit(place, text, f"an array is there, set an element: {format_path((*place.parts, 0))}")
    if isinstance(value, bytes):
        if len(text) > MAX_VALUE_CHARS or not _HEX.fullmatch(text) or len(text) != 2 * len(value):
            raise _unfit(place, text, f"{2 * len(value)} hex digits are needed")
        return bytes.fromhex(text)
    if not _NUMBER.fullmatch(text):
        raise _unfit(place, text, "needed: " + ", ".join(("a number", *place.words.values())))
    number = int(text, 10 if text.lstrip("-").isdigit() else 0)
    return type(value).from_byte(number) if isinstance(value, PackedByte) and 0 <= number < 256 else number


def _unfit(place: Place, text: str, wanted: str) -> FieldError:
    return FieldError([Problem(where=format_path(place.parts), message=f"{text[:64]!r} does not fit: {wanted}")])


def _full(state: VcpuState | MachineState, parts: Parts) -> Parts:
    """Return a path in one spelling: without the index of a vCPU by itself, MSRs by number."""
    if isinstance(state, VcpuState) and parts[0] == "vcpus":
        parts = parts[2:]
    at = parts.index("msrs") + 1 if "msrs" in parts else len(parts)
    number = _msr(parts[at]) if at < len(parts) else None
    return parts if number is None else (*parts[:at], number, *parts[at + 1 :])


class FlagRow(NamedTuple):
    """A field of the events, and the flag without which it does not count."""

    field: Parts
    flag: VcpuEventFlags


_F = VcpuEventFlags

EVENT_FLAGS: tuple[FlagRow, ...] = (
    FlagRow(("exception", "pending"), _F.KVM_VCPUEVENT_VALID_PAYLOAD),
    FlagRow(("exception_has_payload",), _F.KVM_VCPUEVENT_VALID_PAYLOAD),
    FlagRow(("exception_payload",), _F.KVM_VCPUEVENT_VALID_PAYLOAD),
    FlagRow(("interrupt", "shadow", "current"), _F.KVM_VCPUEVENT_VALID_SHADOW),
    FlagRow(("interrupt", "shadow", "smm"), _F.KVM_VCPUEVENT_VALID_SMM_SHADOW),
    FlagRow(("nmi", "pending"), _F.KVM_VCPUEVENT_VALID_NMI_PENDING),
    FlagRow(("sipi_vector",), _F.KVM_VCPUEVENT_VALID_SIPI_VECTOR),
    FlagRow(("smi",), _F.KVM_VCPUEVENT_VALID_SMM),
    FlagRow(("triple_fault",), _F.KVM_VCPUEVENT_VALID_TRIPLE_FAULT),
)
"""Fields that count with a flag only. Source: `schemas.uapi.vcpu_events`."""

MSR_COPIES: tuple[tuple[Parts, int], ...] = (
    (("efer",), 0xC0000080),
    (("apic_base",), 0x1B),
    (("fs", "base"), 0xC0000100),
    (("gs", "base"), 0xC0000101),
)
"""Registers in sregs that an MSR shows too: a state in which the two differ is illegal (INV-093)."""


def _followed(state: Any, given: Sequence[Parts]) -> tuple[Any, tuple[str, ...]]:
    """Return the state with what has to follow a change of the given places set as well."""
    notes: list[str] = []
    todo = list(given)
    for parts in todo:  # grows while it is walked: what was set may have copies itself
        prefix = parts[:2] if parts[0] == "vcpus" else ()
        inner = parts[len(prefix) :]
        for target, value, why in _consequences(state, prefix, inner):
            place = locate(state, target)
            if place.value in (None, value) or any(_overlap(target, other) for other in given):
                continue
            state = place.replace(value)
            todo.append(target)
            notes.append(f"{format_path(target)} set to {value:#x} as well: {why}")
    return state, tuple(notes)


def _overlap(one: Parts, other: Parts) -> bool:
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared]


def _consequences(state: Any, prefix: Parts, inner: Parts) -> Iterator[tuple[Parts, int, str]]:
    """Yield (path, value, reason) of what has to follow a change of `inner`, a place in a vCPU."""
    if inner[0] == "events":
        for row in EVENT_FLAGS:
            if inner[1 : 1 + len(row.field)] == row.field:
                target = (*prefix, "events", "flags")
                yield target, locate(state, target).value | row.flag, f"{row.flag.name} makes the change count"
    elif inner[0] in ("sregs", "sregs2") and inner[1:2] and inner[1] in SpecialRegisters.model_fields:
        field = inner[1:2] if inner[1] in _WORDS else inner[1:3]
        value = locate(state, (*prefix, inner[0], *field)).value
        other = "sregs2" if inner[0] == "sregs" else "sregs"
        if locate(state, (*prefix, other)).value is not None:
            yield (*prefix, other, *field), value, f"{inner[0]} and {other} say the same"
        for register, number in MSR_COPIES:
            if register == field:
                yield (*prefix, "msrs", number), value, "the MSR shows the register"
    elif inner[0] == "msrs" and len(inner) > 1:
        for register, number in MSR_COPIES:
            value = locate(state, (*prefix, *inner[:2])).value
            if value is not None and number == inner[1]:
                yield (*prefix, "sregs", *register), value, "the MSR shows the register"


_WORDS = ("cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apic_base")
"""Fields of SpecialRegisters that are one number; the others are structs."""


def _msr(part: str | int) -> int | None:
    """Return the MSR that a part below `msrs` names, None for the struct's own fields."""
    if isinstance(part, int):
        return part
    return None if part in KvmMsrs.model_fields else msr_number(part)
