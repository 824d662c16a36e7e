"""The four places in which the shadow that an SMI puts aside travels, and the code between number and masks."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from ..errors import FieldError, Problem
from ..uapi.vcpu_events import SHADOW_MASKS, ShadowMask

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
    return _ROWS[carrier].encode(checked_masks(masks, carrier))


def decode(value: int, carrier: SmmCarrier) -> int:
    """Return the shadow (0-3) that a carrier's number holds.

    Raises:
        FieldError: the number holds anything else; nothing is dropped silently.
    """
    return checked_masks(_ROWS[carrier].decode(value), carrier)


def convert(value: int, source: SmmCarrier, destination: SmmCarrier) -> int:
    """Return a carrier's number as another carrier's. Nothing is lost: every carrier holds both masks.

    Raises:
        FieldError: the number holds bits that no shadow has.
    """
    return encode(decode(value, source), destination)


def checked_masks(masks: int, carrier: SmmCarrier) -> int:
    """Return a shadow (0-3) as it is.

    Raises:
        FieldError: `masks` has other bits than those of `ShadowMask`.
    """
    if masks & ~SHADOW_MASKS or masks < 0:
        text = f"{masks:#x} is no interrupt shadow"
        raise FieldError([Problem(where=carrier, message=text, hint="1 is MOV SS, 2 is STI, 3 is both")])
    return masks
