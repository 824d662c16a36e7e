"""The page's local APIC: mode, vectors, timer, local vector table."""

from __future__ import annotations

from collections.abc import Iterator

from ..names.apic import APIC_REGISTERS
from ..names.bits import REGISTERS
from ..state import VcpuState
from .lapic import ApicTimer, LapicView
from .rows import BLANK, Line, duration, hex32, hex64, ranges

_BSP, _EXTD, _EN = 1 << 8, 1 << 10, 1 << 11
_DEFAULT_BASE = 0xFEE00000
_ADDRESS = 0x000FFFFFFFFFF000
MSR_IA32_TSC, MSR_IA32_TSC_DEADLINE = 0x10, 0x6E0

_SUMMARISED = {"ID", "TASKPRI", "SPIV", "LVTT", "TMICT", "TMCCT", "TDCR"}
_MASKED = 1 << 16


def lapic_lines(vcpu: VcpuState) -> Iterator[Line]:
    """Yield the APIC's mode, its vectors and timer, and the registers that are not at reset."""
    view = LapicView.of(vcpu.lapic)
    yield _mode_line(vcpu)
    if not vcpu.sregs.apic_base & _EN and not any(vcpu.lapic.regs):
        return
    yield _id_line(vcpu, view)
    spiv = view.value("SPIV")
    text = f"{'enabled' if view.enabled else 'disabled by SPIV'}, spurious vector {spiv & 0xFF:#x}"
    yield Line("SPIV", hex32(spiv), text)
    tpr = view.value("TASKPRI")
    yield Line("TASKPRI", hex32(tpr), f"holds back vectors below {(tpr & 0xF0) + 16:#x}" if tpr else "", usual=not tpr)
    yield Line("IRR", "", ranges(view.irr) + (" requested" if view.irr else ""), usual=not view.irr)
    yield Line("ISR", "", ranges(view.isr) + (" in service" if view.isr else ""), usual=not view.isr)
    yield Line("TMR", "", ranges(view.tmr) + (" level-triggered" if view.tmr else ""), usual=not view.tmr)
    yield _timer_line(vcpu, view.timer)
    yield from _register_lines(view)
    for offset, body in view.gaps.items():
        yield Line(f"{offset:#05x}", body[:8].hex(), "junk between registers", unusual=True)


def _mode_line(vcpu: VcpuState) -> Line:
    base = vcpu.sregs.apic_base
    mode = ("disabled", "xAPIC mode", "invalid: EXTD without EN", "x2APIC mode")[
        bool(base & _EN) | bool(base & _EXTD) << 1
    ]
    words = [mode] + ["boot processor"] * bool(base & _BSP)
    if base & _ADDRESS != _DEFAULT_BASE:
        words.append(f"at {base & _ADDRESS:#x}")
    row = REGISTERS["apic_base"]
    odd = base & ~row.named or not base & _EN or base & _ADDRESS != _DEFAULT_BASE
    return Line("apic_base", hex64(base), ", ".join(words), unusual=bool(odd))


def _id_line(vcpu: VcpuState, view: LapicView) -> Line:
    """Return the APIC ID; in x2APIC mode KVM shows all 32 bits only to those who asked for it."""
    raw = view.value("ID")
    if not vcpu.sregs.apic_base & _EXTD:
        return Line("ID", hex32(raw), f"APIC ID {raw >> 24}", usual=raw >> 24 == vcpu.index)
    text = f"APIC ID {raw}, or {raw >> 24} without KVM_X2APIC_API_USE_32BIT_IDS" if raw else "APIC ID 0"
    return Line("ID", hex32(raw), text, usual=vcpu.index in (raw, raw >> 24))


def _timer_line(vcpu: VcpuState, timer: ApicTimer) -> Line:
    words = [timer.mode, f"vector {timer.vector:#x}"] + ["masked"] * timer.masked
    if timer.mode == "TSC-deadline":
        words.append(_deadline(vcpu))
    elif timer.armed:
        words += [f"{timer.current} of {timer.initial} left", f"bus clock / {timer.divisor or '?'}"]
    else:
        words.append("not counting")
    idle = timer.masked and not timer.armed and not timer.vector and timer.mode == "one-shot"
    return Line("timer", "", ", ".join(words), unusual=timer.mode == "reserved", usual=idle)


def _deadline(vcpu: VcpuState) -> str:
    """Return when the deadline is, against the TSC that was saved beside it."""
    held = vcpu.msrs.values_by_index()
    deadline = held.get(MSR_IA32_TSC_DEADLINE, 0)
    if not deadline:
        return "no deadline"
    khz, tsc = vcpu.tsc_khz.tsc_khz, held.get(MSR_IA32_TSC)
    if not khz or tsc is None:
        return f"deadline {deadline:#x}"
    ns = (deadline - tsc) * 1_000_000 // khz
    return f"due in {duration(ns)}" if ns >= 0 else f"overdue by {duration(-ns)}"


def _register_lines(view: LapicView) -> Iterator[Line]:
    """Yield the other registers; the short page leaves out those at reset and masked vectors without a number."""
    for row in APIC_REGISTERS:
        if row.name in _SUMMARISED or row.name not in view.registers:
            continue
        value = view.value(row.name)
        words = REGISTERS[row.bits].describe(value) if row.bits else BLANK
        local = row.name.startswith("LVT")
        idle = value == 0 or bool(value & _MASKED) if local else row.reset is None
        idle = idle or row.reset == value
        usual = idle or row.name in ("LVR", "ICR", "ICR2", "ARBPRI", "PROCPRI", "RRR", "EOI", "LDR", "DFR")
        odd = row.name == "ESR" and value != 0
        yield Line(
            row.name, hex32(value), f"{row.text}: {words}" if words != BLANK else row.text, unusual=odd, usual=usual
        )
