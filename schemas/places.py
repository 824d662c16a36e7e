"""Places of a state that have a name of their own: MSRs, CPUID leaves and features, XCRs, registers in byte areas.

`NAMED` is the table: struct -> the step that leads into it by a name that is no field of its.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from .areas import AREAS, VECTOR_SETS, VECTOR_SLOT_BYTES
from .errors import FieldError, Problem
from .names.apic import VECTOR_BANKS
from .names.bits import REGISTERS, BitField, RegisterBits
from .names.cpuid import feature_place
from .names.msrs import msr_number, msr_row
from .uapi.cpuid2 import KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KvmCpuid2, KvmCpuidEntry2
from .uapi.lapic import KvmLapicState
from .uapi.msrs import KvmMsrEntry, KvmMsrs
from .uapi.xcrs import KvmXcrs
from .uapi.xsave import KvmXsave

__all__ = ["NAMED", "Parts", "Place", "bits_place", "element_place", "format_path", "nothing"]

Parts = tuple[str | int, ...]
NO_WORDS: Mapping[int, str] = {}

MAX_BITS = 256
"""The widest number is a set of interrupt vectors."""

_HEX_BELOW = ("msrs", "cpuid2")
"""Sections whose numbers are written in hex: MSR numbers and CPUID leaves."""


class Place(NamedTuple):
    """One value of a state: what it is, and a function that returns the state with another one there.

    `register` has the names of an integer's bits, `words` those of its values.
    """

    parts: Parts
    value: Any
    replace: Callable[[Any], Any]
    register: RegisterBits | None = None
    words: Mapping[int, str] = NO_WORDS


def format_path(parts: Parts) -> str:
    """Return the text of a path; `parse` reads it back."""
    text = ""
    for n, part in enumerate(parts):
        if isinstance(part, str):
            text += f".{part}" if text else part
        else:
            text += f"[{part:#x}]" if parts[n - 1] in _HEX_BELOW else f"[{part}]"
    return text


def nothing(parts: Parts, at: int, message: str, hint: str = "") -> FieldError:
    """Return the error that says that the part at `at` leads nowhere."""
    return FieldError([Problem(where=format_path(parts[: at + 1]), message=message, hint=hint)])


def element_place(place: Place, parts: Parts, at: int) -> Place:
    """Return an element of an array, or a byte."""
    holder, index = place.value, parts[at]
    if not isinstance(index, int) or index >= len(holder):
        raise nothing(parts, at, f"an index below {len(holder)} is needed")

    def replace(new: Any) -> Any:
        return place.replace(_with_element(holder, index, new))

    return Place(parts, holder[index], replace, place.register)


def _with_element(holder: Any, index: int, new: Any) -> Any:
    if isinstance(holder, bytes):
        if not isinstance(new, int) or not 0 <= new <= 255:
            raise FieldError([Problem(where=f"byte {index}", message=f"{new!r} is no byte")])
        return holder[:index] + bytes((new,)) + holder[index + 1 :]
    return type(holder)([*holder[:index], new, *holder[index + 1 :]])


def _msr(place: Place, parts: Parts, at: int) -> tuple[Place, int]:
    """Return the value of an MSR, None if the list has no entry for it: putting a value there adds one."""
    held, part = place.value, parts[at]
    number = part if isinstance(part, int) else msr_number(part)

    def replace(new: Any) -> Any:
        kept = [e if e.index != number else e.model_copy(update={"data": new}) for e in held.entries]
        if new is None:
            kept = [e for e in held.entries if e.index != number]
        elif number not in held.values_by_index():
            kept.append(KvmMsrEntry.model_construct(index=number, reserved=0, data=new))
        return place.replace(held.model_copy(update={"nmsrs": len(kept), "entries": tuple(kept)}))

    row = msr_row(number)
    register = REGISTERS[row.bits] if row and row.bits else None
    return Place(parts, held.values_by_index().get(number), replace, register), at + 1


def _cpuid(place: Place, parts: Parts, at: int) -> tuple[Place, int]:
    """Return the entry of a CPUID leaf (a second number is the subleaf), or the bit of a feature by name."""
    part = parts[at]
    if isinstance(part, str):
        return _feature(place, parts, at)
    subleaf = parts[at + 1] if at + 1 < len(parts) and isinstance(parts[at + 1], int) else None
    return _leaf(place, parts, at, part, subleaf), at + (1 if subleaf is None else 2)


def _leaf(place: Place, parts: Parts, at: int, function: int, subleaf: Any) -> Place:
    held = place.value
    found = next((n for n, entry in enumerate(held.entries) if _answers(entry, function, subleaf)), None)
    if found is None:
        raise nothing(parts, at, f"the vCPU has no CPUID leaf {function:#x}" + (f".{subleaf:#x}" if subleaf else ""))
    entries = Place(parts, held.entries, lambda new: place.replace(held.model_copy(update={"entries": new})))
    return element_place(entries, (*parts[:at], found), at)


def _feature(place: Place, parts: Parts, at: int) -> tuple[Place, int]:
    found = feature_place(str(parts[at]))
    if found is None:
        raise nothing(parts, at, "no CPUID feature of this name", "e.g. cpuid2.avx2, or cpuid2[0x7][0].ebx")
    word, bit = found
    entry = _leaf(place, parts, at, word.function, word.subleaf)

    def replace(new: Any) -> Any:
        return entry.replace(entry.value.model_copy(update={word.register: new}))

    register = Place(parts, getattr(entry.value, word.register), replace)
    return _bit(register, parts, BitField(word.names[bit], bit)), at + 1


def _answers(entry: KvmCpuidEntry2, function: Any, subleaf: Any) -> bool:
    significant = entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX
    return entry.function == function and (subleaf is None or entry.index == subleaf or not significant)


def _xcr(place: Place, parts: Parts, at: int) -> tuple[Place, int]:
    held, name = place.value, str(parts[at])
    match = re.fullmatch(r"xcr(\d{1,9})", name)
    used = held.xcrs[: min(held.nr_xcrs, len(held.xcrs))]
    found = next((n for n, entry in enumerate(used) if match and entry.xcr == int(match[1])), None)
    if found is None:
        there = ", ".join((*type(held).model_fields, *(f"xcr{entry.xcr}" for entry in used)))
        raise nothing(parts, at, "no register of this name in the list", f"there is {there}")

    def replace(new: Any) -> Any:
        entry = held.xcrs[found].model_copy(update={"value": new})
        return place.replace(held.model_copy(update={"xcrs": (*held.xcrs[:found], entry, *held.xcrs[found + 1 :])}))

    return Place(parts, held.xcrs[found].value, replace, REGISTERS.get(name)), at + 1


def _area(place: Place, parts: Parts, at: int) -> tuple[Place, int]:
    """Return a register in a run of bytes: a number of up to 8 bytes, otherwise bytes."""
    held, name = place.value, str(parts[at])
    field, pieces = AREAS[type(held)]
    if isinstance(held, KvmLapicState) and name.upper() in VECTOR_SETS:
        return _vectors(place, parts, VECTOR_SETS[name.upper()]), at + 1
    piece = pieces.get(name) or pieces.get(name.upper())
    if piece is None:
        raise nothing(parts, at, "no register of this name", f"there is {field}, {', '.join(pieces)}")
    area, end = getattr(held, field), piece.offset + piece.size
    raw = area[piece.offset : end]
    small = piece.size <= 8

    def replace(new: Any) -> Any:
        if small and not (isinstance(new, int) and 0 <= new < 1 << 8 * piece.size):
            raise nothing(parts, at, f"{new!r} does not fit {piece.size} bytes")
        octets = new.to_bytes(piece.size, "little") if small else new
        return place.replace(held.model_copy(update={field: area[: piece.offset] + octets + area[end:]}))

    register = REGISTERS[piece.bits] if piece.bits else None
    return Place(parts, int.from_bytes(raw, "little") if small else raw, replace, register), at + 1


def _vectors(place: Place, parts: Parts, offset: int) -> Place:
    """Return a set of vectors of the local APIC as one number of 256 bits; an index below it is a vector."""
    regs = place.value.regs
    slots = range(offset, offset + VECTOR_SLOT_BYTES * VECTOR_BANKS, VECTOR_SLOT_BYTES)

    def replace(new: Any) -> Any:
        if not isinstance(new, int) or not 0 <= new < 1 << 32 * VECTOR_BANKS:
            raise nothing(parts, len(parts) - 1, f"{new!r} is no set of 256 vectors")
        made = bytearray(regs)
        for n, at in enumerate(slots):
            made[at : at + 4] = (new >> 32 * n & 0xFFFFFFFF).to_bytes(4, "little")
        return place.replace(place.value.model_copy(update={"regs": bytes(made)}))

    value = sum(int.from_bytes(regs[at : at + 4], "little") << 32 * n for n, at in enumerate(slots))
    return Place(parts, value, replace)


def bits_place(place: Place, parts: Parts, at: int) -> Place:
    """Return a bit or a bit field of an integer, by name or one bit by number."""
    number = parts[at]
    if isinstance(number, int):
        if number >= MAX_BITS:
            raise nothing(parts, at, f"a bit below {MAX_BITS} is needed")
        return _bit(place, parts, BitField(str(number), number))
    if place.register is None:
        raise nothing(parts, at, f"the bits of {format_path(parts[:at])} have no names")
    try:
        row = place.register.field(str(parts[at]))
    except FieldError as error:
        raise nothing(parts, at, "no bit of this name", error.problems[0].hint) from error
    return _bit(place, parts, row)


def _bit(place: Place, parts: Parts, row: BitField) -> Place:
    value = place.value
    return Place(parts, row.get(value), lambda new: place.replace(row.put(value, new)), words=row.values or {})


NAMED: Mapping[type[BaseModel], Callable[[Place, Parts, int], tuple[Place, int]]] = {
    KvmMsrs: _msr,
    KvmCpuid2: _cpuid,
    KvmXcrs: _xcr,
    KvmLapicState: _area,
    KvmXsave: _area,
}
"""Struct -> what leads into it; it returns the place and the number of the part after it."""
