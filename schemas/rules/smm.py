"""Rules on interrupt shadows and System Management Mode in kvm_vcpu_events: INV-002 to INV-011, INV-026."""

from __future__ import annotations

from ..errors import Severity
from ..uapi.mp_state import MpState
from ..uapi.vcpu_events import SHADOW_MASKS, VcpuEventFlags
from .facts import VcpuFacts
from .row import Details, Invariant

_FLAG = VcpuEventFlags
_WAITS_FOR_SIPI = (MpState.KVM_MP_STATE_INIT_RECEIVED, MpState.KVM_MP_STATE_SIPI_RECEIVED)


def _smm_shadow_flag(v: VcpuFacts) -> Details:
    shadow = v.events.interrupt.shadow
    if shadow.smm and not v.events.has(_FLAG.KVM_VCPUEVENT_VALID_SMM_SHADOW):
        yield f"shadow {shadow.to_byte():#04x}, flags {v.events.flags:#x}"


def _smm_shadow_needs_smm_flag(v: VcpuFacts) -> Details:
    if v.events.has(_FLAG.KVM_VCPUEVENT_VALID_SMM_SHADOW) and not v.events.has(_FLAG.KVM_VCPUEVENT_VALID_SMM):
        yield f"flags {v.events.flags:#x}"


def _smm_shadow_outside(v: VcpuFacts) -> Details:
    shadow = v.events.interrupt.shadow
    if shadow.smm and not v.events.smi.smm:
        yield f"shadow {shadow.to_byte():#04x}, smi.smm 0"


def _smm_shadow_masks(v: VcpuFacts) -> Details:
    shadow = v.events.interrupt.shadow
    if shadow.smm & ~SHADOW_MASKS:
        yield f"shadow {shadow.to_byte():#04x}"


def _shadow_masks(v: VcpuFacts) -> Details:
    shadow = v.events.interrupt.shadow
    if shadow.current & ~SHADOW_MASKS:
        yield f"shadow {shadow.to_byte():#04x}"


def _shadow_flag(v: VcpuFacts) -> Details:
    shadow = v.events.interrupt.shadow
    if shadow.current and not v.events.has(_FLAG.KVM_VCPUEVENT_VALID_SHADOW):
        yield f"shadow {shadow.to_byte():#04x}, flags {v.events.flags:#x}"


def _smm_flag(v: VcpuFacts) -> Details:
    if any(v.events.smi.pack()) and not v.events.has(_FLAG.KVM_VCPUEVENT_VALID_SMM):
        yield f"smi {v.events.smi.pack().hex()}, flags {v.events.flags:#x}"


def _inside_nmi(v: VcpuFacts) -> Details:
    if v.events.smi.smm_inside_nmi and not v.events.smi.smm:
        yield "smm_inside_nmi 1, smm 0"


def _smm_nmi_open(v: VcpuFacts) -> Details:
    if v.events.smi.smm and not v.events.nmi.masked:
        yield "smm 1, nmi.masked 0"


def _smi_and_init(v: VcpuFacts) -> Details:
    if v.mp_state.mp_state in _WAITS_FOR_SIPI and v.events.smi.pending and not v.events.smi.smm:
        yield f"smi.pending {v.events.smi.pending}, mp_state {v.mp_state.mp_state}"


def _smm_and_init(v: VcpuFacts) -> Details:
    if v.mp_state.mp_state in _WAITS_FOR_SIPI and v.events.smi.smm:
        yield f"smi.smm {v.events.smi.smm}, mp_state {v.mp_state.mp_state}"


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE
_SET = "Linux 6.12 x86.c kvm_vcpu_ioctl_x86_set_vcpu_events"
_LIST = "kvm list 2022-06-07 and 2022-08-25; ours"

SMM_RULES: tuple[Invariant, ...] = (
    Invariant(
        "INV-002", _E, "events.interrupt.shadow", "bits 4-7 need VALID_SMM_SHADOW",
        "set flag 0x40, or clear the upper nibble", _LIST, _smm_shadow_flag,
    ),
    Invariant(
        "INV-003", _E, "events.flags", "VALID_SMM_SHADOW needs VALID_SMM", "set flag 0x08", _LIST,
        _smm_shadow_needs_smm_flag,
    ),
    Invariant(
        "INV-004", _E, "events.interrupt.shadow", "a shadow is put aside only in SMM",
        "set smi.smm, or clear the upper nibble", _LIST, _smm_shadow_outside,
    ),
    Invariant(
        "INV-005", _E, "events.interrupt.shadow", "the shadow put aside is a set of masks: 0x10, 0x20, 0x30",
        "0x10 is MOV SS, 0x20 is STI", "Linux 6.12 KVM_X86_SHADOW_INT_*", _smm_shadow_masks,
    ),
    Invariant(
        "INV-006", _E, "events.interrupt.shadow", "the current shadow is a set of masks: 1, 2, 3",
        "1 is MOV SS, 2 is STI; SVM would take any nonzero byte as a shadow",
        "Linux 6.12 svm_set_interrupt_shadow, vmx_set_interrupt_shadow", _shadow_masks,
    ),
    Invariant(
        "INV-007", _W, "events.interrupt.shadow", "a shadow without VALID_SHADOW is not restored", "set flag 0x04",
        f"{_SET} step 9", _shadow_flag,
    ),
    Invariant(
        "INV-008", _E, "events.smi", "SMM state without VALID_SMM is not restored", "set flag 0x08",
        f"{_SET} step 13", _smm_flag,
    ),
    Invariant(
        "INV-009", _E, "events.smi.smm_inside_nmi", "smm_inside_nmi only in SMM", "clear it",
        "Linux 6.12 kvm_smm_changed clears HF_SMM_INSIDE_NMI_MASK", _inside_nmi,
    ),
    Invariant(
        "INV-010", _N, "events.nmi.masked", "in SMM with NMIs open: the handler has executed IRET", "nothing to do",
        "Linux 6.12 smm.c enter_smm; SDM vol. 3C 33.8", _smm_nmi_open,
    ),
    Invariant(
        "INV-011", _W, "events.smi", "a pending SMI while waiting for SIPI is refused before Linux 6.17",
        "restore MP_STATE after the events, or on a newer kernel", "Linux 6.17 commit 0fe3e8d804fd", _smi_and_init,
    ),
    Invariant(
        "INV-026", _E, "mp_state.mp_state", "a vCPU in SMM does not wait for SIPI: INIT is latched there",
        "set smi.latched_init and mp_state 0", "Linux 6.12 SET: EINVAL; since 6.17 KVM_RUN: EINVAL", _smm_and_init,
    ),
)  # fmt: skip
