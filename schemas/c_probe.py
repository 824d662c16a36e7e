"""A C program, generated from SECTIONS, that prints what the kernel's headers say about every struct and number.

Compiled against <linux/kvm.h> it is the outside check of `schemas.uapi`: `expected` is what it must print.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum, IntFlag

from .kvm_numbers import KvmCap, KvmIoctl
from .uapi import structs
from .uapi.clock import ClockFlags
from .uapi.irqchip import ChipId
from .uapi.mp_state import MpState
from .uapi.pit2 import PitFlags
from .uapi.vcpu_events import ShadowMask, VcpuEventFlags

_NUMBERS: tuple[type[IntEnum] | type[IntFlag], ...] = (
    KvmIoctl,
    KvmCap,
    MpState,
    ChipId,
    ClockFlags,
    PitFlags,
    ShadowMask,
    VcpuEventFlags,
)
_OURS = frozenset({"KVM_VCPUEVENT_VALID_SMM_SHADOW"})
"""Numbers that no header has."""


def expected() -> dict[str, int]:
    """Return name -> number: "sizeof kvm_regs", "offsetof kvm_regs rip", "sizeof kvm_regs rip", "value KVM_GET_REGS".

    Structs of ours (migsvc_…), anonymous structs and members that C has no name for are left out.
    """
    return dict(_rows())


def _rows() -> Iterator[tuple[str, int]]:
    for model in structs():
        tag = model.C_NAME
        if tag is None or not tag.startswith("kvm_"):
            continue
        yield f"sizeof {tag}", model.SIZE
        for row in model.layout():
            if row.in_c:
                yield f"offsetof {tag} {row.name}", row.offset
                if row.size:
                    yield f"sizeof {tag} {row.name}", row.size
    for numbers in _NUMBERS:
        for member in numbers:
            if member.name not in _OURS:
                yield f"value {member.name}", int(member.value)


def c_program() -> str:
    """Return the program; it prints one line `<name> = <number>` for each entry of `expected`."""
    lines = [
        "#include <stddef.h>",
        "#include <stdio.h>",
        "#include <linux/kvm.h>",
        "int main(void)",
        "{",
        *(f'\tprintf("{name} = %llu\\n", (unsigned long long)({_expression(name)}));' for name in expected()),
        "\treturn 0;",
        "}",
        "",
    ]
    return "\n".join(lines)


def parse_output(text: str) -> dict[str, int]:
    """Return what the program printed in the form of `expected`."""
    pairs = (line.rsplit(" = ", 1) for line in text.splitlines())
    return {name: int(number) for name, number in pairs}


def _expression(name: str) -> str:
    kind, subject, *member = name.split()
    if kind == "value":
        return subject
    if not member:
        return f"sizeof(struct {subject})"
    if kind == "offsetof":
        return f"offsetof(struct {subject}, {member[0]})"
    return f"sizeof(((struct {subject} *)0)->{member[0]})"
