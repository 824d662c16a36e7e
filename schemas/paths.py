"""Paths: the name of one value in a vCPU or a machine, read and followed.

    vcpus[0].regs.rip                          a field; `vcpus.0.regs.rip` is the same
    vcpus[0].regs.rflags.IF                    a bit or bit field by the manual's name; `rflags[9]` by number
    vcpus[0].events.flags.VALID_SMM            a flag by the kernel's name
    vcpus[0].msrs.MSR_LSTAR, msrs[0xc0000082]     the value of an MSR, by name or number
    vcpus[0].cpuid2[0x7][0].ebx                a CPUID register, by leaf and subleaf
    vcpus[0].cpuid2.avx2                       a CPUID feature
    vcpus[0].xcrs.xcr0                         an extended control register
    vcpus[0].lapic.LVTT, xsave.MXCSR           a register in a page or area
    vcpus[0].lapic.IRR[0x31]                   a vector that is requested, in service, level-triggered (TMR)
    vcpus[0].xsave.region[24]                  one byte
    memory.slots[1].gpa, vm.clock.clock

A path into one vCPU begins at its sections; one that begins with `vcpus[n]` is understood if n is its index.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel

from .errors import FieldError, Problem
from .field_names import bits_of, words_of
from .places import NAMED, Parts, Place, bits_place, element_place, format_path, nothing
from .state import MachineState, VcpuState
from .uapi import VCPU_SECTIONS

__all__ = ["MAX_PATH_CHARS", "Parts", "Place", "format_path", "get", "locate", "parse"]

MAX_PATH_CHARS = 256
"""The deepest path has some 60; the bound is for paths that come over a network."""

_WORD = re.compile(r"(?:^|(?!^)\.)(\w+)|\[(\w+)\]", re.ASCII)
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+", re.ASCII)


def parse(path: str) -> Parts:
    """Return the parts of a path: names as str, indices and numbers as int.

    Raises:
        FieldError: it is no path.
    """
    parts: list[str | int] = []
    at = 0
    while at < len(path) <= MAX_PATH_CHARS:
        match = _WORD.match(path, at)
        if match is None or (match[2] and not _NUMBER.fullmatch(match[2])):
            break
        word = match[1] or match[2]
        parts.append(_number(word) if _NUMBER.fullmatch(word) else word)
        at = match.end()
    if at != len(path) or not parts or isinstance(parts[0], int):
        text = f"no path: stuck at {path[at : at + 20]!r}" if at < len(path) else "a path begins with a name"
        raise FieldError([Problem(where=path[:64] or "path", message=text, hint="e.g. vcpus[0].regs.rflags.IF")])
    return tuple(parts)


def _number(word: str) -> int:
    return int(word, 16 if word[:2] in ("0x", "0X") else 10)


def get(state: VcpuState | MachineState, path: str | Parts) -> Any:
    """Return the value at a path.

    Raises:
        FieldError: there is nothing of this name.
    """
    return locate(state, path).value


def locate(state: VcpuState | MachineState, path: str | Parts) -> Place:
    """Return the place that a path names.

    Raises:
        FieldError: there is nothing of this name; the hint says what there is.
    """
    parts = parse(path) if isinstance(path, str) else path
    at = _below_index(state, parts)
    place = Place((), state, lambda new: new)
    while at < len(parts):
        place, at = _step(place, parts, at)
    return place._replace(parts=parts)


def _below_index(state: VcpuState | MachineState, parts: Parts) -> int:
    """Return the first part to follow: a vCPU by itself also answers to `vcpus[index]`."""
    if isinstance(state, VcpuState) and parts[0] == "vcpus":
        if parts[1:2] != (state.index,):
            raise nothing(parts, 1, f"this is vCPU {state.index}", "paths into it begin at its sections: regs.rip")
        return 2
    if isinstance(state, MachineState) and parts[0] in VCPU_SECTIONS:
        raise nothing(parts, 0, "a machine has vCPUs", f"vcpus[0].{format_path(parts)}")
    return 0


def _step(place: Place, parts: Parts, at: int) -> tuple[Place, int]:
    """Return the place that the next part leads to, and the number of the part after it."""
    holder, part = place.value, parts[at]
    named = NAMED.get(type(holder))
    if named is not None and part not in type(holder).model_fields:
        return named(place, parts, at)
    if isinstance(holder, BaseModel):
        return _field(place, parts, at), at + 1
    if isinstance(holder, tuple | list | bytes):
        return element_place(place, parts, at), at + 1
    if isinstance(holder, int):
        return bits_place(place, parts, at), at + 1
    what = "is absent" if holder is None else "is a plain value"
    raise nothing(parts, at, f"{format_path(parts[:at])} {what}, nothing is inside")


def _field(place: Place, parts: Parts, at: int) -> Place:
    holder, name = place.value, parts[at]
    if not isinstance(name, str) or name not in type(holder).model_fields:
        known = ", ".join(type(holder).model_fields)
        raise nothing(parts, at, "no field of this name", f"there is {known}")

    def replace(new: Any) -> Any:
        return place.replace(holder.model_copy(update={name: new}))

    owner: type[BaseModel] = type(holder)
    return Place(parts, getattr(holder, name), replace, bits_of(owner, name), words_of(owner, name))
