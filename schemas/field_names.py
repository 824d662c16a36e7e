"""What the numbers in a field mean: the bits of registers and flag words, the words for enumerated values.

`schemas.paths` reads these names, `schemas.diff` writes them. The tables of the manuals are in `schemas.names`; here is
which field they belong to.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntFlag
from functools import lru_cache

from pydantic import BaseModel

from .names.bits import REGISTERS, BitField, RegisterBits
from .names.mp_states import MP_STATES
from .uapi.clock import ClockFlags, KvmClockData
from .uapi.mp_state import KvmMpState
from .uapi.pit2 import KvmPitState2, PitFlags
from .uapi.vcpu_events import InterruptShadow, KvmVcpuEvents, VcpuEventFlags

__all__ = ["FLAG_FIELDS", "SHADOW_WORDS", "VALUE_WORDS", "bits_of", "words_of"]

Field = tuple[type[BaseModel], str]

FLAG_FIELDS: Mapping[Field, tuple[type[IntFlag], str]] = {
    (KvmVcpuEvents, "flags"): (VcpuEventFlags, "KVM_VCPUEVENT_"),
    (KvmClockData, "flags"): (ClockFlags, "KVM_CLOCK_"),
    (KvmPitState2, "flags"): (PitFlags, "KVM_PIT_FLAGS_"),
}
"""Flag words of the kernel: their flags, and the prefix that all names of the word share and that is left out."""

SHADOW_WORDS: Mapping[int, str] = {0: "none", 1: "mov_ss", 2: "sti", 3: "both"}
"""Words for an interrupt shadow, a set of `ShadowMask`."""

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
        return REGISTERS.get(field)
    flags, prefix = row
    fields = tuple(
        BitField(str(flag.name).removeprefix(prefix), flag.value.bit_length() - 1, text=str(flag.name))
        for flag in flags
    )
    return RegisterBits(f"{owner.__name__}.{field}", 32, fields, flags.__doc__ or "")


def words_of(owner: type[BaseModel] | None, field: str) -> Mapping[int, str]:
    """Return the words for the values of a field; empty if it has none."""
    return VALUE_WORDS.get((owner, field), {}) if owner else {}
