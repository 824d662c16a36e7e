"""The page's events: what is in flight, in words."""

from __future__ import annotations

from collections.abc import Iterator

from ..field_names import bits_of
from ..names.bits import REGISTERS
from ..names.mp_states import MP_STATES, mp_state_name
from ..names.vectors import vector, vector_name
from ..state import VcpuState
from ..uapi.vcpu_events import SHADOW_MASKS, KvmVcpuEvents, VcpuEventFlags
from .mode import SHADOW_TEXTS
from .rows import BLANK, Line, hex32, hex64, junk_line

_IGNORED = "ignored: its flag is clear in `flags`"


def event_lines(vcpu: VcpuState) -> Iterator[Line]:
    """Yield what is injected, pending, masked or put aside; on the short page nothing that is zero."""
    events = vcpu.events
    number = vcpu.mp_state.mp_state
    text = f"{mp_state_name(number)}: {MP_STATES[number][1]}" if number in MP_STATES else "no state of x86"
    yield Line("mp_state", str(number), text, unusual=number not in (0, 3), usual=number == 0)
    yield from _exception_lines(events)
    yield from _interrupt_lines(events)
    yield from _nmi_lines(events)
    yield from _smm_lines(events)
    pending = events.triple_fault.pending
    yield _line(events, "triple_fault.pending", pending, "KVM_RUN exits with KVM_EXIT_SHUTDOWN", "TRIPLE_FAULT")
    yield _line(events, "sipi_vector", events.sipi_vector, f"starts at {events.sipi_vector << 12:#x}", "SIPI_VECTOR")
    bits = bits_of(KvmVcpuEvents, "flags")
    words = bits.describe(events.flags) if bits else ""
    yield Line("flags", hex32(events.flags), words, unusual="reserved" in words, usual=True)
    yield from junk_line("reserved", bytes((events.nmi.pad,)) + events.reserved)


def _line(events: KvmVcpuEvents, name: str, value: int, text: str, flag: str = "") -> Line:
    """Return the line of one field: unusual if it is set; ignored if its flag is clear."""
    valid = not flag or events.has(VcpuEventFlags[f"KVM_VCPUEVENT_VALID_{flag}"])
    return Line(name, str(value), (text if valid else _IGNORED) if value else "", unusual=bool(value), usual=not value)


def _exception_lines(events: KvmVcpuEvents) -> Iterator[Line]:
    exception = events.exception
    name = vector_name(exception.nr)
    row = vector(exception.nr)
    what = f"{name} {row.text}" if row else name
    code = f", error code {exception.error_code:#x} {_error_text(events)}" if exception.has_error_code else ""
    yield _line(events, "exception.injected", exception.injected, f"{what}{code.rstrip()}: delivery starts again")
    yield _line(events, "exception.pending", exception.pending, f"{what}{code.rstrip()}: not yet delivered", "PAYLOAD")
    if exception.injected or exception.pending:
        if events.exception_has_payload:
            target = {1: "for DR6", 14: "for CR2"}.get(exception.nr, "")
            yield Line("exception_payload", hex64(events.exception_payload), target, unusual=True)
    else:
        stale = exception.nr or exception.error_code or exception.has_error_code or events.exception_payload
        yield Line("exception", str(exception.nr), f"stale: {name}, nothing in flight" if stale else "", usual=True)


def _error_text(events: KvmVcpuEvents) -> str:
    row, code = vector(events.exception.nr), events.exception.error_code
    if row is None or row.error_code is None:
        return "(this vector has none)"
    if row.error_code == "zero":
        return "(always 0)" if code else ""
    bits = REGISTERS.get(row.error_code)
    words = bits.describe(code) if bits else BLANK
    return "" if words == BLANK else f"({words})"


def _interrupt_lines(events: KvmVcpuEvents) -> Iterator[Line]:
    interrupt = events.interrupt
    kind = "INT n" if interrupt.soft else "external"
    yield _line(events, "interrupt.injected", interrupt.injected, f"{kind}, vector {interrupt.nr:#x}")
    shadow = interrupt.shadow.current
    text = SHADOW_TEXTS[shadow & SHADOW_MASKS] + (", unknown masks" if shadow & ~SHADOW_MASKS else "")
    yield _line(events, "interrupt.shadow", shadow, f"{text}: interrupts wait for one instruction", "SHADOW")


def _nmi_lines(events: KvmVcpuEvents) -> Iterator[Line]:
    nmi = events.nmi
    yield _line(events, "nmi.injected", nmi.injected, "NMI: delivery starts again")
    yield _line(events, "nmi.pending", nmi.pending, "waiting", "NMI_PENDING")
    yield _line(events, "nmi.masked", nmi.masked, "until IRET")


def _smm_lines(events: KvmVcpuEvents) -> Iterator[Line]:
    smi, aside = events.smi, events.interrupt.shadow.smm
    yield _line(events, "smi.smm", smi.smm, "in System Management Mode", "SMM")
    text = f"{SHADOW_TEXTS[aside & SHADOW_MASKS]}: put aside by the SMI, RSM brings it back"
    yield _line(events, "interrupt.shadow.smm", aside, text, "SMM_SHADOW")
    yield _line(events, "smi.pending", smi.pending, "one SMI is latched", "SMM")
    yield _line(events, "smi.smm_inside_nmi", smi.smm_inside_nmi, "RSM leaves NMIs masked", "SMM")
    yield _line(events, "smi.latched_init", smi.latched_init, "an INIT waits until SMM is left", "SMM")
