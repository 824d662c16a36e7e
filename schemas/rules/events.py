"""Rules on exceptions, interrupts and NMIs in kvm_vcpu_events: INV-001, INV-012 to INV-030; the others are in `smm`."""

from __future__ import annotations

from ..errors import Severity
from ..uapi.vcpu_events import VcpuEventFlags
from .facts import VcpuFacts
from .row import INTEL, Details, Invariant

NMI_VECTOR = 2
LAST_EXCEPTION_VECTOR = 31
DB_VECTOR, PF_VECTOR = 1, 14
SOFT_VECTORS = (3, 4)
MAX_PENDING_NMIS = 2
VMX_ERROR_CODE_BITS = 16
DB_PAYLOAD_KNOWN = 0x1_F80F
"""B0-B3, bus lock, the internal "enabled breakpoint" (12), BD, BS, BT, RTM. Source: Linux 6.12 asm/kvm_host.h DR6_*."""

ERROR_CODE_VECTORS = frozenset({8, 10, 11, 12, 13, 14, 17, 21, 29, 30})
"""#DF #TS #NP #SS #GP #PF #AC #CP #VC #SX. Source: SDM vol. 3A table 7-1; APM vol. 2 8.2."""

_FLAG = VcpuEventFlags
_ALL_FLAGS = sum(VcpuEventFlags)


def _flags(v: VcpuFacts) -> Details:
    if unknown := v.events.flags & ~_ALL_FLAGS:
        yield f"flags {v.events.flags:#x}: unknown {unknown:#x}"


def _wide_error_code(v: VcpuFacts) -> Details:
    exception = v.events.exception
    held = exception.has_error_code and (exception.injected or exception.pending)
    if held and exception.error_code >> VMX_ERROR_CODE_BITS:
        yield f"nr {exception.nr}, error_code {exception.error_code:#x}"


def _db_payload(v: VcpuFacts) -> Details:
    events = v.events
    held = events.exception_has_payload and events.exception.pending and events.exception.nr == DB_VECTOR
    if held and events.exception_payload & ~DB_PAYLOAD_KNOWN:
        yield f"payload {events.exception_payload:#x}"


def _soft_exception(v: VcpuFacts) -> Details:
    exception = v.events.exception
    if exception.nr in SOFT_VECTORS and (exception.injected or exception.pending):
        yield f"nr {exception.nr}"


def _second_nmi(v: VcpuFacts) -> Details:
    nmi = v.events.nmi
    if nmi.pending == MAX_PENDING_NMIS and (nmi.masked or nmi.injected):
        yield f"nmi.pending {nmi.pending}, masked {nmi.masked}, injected {nmi.injected}"


def _vector(v: VcpuFacts) -> Details:
    exception = v.events.exception
    illegal = exception.nr == NMI_VECTOR or exception.nr > LAST_EXCEPTION_VECTOR
    if illegal and (exception.injected or exception.pending):
        yield f"nr {exception.nr}"


def _pending_and_injected(v: VcpuFacts) -> Details:
    exception = v.events.exception
    if exception.pending and exception.injected and v.events.has(_FLAG.KVM_VCPUEVENT_VALID_PAYLOAD):
        yield f"pending {exception.pending}, injected {exception.injected}, nr {exception.nr}"


def _pending_flag(v: VcpuFacts) -> Details:
    exception = v.events.exception
    if exception.pending and not exception.injected and not v.events.has(_FLAG.KVM_VCPUEVENT_VALID_PAYLOAD):
        yield f"nr {exception.nr}, flags {v.events.flags:#x}"


def _payload_alone(v: VcpuFacts) -> Details:
    counts = v.events.exception.pending and v.events.has(_FLAG.KVM_VCPUEVENT_VALID_PAYLOAD)
    if v.events.exception_has_payload and not counts:
        yield f"payload {v.events.exception_payload:#x}"


def _payload_vector(v: VcpuFacts) -> Details:
    exception = v.events.exception
    if v.events.exception_has_payload and exception.pending and exception.nr not in (DB_VECTOR, PF_VECTOR):
        yield f"nr {exception.nr}, payload {v.events.exception_payload:#x}"


def _error_code(v: VcpuFacts) -> Details:
    exception = v.events.exception
    if not (exception.injected or exception.pending) or exception.nr > LAST_EXCEPTION_VECTOR:
        return
    protected = bool(v.sregs.cr0 & 1)
    wanted = exception.nr in ERROR_CODE_VECTORS
    if exception.has_error_code and not wanted:
        yield f"nr {exception.nr} has none, error_code {exception.error_code:#x}"
    elif wanted and protected and not exception.has_error_code:
        yield f"nr {exception.nr} has one, has_error_code 0"


def _several_injected(v: VcpuFacts) -> Details:
    events = v.events
    # Without VALID_PAYLOAD `injected` may stand for a pending exception, which coexists with an injected interrupt.
    exception = events.exception.injected and events.has(_FLAG.KVM_VCPUEVENT_VALID_PAYLOAD)
    named = {"exception": exception, "nmi": events.nmi.injected, "interrupt": events.interrupt.injected}
    held = [name for name, injected in named.items() if injected]
    if len(held) > 1:
        yield " and ".join(held)


def _soft(v: VcpuFacts) -> Details:
    if v.events.interrupt.soft:
        yield f"soft {v.events.interrupt.soft}, nr {v.events.interrupt.nr}"


def _nmi_count(v: VcpuFacts) -> Details:
    if v.events.nmi.pending > MAX_PENDING_NMIS:
        yield f"nmi.pending {v.events.nmi.pending}"


def _nmi_flag(v: VcpuFacts) -> Details:
    if v.events.nmi.pending and not v.events.has(_FLAG.KVM_VCPUEVENT_VALID_NMI_PENDING):
        yield f"nmi.pending {v.events.nmi.pending}, flags {v.events.flags:#x}"


def _triple_fault_flag(v: VcpuFacts) -> Details:
    if v.events.triple_fault.pending and not v.events.has(_FLAG.KVM_VCPUEVENT_VALID_TRIPLE_FAULT):
        yield f"flags {v.events.flags:#x}"


def _sipi_vector(v: VcpuFacts) -> Details:
    if v.events.sipi_vector > 0xFF and v.events.has(_FLAG.KVM_VCPUEVENT_VALID_SIPI_VECTOR):
        yield f"sipi_vector {v.events.sipi_vector:#x}"


def _booleans(v: VcpuFacts) -> Details:
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


def _bitmap(v: VcpuFacts) -> Details:
    held = [
        64 * word + bit for word, bits in enumerate(v.sregs.interrupt_bitmap) for bit in range(64) if bits >> bit & 1
    ]
    said = [v.events.interrupt.nr] if v.events.interrupt.injected else []
    if held and held != said:
        yield f"interrupt_bitmap has {held[:4]}, events.interrupt injects {said}"


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE
_SET = "Linux 6.12 x86.c kvm_vcpu_ioctl_x86_set_vcpu_events"

EVENT_RULES: tuple[Invariant, ...] = (
    Invariant(
        "INV-001", _E, "events.flags", "only known flags", "clear the other bits", f"{_SET}: EINVAL", _flags
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
    Invariant(
        "INV-027", _W, "events.exception.error_code", "VMX injects 16 bits of an error code", "the upper half is lost",
        "Linux 6.12 vmx.c vmx_inject_exception; SDM vol. 3C 27.2.1.3", _wide_error_code, host_vendor=INTEL,
        host_severity=_W,
    ),
    Invariant(
        "INV-028", _W, "events.exception_payload", "a #DB payload has bits of DR6 only", "clear the others",
        "Linux 6.12 x86.c kvm_deliver_exception_payload: the others reach DR6", _db_payload,
    ),
    Invariant(
        "INV-029", _W, "events.exception.nr", "#BP and #OF are not carried: their instruction is executed again",
        "clear the exception; RIP stands before INT3 or INTO", "Linux 6.12 …_get_vcpu_events", _soft_exception,
    ),
    Invariant(
        "INV-030", _W, "events.nmi.pending", "one NMI is latched while NMIs are masked or one is being injected",
        "the second is dropped", "Linux 6.12 x86.c process_nmi", _second_nmi,
    ),
)  # fmt: skip
