"""The interrupt shadow that an SMI puts aside, and the four places in which it has been proposed to travel.

An SMI may come while the one-instruction shadow of STI or MOV SS is in force. Entry puts it aside and clears it, RSM
brings it back, and a migration inside the handler has to carry it. `events_nibble` is the form that we keep; each
carrier encodes the same set of masks into a number of its own, so any two convert through `decode` and `encode`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from .errors import FieldError, Problem
from .uapi.vcpu_events import SHADOW_MASKS, InterruptShadow, KvmVcpuEvents, ShadowMask, VcpuEventFlags

SMRAM_INT_SHADOW_32 = 0xFF1A
SMRAM_INT_SHADOW_64 = 0xFECB
"""Offset of the byte `int_shadow` from SMBASE in the 32-bit and the 64-bit save area.

Source: Linux 6.12 arch/x86/kvm/smm.h kvm_smram_state_32, kvm_smram_state_64; merged in 6.2 as fb28875fd7da.
"""

KVM_STATE_NESTED_SMM_STI_BLOCKING = 0x0004
KVM_STATE_NESTED_SMM_MOV_SS_BLOCKING = 0x0008
"""Flags of kvm_nested_state. Named on the kvm list on 2022-08-24 without numbers: the values are ours."""


class SmmCarrier(StrEnum):
    """A place in which the shadow put aside travels."""

    EVENTS_NIBBLE = "events_nibble"
    SMRAM = "smram"
    NESTED_FLAGS = "nested_flags"
    SMI_SUBSTRUCT = "smi_substruct"


class CarrierRow(NamedTuple):
    """One carrier: where its number lives, who wanted it, and the code between number and masks."""

    carrier: SmmCarrier
    where: str
    status: str
    encode: Callable[[int], int]
    decode: Callable[[int], int]


def _to_nested(masks: int) -> int:
    return (KVM_STATE_NESTED_SMM_STI_BLOCKING if masks & ShadowMask.KVM_X86_SHADOW_INT_STI else 0) | (
        KVM_STATE_NESTED_SMM_MOV_SS_BLOCKING if masks & ShadowMask.KVM_X86_SHADOW_INT_MOV_SS else 0
    )


def _from_nested(value: int) -> int:
    sti = ShadowMask.KVM_X86_SHADOW_INT_STI if value & KVM_STATE_NESTED_SMM_STI_BLOCKING else 0
    mov_ss = ShadowMask.KVM_X86_SHADOW_INT_MOV_SS if value & KVM_STATE_NESTED_SMM_MOV_SS_BLOCKING else 0
    rest = value & ~(KVM_STATE_NESTED_SMM_STI_BLOCKING | KVM_STATE_NESTED_SMM_MOV_SS_BLOCKING)
    return sti | mov_ss | rest << 8


def _to_nibble(masks: int) -> int:
    return masks << 4


def _from_nibble(value: int) -> int:
    return value >> 4 | (value & 15) << 8  # a current shadow in the low nibble is not what is converted: refused


def _same(value: int) -> int:
    return value


CARRIERS: tuple[CarrierRow, ...] = (
    CarrierRow(
        SmmCarrier.EVENTS_NIBBLE,
        "kvm_vcpu_events.interrupt.shadow bits 4-7, valid with KVM_VCPUEVENT_VALID_SMM_SHADOW and smi.smm",
        "ours, canonical; proposed on the kvm list on 2022-08-25, never merged",
        _to_nibble,
        _from_nibble,
    ),
    CarrierRow(
        SmmCarrier.SMRAM,
        "the byte int_shadow of the SMRAM save area: SMBASE+0xFF1A (32-bit map), SMBASE+0xFECB (64-bit map)",
        "merged in Linux 6.2",
        _same,
        _same,
    ),
    CarrierRow(
        SmmCarrier.NESTED_FLAGS,
        "kvm_nested_state.hdr.vmx.smm.flags bits 2 (STI) and 3 (MOV SS)",
        "proposed on 2022-08-24 without numbers, never merged; the values are ours",
        _to_nested,
        _from_nested,
    ),
    CarrierRow(
        SmmCarrier.SMI_SUBSTRUCT,
        "a byte behind kvm_vcpu_events.triple_fault, where `reserved` begins",
        "proposed on 2022-08-25, never merged; the layout is ours",
        _same,
        _same,
    ),
)
_ROWS = {row.carrier: row for row in CARRIERS}


def encode(masks: int, carrier: SmmCarrier) -> int:
    """Return a shadow (0-3) as the number that the carrier holds.

    Raises:
        FieldError: `masks` has other bits than those of `ShadowMask`.
    """
    return _ROWS[carrier].encode(_checked(masks, carrier))


def decode(value: int, carrier: SmmCarrier) -> int:
    """Return the shadow (0-3) that a carrier's number holds.

    Raises:
        FieldError: the number holds anything else; nothing is dropped silently.
    """
    return _checked(_ROWS[carrier].decode(value), carrier)


def convert(value: int, source: SmmCarrier, destination: SmmCarrier) -> int:
    """Return a carrier's number as another carrier's. Nothing is lost: every carrier holds both masks.

    Raises:
        FieldError: the number holds bits that no shadow has.
    """
    return encode(decode(value, source), destination)


def _checked(masks: int, carrier: SmmCarrier) -> int:
    if masks & ~SHADOW_MASKS or masks < 0:
        text = f"{masks:#x} is no interrupt shadow"
        raise FieldError([Problem(where=carrier, message=text, hint="1 is MOV SS, 2 is STI, 3 is both")])
    return masks


def smm_shadow(events: KvmVcpuEvents) -> int:
    """Return the shadow put aside (0-3), 0 outside SMM or where the flag is clear."""
    return events.normalised().interrupt.shadow.smm & SHADOW_MASKS


def with_smm_shadow(events: KvmVcpuEvents, masks: int) -> KvmVcpuEvents:
    """Return the events with this shadow put aside, flag included.

    Raises:
        FieldError: `masks` is no shadow, or is nonzero while the vCPU is not in SMM.
    """
    _checked(masks, SmmCarrier.EVENTS_NIBBLE)
    in_smm = events.has(VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM) and events.smi.smm
    if masks and not in_smm:
        raise FieldError([Problem(where="events.interrupt.shadow", message="a shadow put aside outside SMM")])
    return _with_shadow(events, masks, events.flags | VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM_SHADOW)


def for_stock_kernel(events: KvmVcpuEvents) -> KvmVcpuEvents:
    """Return the events without the upper nibble and its flag, as every kernel so far needs them.

    SVM would take the nibble for a shadow in force, and the flag is EINVAL. The caller carries the shadow in SMRAM.
    """
    return _with_shadow(events, 0, events.flags & ~VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM_SHADOW)


def _with_shadow(events: KvmVcpuEvents, masks: int, flags: int) -> KvmVcpuEvents:
    shadow = InterruptShadow(current=events.interrupt.shadow.current, smm=masks)
    interrupt = events.interrupt.model_copy(update={"shadow": shadow})
    return events.model_copy(update={"interrupt": interrupt, "flags": int(flags)})
