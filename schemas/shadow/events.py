"""The shadow put aside in kvm_vcpu_events, the canonical carrier: read, put, taken out."""

from __future__ import annotations

from ..errors import FieldError, Problem
from ..uapi.vcpu_events import SHADOW_MASKS, InterruptShadow, KvmVcpuEvents, VcpuEventFlags
from .carriers import SmmCarrier, checked_masks


def smm_shadow(events: KvmVcpuEvents) -> int:
    """Return the shadow put aside (0-3), 0 outside SMM or where the flag is clear."""
    return events.normalised().interrupt.shadow.smm & SHADOW_MASKS


def with_smm_shadow(events: KvmVcpuEvents, masks: int) -> KvmVcpuEvents:
    """Return the events with this shadow put aside, flag included.

    Raises:
        FieldError: `masks` is no shadow, or is nonzero while the vCPU is not in SMM.
    """
    checked_masks(masks, SmmCarrier.EVENTS_NIBBLE)
    in_smm = events.has(VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM) and events.smi.smm
    if masks and not in_smm:
        raise FieldError([Problem(where="events.interrupt.shadow", message="a shadow put aside outside SMM")])
    return _with_shadow(events, masks, events.flags | VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM_SHADOW)


def for_stock_kernel(events: KvmVcpuEvents) -> KvmVcpuEvents:
    """Return the events without the upper nibble and its flag, as every kernel so far needs them.

    SVM would take the nibble for a shadow in force, and the flag is EINVAL. The caller carries the shadow in SMRAM.
    """
    return _with_shadow(events, 0, events.flags & ~int(VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM_SHADOW))


def _with_shadow(events: KvmVcpuEvents, masks: int, flags: int) -> KvmVcpuEvents:
    shadow = InterruptShadow(current=events.interrupt.shadow.current, smm=masks)
    interrupt = events.interrupt.model_copy(update={"shadow": shadow})
    return events.model_copy(update={"interrupt": interrupt, "flags": int(flags)})
