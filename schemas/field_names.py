"""What the numbers in a field mean: the bits of registers and flag words, the words for enumerated values.

`schemas.paths` reads these names, `schemas.diff` writes them. The tables of the manuals are in `schemas.names`; here is
which field they belong to.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntFlag
from functools import lru_cache

from pydantic import BaseModel

from .memory import MemorySlot
from .names.bits import REGISTERS, BitField, RegisterBits
from .names.mp_states import MP_STATES
from .shadow import KVM_STATE_NESTED_SMM_MOV_SS_BLOCKING, KVM_STATE_NESTED_SMM_STI_BLOCKING, SHADOW_WORDS
from .uapi.clock import ClockFlags, KvmClockData
from .uapi.cpuid2 import CpuidFlags, KvmCpuidEntry2
from .uapi.memory_slots import KvmUserspaceMemoryRegion, MemoryRegionFlags
from .uapi.mp_state import KvmMpState
from .uapi.nested_state import (
    KvmNestedState,
    KvmVmxNestedStateHdr,
    KvmVmxNestedStateSmm,
    NestedFlags,
    NestedSmmFlags,
    NestedVmxFlags,
)
from .uapi.pit2 import KvmPitState2, PitFlags
from .uapi.vcpu_events import InterruptShadow, KvmVcpuEvents, VcpuEventFlags
from .uapi.xcrs import KvmXcr

__all__ = ["FLAG_FIELDS", "VALUE_WORDS", "bits_of", "words_of"]

Field = tuple[type[BaseModel], str]

FLAG_FIELDS: Mapping[Field, tuple[type[IntFlag], str]] = {
    (KvmVcpuEvents, "flags"): (VcpuEventFlags, "KVM_VCPUEVENT_"),
    (KvmClockData, "flags"): (ClockFlags, "KVM_CLOCK_"),
    (KvmPitState2, "flags"): (PitFlags, "KVM_PIT_FLAGS_"),
    (KvmNestedState, "flags"): (NestedFlags, "KVM_STATE_NESTED_"),
    (KvmVmxNestedStateSmm, "flags"): (NestedSmmFlags, "KVM_STATE_NESTED_SMM_"),
    (KvmVmxNestedStateHdr, "flags"): (NestedVmxFlags, "KVM_STATE_VMX_"),
    (KvmUserspaceMemoryRegion, "flags"): (MemoryRegionFlags, "KVM_MEM_"),
    (MemorySlot, "flags"): (MemoryRegionFlags, "KVM_MEM_"),
    (KvmCpuidEntry2, "flags"): (CpuidFlags, "KVM_CPUID_FLAG_"),
}
"""Flag words of the kernel: their flags, and the prefix that all names of the word share and that is left out."""

REGISTER_FIELDS: Mapping[Field, str] = {(KvmXcr, "value"): "xcr0"}
"""Fields that hold a register of another name: its key in REGISTERS."""

OWN_BITS: Mapping[Field, tuple[tuple[str, int], ...]] = {
    (KvmVmxNestedStateSmm, "flags"): (
        ("STI_BLOCKING", KVM_STATE_NESTED_SMM_STI_BLOCKING),
        ("MOV_SS_BLOCKING", KVM_STATE_NESTED_SMM_MOV_SS_BLOCKING),
    ),
}
"""Bits of the kernel's flag words that a carrier of ours uses (`schemas.shadow`)."""

VALUE_WORDS: Mapping[Field, Mapping[int, str]] = {
    (InterruptShadow, "current"): SHADOW_WORDS,
    (InterruptShadow, "smm"): SHADOW_WORDS,
    (KvmMpState, "mp_state"): {
        number: name.removeprefix("KVM_MP_STATE_").lower() for number, (name, _) in MP_STATES.items()
    },
}
"""Fields whose values have words."""


@lru_cache(maxsize=1024)
def bits_of(owner: type[BaseModel], field: str) -> RegisterBits | None:
    """Return the names of the bits in a field, or None if they have none."""
    row = FLAG_FIELDS.get((owner, field))
    if row is None:
        return REGISTERS.get(REGISTER_FIELDS.get((owner, field), field))
    flags, prefix = row
    named = [(str(flag.name).removeprefix(prefix), flag.value) for flag in flags]
    fields = (BitField(name, mask.bit_length() - 1) for name, mask in (*named, *OWN_BITS.get((owner, field), ())))
    return RegisterBits(f"{owner.__name__}.{field}", 32, tuple(fields), flags.__doc__ or "")


def words_of(owner: type[BaseModel] | None, field: str) -> Mapping[int, str]:
    """Return the words for the values of a field; empty if it has none."""
    return VALUE_WORDS.get((owner, field), {}) if owner else {}
