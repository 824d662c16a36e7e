"""Rules on kvm_vcpu_events: INV-001 to INV-030."""

from __future__ import annotations

from ..errors import Severity
from ..state import VcpuState
from ..uapi.mp_state import MpState
from ..uapi.vcpu_events import SHADOW_MASKS, VcpuEventFlags
from .row import Details, Invariant

NMI_VECTOR = 2
LAST_EXCEPTION_VECTOR = 31
DB_VECTOR, PF_VECTOR = 1, 14
MAX_PENDING_NMIS = 2

ERROR_CODE_VECTORS = frozenset({8, 10, 11, 12, 13, 14, 17, 21, 29, 30})
"""#DF #TS #NP #SS #GP #PF #AC #CP #VC #SX. Source: SDM vol. 3A table 7-1; APM vol. 2 8.2."""

_FLAG = VcpuEventFlags
_ALL_FLAGS = sum(VcpuEventFlags)


def _flags(v: VcpuState) -> Details:
    if unknown := v.events.flags & ~_ALL_FLAGS:
        yield f"flags {v.events.flags:#x}: unknown {unknown:#x}"


def _smm_shadow_flag(v: VcpuState) -> Details:
    shadow = v.events.interrupt.shadow
    if shadow.smm and not v.events.has(_FLAG.KVM_VCPUEVENT_VALID_SMM_SHADOW):
        yield f"shadow {shadow.to_byte():#04x}, flags {v.events.flags:#x}"


def _smm_shadow_needs_smm_flag(v: VcpuState) -> Details:
    if v.events.has(_FLAG.KVM_VCPUEVENT_VALID_SMM_SHADOW) and not v.events.has(_FLAG.KVM_VCPUEVENT_VALID_SMM):
        yield f"flags {v.events.flags:#x}"


def _smm_shadow_outside(v: VcpuState) -> Details:
    shadow = v.events.interrupt.shadow
    if shadow.smm and not v.events.smi.smm:
        yield f"shadow {shadow.to_byte():#04x}, smi.smm 0"


def _smm_shadow_masks(v: VcpuState) -> Details:
    shadow = v.events.interrupt.shadow
    if shadow.smm & ~SHADOW_MASKS:
        yield f"shadow {shadow.to_byte():#04x}"


def _shadow_masks(v: VcpuState) -> Details:
    shadow = v.events.interrupt.shadow
    if shadow.current & ~SHADOW_MASKS:
        yield f"shadow {shadow.to_byte():#04x}"


def _shadow_flag(v: VcpuState) -> Details:
    shadow = v.events.interrupt.shadow
    if shadow.current and not v.events.has(_FLAG.KVM_VCPUEVENT_VALID_SHADOW):
        yield f"shadow {shadow.to_byte():#04x}, flags {v.events.flags:#x}"


def _smm_flag(v: VcpuState) -> Details:
    if any(v.events.smi.pack()) and not v.events.has(_FLAG.KVM_VCPUEVENT_VALID_SMM):
        yield f"smi {v.events.smi.pack().hex()}, flags {v.events.flags:#x}"


def _inside_nmi(v: VcpuState) -> Details:
    if v.events.smi.smm_inside_nmi and not v.events.smi.smm:
        yield "smm_inside_nmi 1, smm 0"


def _smm_nmi_open(v: VcpuState) -> Details:
    if v.events.smi.smm and not v.events.nmi.masked:
        yield "smm 1, nmi.masked 0"


def _smi_and_init(v: VcpuState) -> Details:
    if v.mp_state.mp_state == MpState.KVM_MP_STATE_INIT_RECEIVED and (v.events.smi.smm or v.events.smi.pending):
        yield f"smm {v.events.smi.smm}, smi.pending {v.events.smi.pending}, mp_state INIT_RECEIVED"


def _vector(v: VcpuState) -> Details:
    exception = v.events.exception
    illegal = exception.nr == NMI_VECTOR or exception.nr > LAST_EXCEPTION_VECTOR
    if illegal and (exception.injected or exception.pending):
        yield f"nr {exception.nr}"


def _pending_and_injected(v: VcpuState) -> Details:
    exception = v.events.exception
    if exception.pending and exception.injected and v.events.has(_FLAG.KVM_VCPUEVENT_VALID_PAYLOAD):
        yield f"pending {exception.pending}, injected {exception.injected}, nr {exception.nr}"


def _pending_flag(v: VcpuState) -> Details:
    exception = v.events.exception
    if exception.pending and not exception.injected and not v.events.has(_FLAG.KVM_VCPUEVENT_VALID_PAYLOAD):
        yield f"nr {exception.nr}, flags {v.events.flags:#x}"


def _payload_alone(v: VcpuState) -> Details:
    counts = v.events.exception.pending and v.events.has(_FLAG.KVM_VCPUEVENT_VALID_PAYLOAD)
    if v.events.exception_has_payload and not counts:
        yield f"payload {v.events.exception_payload:#x}"


def _payload_vector(v: VcpuState) -> Details:
    exception = v.events.exception
    if v.events.exception_has_payload and exception.pending and exception.nr not in (DB_VECTOR, PF_VECTOR):
        yield f"nr {exception.nr}, payload {v.events.exception_payload:#x}"


def _error_code(v: VcpuState) -> Details:
    exception = v.events.exception
    if not (exception.injected or exception.pending) or exception.nr > LAST_EXCEPTION_VECTOR:
        return
    protected = bool(v.sregs.cr0 & 1)
    wanted = exception.nr in ERROR_CODE_VECTORS
    if exception.has_error_code and not wanted:
        yield f"nr {exception.nr} has none, error_code {exception.error_code:#x}"
    elif wanted and protected and not exception.has_error_code:
        yield f"nr {exception.nr} has one, has_error_code 0"


def _several_injected(v: VcpuState) -> Details:
    events = v.events
    # Without VALID_PAYLOAD `injected` may stand for a pending exception, which coexists with an injected interrupt.
    exception = events.exception.injected and events.has(_FLAG.KVM_VCPUEVENT_VALID_PAYLOAD)
    named = {"exception": exception, "nmi": events.nmi.injected, "interrupt": events.interrupt.injected}
    held = [name for name, injected in named.items() if injected]
    if len(held) > 1:
        yield " and ".join(held)


def _soft(v: VcpuState) -> Details:
    if v.events.interrupt.soft:
        yield f"soft {v.events.interrupt.soft}, nr {v.events.interrupt.nr}"


def _nmi_count(v: VcpuState) -> Details:
    if v.events.nmi.pending > MAX_PENDING_NMIS:
        yield f"nmi.pending {v.events.nmi.pending}"


def _nmi_flag(v: VcpuState) -> Details:
    if v.events.nmi.pending and not v.events.has(_FLAG.KVM_VCPUEVENT_VALID_NMI_PENDING):
        yield f"nmi.pending {v.events.nmi.pending}, flags {v.events.flags:#x}"


def _triple_fault_flag(v: VcpuState) -> Details:
    if v.events.triple_fault.pending and not v.events.has(_FLAG.KVM_VCPUEVENT_VALID_TRIPLE_FAULT):
        yield f"flags {v.events.flags:#x}"


def _sipi_vector(v: VcpuState) -> Details:
    if v.events.sipi_vector > 0xFF and v.events.has(_FLAG.KVM_VCPUEVENT_VALID_SIPI_VECTOR):
        yield f"sipi_vector {v.events.sipi_vector:#x}"


def _booleans(v: VcpuState) -> Details:
    e = v.events
    for name, value in (
        ("exception.injected", e.exception.injected),
        ("exception.pending", e.exception.pending),
        ("exception.has_error_code", e.exception.has_error_code),
        ("exception_has_payload", e.exception_has_payload),
        ("interrupt.injected", e.interrupt.injected),
        ("interrupt.soft", e.interrupt.soft),
        ("nmi.injected", e.nmi.injected),
        ("nmi.masked", e.nmi.masked),
        ("smi.smm", e.smi.smm),
        ("smi.pending", e.smi.pending),
        ("smi.smm_inside_nmi", e.smi.smm_inside_nmi),
        ("smi.latched_init", e.smi.latched_init),
        ("triple_fault.pending", e.triple_fault.pending),
    ):
        if value > 1:
            yield f"{name} {value}"


def _bitmap(v: VcpuState) -> Details:
    held = [
        64 * word + bit for word, bits in enumerate(v.sregs.interrupt_bitmap) for bit in range(64) if bits >> bit & 1
    ]
    said = [v.events.interrupt.nr] if v.events.interrupt.injected else []
    if held and held != said:
        yield f"interrupt_bitmap has {held[:4]}, events.interrupt injects {said}"


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE
_SET = "Linux 6.12 x86.c kvm_vcpu_ioctl_x86_set_vcpu_events"
_LIST = "kvm list 2022-06-07 and 2022-08-25; ours"

EVENT_RULES: tuple[Invariant, ...] = (
    Invariant(
        "INV-001", _E, "events.flags", "only known flags", "clear the other bits", f"{_SET}: EINVAL", _flags
    ),
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
        "INV-011", _W, "events.smi", "SMM or a pending SMI with INIT_RECEIVED is refused before Linux 6.17",
        "restore MP_STATE after the events, or on a newer kernel", "Linux 6.17 commit 0fe3e8d804fd", _smi_and_init,
    ),
    Invariant(
        "INV-012", _E, "events.exception.nr", "an exception has vector 0-31, not 2", "use nmi for vector 2",
        f"{_SET}: EINVAL", _vector,
    ),
    Invariant(
        "INV-013", _E, "events.exception", "an exception is pending or injected, not both",
        "clear `injected`, as the kernel would", f"{_SET} step 2", _pending_and_injected,
    ),
    Invariant(
        "INV-014", _W, "events.exception.pending", "a pending exception without VALID_PAYLOAD is not restored",
        "set flag 0x10, or set `injected`", f"{_SET} step 2", _pending_flag,
    ),
    Invariant(
        "INV-015", _N, "events.exception_has_payload", "a payload without a pending exception does not count",
        "nothing to do: SET clears it", f"{_SET} step 2", _payload_alone,
    ),
    Invariant(
        "INV-016", _W, "events.exception_payload", "only #DB and #PF have a payload", "clear exception_has_payload",
        "Linux 6.12 x86.c kvm_deliver_exception_payload", _payload_vector,
    ),
    Invariant(
        "INV-017", _W, "events.exception.has_error_code", "the vector decides whether there is an error code",
        "VMX may refuse the entry", "SDM vol. 3C 27.2.1.3; Linux 7.3 errata.rst", _error_code,
    ),
    Invariant(
        "INV-018", _E, "events", "at most one event is being injected", "leave the others pending",
        "Linux 6.12 x86.c kvm_check_and_inject_events", _several_injected,
    ),
    Invariant(
        "INV-019", _N, "events.interrupt.soft", "a software interrupt in flight; KVM never reports one",
        "it is injected with the instruction length of the last exit", "Linux 6.12 …_get_vcpu_events", _soft,
    ),
    Invariant(
        "INV-020", _E, "events.nmi.pending", "at most two NMIs are latched", "use 2",
        "Linux 6.12 x86.c process_nmi", _nmi_count,
    ),
    Invariant(
        "INV-021", _W, "events.nmi.pending", "a pending NMI without VALID_NMI_PENDING is not restored",
        "set flag 0x01", f"{_SET} step 10", _nmi_flag,
    ),
    Invariant(
        "INV-022", _W, "events.triple_fault.pending", "a triple fault without VALID_TRIPLE_FAULT is not restored",
        "set flag 0x20", f"{_SET} step 14", _triple_fault_flag,
    ),
    Invariant(
        "INV-023", _E, "events.sipi_vector", "a SIPI vector has 8 bits", "use 0-255", "SDM vol. 3A 9.4", _sipi_vector
    ),
    Invariant(
        "INV-024", _E, "events", "flags of one byte are 0 or 1",
        "KVM reads 1 back; smi.smm 2 makes it leave nested mode",
        "Linux 6.12 …_get_vcpu_events", _booleans,
    ),
    Invariant(
        "INV-025", _W, "sregs.interrupt_bitmap", "the bitmap repeats the injected interrupt",
        "clear it: SREGS written after the events would inject it", "Linux 6.12 regs.c __set_sregs", _bitmap,
    ),
)  # fmt: skip
"""The rules on events. INV-026 to INV-030 are free."""
