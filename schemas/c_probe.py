"""A C program, generated from the tables, that prints what the kernel's headers say about every struct and number.

Compiled against <linux/kvm.h> it is the outside check of `schemas.uapi` and `schemas.kvm_numbers`: `expected` is what
it must print, but for the rows of `NEWER` that the headers are too old for.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from types import ModuleType
from typing import NamedTuple

from . import kvm_numbers
from .layout import CStruct
from .uapi import (
    clock,
    cpuid2,
    dirty_log,
    interface,
    ioapic,
    irqchip,
    lapic,
    memory_slots,
    mp_state,
    nested_state,
    pit2,
    run,
    run_exits,
    sregs2,
    structs,
    tsc_offset,
    vcpu_events,
    with_nested,
    xcrs,
)

_NUMBERS: tuple[ModuleType, ...] = (
    kvm_numbers, clock, cpuid2, dirty_log, interface, ioapic, irqchip, lapic, memory_slots, mp_state, nested_state,
    pit2, run, run_exits, sregs2, tsc_offset, vcpu_events, xcrs,
)  # fmt: skip
"""Modules whose KVM_ constants and members of enums are the kernel's."""
NOT_IN_HEADERS: dict[str, str] = {
    "KVM_VCPUEVENT_VALID_SMM_SHADOW": "ours: proposed, never merged",
    "KVM_MAX_CPUID_ENTRIES": "arch/x86/include/asm/kvm_host.h, not exported",
}
"""KVM_ names of ours or of the kernel's inside, each with the reason why no exported header has it."""


class Newer(NamedTuple):
    """The kernel that brought a name. `by_version`: C cannot ask for the name, so the headers' version is asked."""

    since: tuple[int, int]
    by_version: bool = False


NEWER: dict[str, Newer] = {
    "value KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP": Newer((6, 2)),
    "value KVM_CAP_MEMORY_FAULT_INFO": Newer((6, 8)),
    "value KVM_CAP_VM_TYPES": Newer((6, 8)),
    "value KVM_CAP_PRE_FAULT_MEMORY": Newer((6, 11)),
    "value KVM_CAP_X86_APIC_BUS_CYCLES_NS": Newer((6, 11)),
    "value KVM_CAP_X86_GUEST_MODE": Newer((6, 12)),
    "value KVM_EXIT_MEMORY_FAULT": Newer((6, 8)),
    "value KVM_MEM_GUEST_MEMFD": Newer((6, 8)),
    "value KVM_RUN_X86_GUEST_MODE": Newer((6, 12)),
    "offsetof kvm_run memory_fault": Newer((6, 8), True),
    "sizeof kvm_run memory_fault": Newer((6, 8), True),
    "offsetof kvm_run memory_fault.flags": Newer((6, 8), True),
    "sizeof kvm_run memory_fault.flags": Newer((6, 8), True),
    "offsetof kvm_run memory_fault.gpa": Newer((6, 8), True),
    "sizeof kvm_run memory_fault.gpa": Newer((6, 8), True),
    "offsetof kvm_run memory_fault.size": Newer((6, 8), True),
    "sizeof kvm_run memory_fault.size": Newer((6, 8), True),
    # `gpat` made the header of SVM 16 bytes long; 7.3 is the first kernel in which it was read.
    "sizeof kvm_svm_nested_state_hdr": Newer((7, 3), True),
    "offsetof kvm_svm_nested_state_hdr gpat": Newer((7, 3), True),
    "sizeof kvm_svm_nested_state_hdr gpat": Newer((7, 3), True),
    "sizeof kvm_nested_state hdr.svm": Newer((7, 3), True),
    "offsetof kvm_nested_state hdr.svm.gpat": Newer((7, 3), True),
    "sizeof kvm_nested_state hdr.svm.gpat": Newer((7, 3), True),
}
"""What the kernel's headers had not in Linux 6.1. A row of `expected` that a header lacks must be here."""


def all_structs() -> tuple[type[CStruct], ...]:
    """Return every struct of the sections and of the interface, nested ones included, each once."""
    interfaces = (model for module in (interface, run, run_exits) for model in _structs_of(module))
    return tuple(dict.fromkeys((*structs(), *(found for model in interfaces for found in with_nested(model)))))


def expected() -> dict[str, int]:
    """Return name -> number: "sizeof kvm_regs", "offsetof kvm_regs rip", "sizeof kvm_regs rip", "value KVM_GET_REGS".

    Structs of ours (migsvc_…), anonymous structs and members that C has no name for are left out.
    """
    return dict(_rows())


def _rows() -> Iterator[tuple[str, int]]:
    for model in all_structs():
        tag = model.C_NAME
        if tag is not None and tag.startswith("kvm_"):
            yield f"sizeof {tag}", model.SIZE
            yield from _member_rows(tag, model, "", 0)
    for outer, member, offset, model in run.OVERLAYS:
        yield f"offsetof {outer.C_NAME} {member}", offset
        yield from _member_rows(str(outer.C_NAME), model, f"{member}.", offset)
    for module in _NUMBERS:
        for name, number in _constants(module):
            if name not in NOT_IN_HEADERS:
                yield f"value {name}", number


def _member_rows(tag: str, model: type[CStruct], prefix: str, base: int) -> Iterator[tuple[str, int]]:
    for row in model.layout():
        if row.in_c:
            yield f"offsetof {tag} {prefix}{row.name}", base + row.offset
            if row.size:
                yield f"sizeof {tag} {prefix}{row.name}", row.size
    tail = model._tail
    if tail is not None and tail.model is not None:
        yield f"sizeof {tag} {prefix}{tail.name}[0]", tail.element_bytes


def _structs_of(module: ModuleType) -> Iterator[type[CStruct]]:
    for value in vars(module).values():
        if inspect.isclass(value) and issubclass(value, CStruct) and value.__module__ == module.__name__:
            yield value


def _constants(module: ModuleType) -> Iterator[tuple[str, int]]:
    """Yield the KVM_ names that a module defines, members of its enums included."""
    for name, value in vars(module).items():
        if isinstance(value, int) and name.startswith("KVM_"):
            yield name, int(value)
        elif inspect.isclass(value) and issubclass(value, Enum) and value.__module__ == module.__name__:
            yield from ((key, int(member.value)) for key, member in value.__members__.items())


def c_program() -> str:
    """Return the program; it prints one line `<name> = <number>` for each entry of `expected` that the headers have."""
    lines = ["#include <stddef.h>", "#include <stdio.h>", "#include <linux/version.h>", "#include <linux/kvm.h>"]
    lines += ["int main(void)", "{"]
    for name in expected():
        row = f'\tprintf("{name} = %llu\\n", (unsigned long long)({_expression(name)}));'
        newer = NEWER.get(name)
        lines += [row] if newer is None else [_guard(name, newer), row, "#endif"]
    lines += ["\treturn 0;", "}", ""]
    return "\n".join(lines)


def parse_output(text: str) -> dict[str, int]:
    """Return what the program printed in the form of `expected`."""
    pairs = (line.rsplit(" = ", 1) for line in text.splitlines())
    return {name: int(number) for name, number in pairs}


def _guard(name: str, newer: Newer) -> str:
    if newer.by_version:
        return f"#if LINUX_VERSION_CODE >= KERNEL_VERSION({newer.since[0]}, {newer.since[1]}, 0)"
    return f"#ifdef {name.split()[1]}"


def _expression(name: str) -> str:
    kind, subject, *member = name.split()
    if kind == "value":
        return subject
    if not member:
        return f"sizeof(struct {subject})"
    if kind == "offsetof":
        return f"offsetof(struct {subject}, {member[0]})"
    return f"sizeof(((struct {subject} *)0)->{member[0]})"
