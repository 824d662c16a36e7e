"""The page's registers: general ones, control registers, segments, breakpoints."""

from __future__ import annotations

from collections.abc import Iterator

from ..names.bits import REGISTERS
from ..names.segments import SEGMENT_NAMES, segment_type
from ..shadow import in_smm
from ..state import VcpuState
from ..uapi.sregs import KvmDtable, KvmSegment
from ..uapi.sregs2 import KVM_SREGS2_FLAGS_PDPTRS_VALID
from .mode import Mode, Paging, is_64_bit, mode_of, paging_of
from .rows import Line, hex32, hex64, ranges, register_line

GENERAL = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)))
DR6_RESET, DR7_RESET = 0xFFFF0FF0, 0x400
_TF, _NT, _VM = 1 << 8, 1 << 14, 1 << 17
_PCIDE, _LA57 = 1 << 17, 1 << 12
_ADDRESS = 0x000FFFFFFFFFF000
_FLAT_LIMITS = (0xFFFFFFFF, 0xFFFFF)


def general_lines(vcpu: VcpuState) -> Iterator[Line]:
    """Yield the sixteen general registers; 8 digits where no upper half is used."""
    values = {name: getattr(vcpu.regs, name) for name in GENERAL}
    wide = is_64_bit(vcpu) or any(value >> 32 for value in values.values())
    for name, value in values.items():
        yield Line(name, hex64(value) if wide else hex32(value), usual=not wide and name in GENERAL[8:] and not value)


def control_lines(vcpu: VcpuState) -> Iterator[Line]:
    """Yield RIP, RFLAGS and the control registers with their bits."""
    sregs = vcpu.sregs
    text, odd = _rip_text(vcpu)
    yield Line("rip", hex64(vcpu.regs.rip), text, unusual=odd)
    yield register_line("rflags", vcpu.regs.rflags, "rflags", alarm=_TF | _NT | _VM)
    yield register_line("cr0", sregs.cr0, "cr0")
    yield Line("cr2", hex64(sregs.cr2), "last page fault" if sregs.cr2 else "", usual=not sregs.cr2)
    yield _cr3_line(vcpu)
    yield register_line("cr4", sregs.cr4, "cr4")
    yield register_line("cr8", sregs.cr8, "cr8", usual=not sregs.cr8)
    yield register_line("efer", sregs.efer, "efer")
    if vcpu.xcrs.xcr0 is not None:
        yield register_line("xcr0", vcpu.xcrs.xcr0, "xcr0", usual=not is_64_bit(vcpu) and vcpu.xcrs.xcr0 <= 1)
    pending = [n for n in range(256) if sregs.interrupt_bitmap[n // 64] >> n % 64 & 1]
    if pending:
        yield Line("interrupt_bitmap", ranges(pending), "queued again by KVM_SET_SREGS", unusual=True)
    yield from _sregs2_lines(vcpu)


def _rip_text(vcpu: VcpuState) -> tuple[str, bool]:
    """Return what is at RIP, and whether that is odd."""
    rip, base = vcpu.regs.rip, vcpu.sregs.cs.base
    if mode_of(vcpu) is Mode.LONG_64:
        bits = 57 if vcpu.sregs.cr4 & _LA57 else 48
        canonical = rip >> bits - 1 in (0, (1 << 65 - bits) - 1)
        return ("", False) if canonical else ("not canonical", True)
    linear = base + rip & 0xFFFFFFFF
    if linear == 0xFFFFFFF0:
        return "reset vector", False
    if in_smm(vcpu.events) and rip == 0x8000:
        return f"entry of the SMI handler, linear {linear:#x}", False
    return (f"linear {linear:#x}" if base else ""), False


def _cr3_line(vcpu: VcpuState) -> Line:
    """Return CR3 with the address of the top table; which bits are what depends on CR4.PCIDE and the paging mode."""
    cr3, paging = vcpu.sregs.cr3, paging_of(vcpu)
    bits = REGISTERS["cr3_pcid" if vcpu.sregs.cr4 & _PCIDE else "cr3"]
    mask = 0xFFFFFFE0 if paging is Paging.PAE else _ADDRESS
    rest = bits.describe(cr3 & ~mask)
    words = "" if paging is Paging.OFF else f"table at {cr3 & mask:#x}"
    words = " ".join(filter(None, (words, "" if rest == "-" else rest)))
    strange = cr3 & ~bits.named & ~mask
    return Line("cr3", hex64(cr3), words, unusual=bool(strange), usual=paging is Paging.OFF and not cr3)


def _sregs2_lines(vcpu: VcpuState) -> Iterator[Line]:
    """Yield the PDPTRs, and in which registers kvm_sregs2 says something else than kvm_sregs."""
    second = vcpu.sregs2
    if second is None:
        return
    if second.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID:
        for n, pdptr in enumerate(second.pdptrs):
            text = f"table at {pdptr & _ADDRESS:#x}" if pdptr & 1 else "not present"
            yield Line(f"pdptr{n}", hex64(pdptr), text, usual=not pdptr)
    other = [name for name in _COMMON if getattr(second, name) != getattr(vcpu.sregs, name)]
    if other:
        yield Line("sregs2", "", f"differs from sregs in {', '.join(other)}", unusual=True)


_COMMON = (*SEGMENT_NAMES, "gdt", "idt", "cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apic_base")


def segment_lines(vcpu: VcpuState) -> Iterator[Line]:
    """Yield the segments, equal ones in one line, and the descriptor tables."""
    merged: dict[KvmSegment, list[str]] = {}
    for name in SEGMENT_NAMES:
        merged.setdefault(getattr(vcpu.sregs, name), []).append(name)
    for segment, names in merged.items():
        yield _segment_line(" ".join(names), segment, vcpu)
    yield _table_line("gdt", vcpu.sregs.gdt, f"{(vcpu.sregs.gdt.limit + 1) // 8} descriptors")
    yield _table_line("idt", vcpu.sregs.idt, _idt_text(vcpu))


def _segment_line(name: str, segment: KvmSegment, vcpu: VcpuState) -> Line:
    raw = f"{segment.selector:04x} {segment.base:016x} {segment.limit:08x}"
    if segment.unusable or not segment.present:
        state = "unusable" if segment.unusable else "not present"
        odd = "cs" in name.split() or (segment.unusable and segment.present)
        return Line(name, raw, state + _junk(segment), unusual=bool(odd or _junk(segment)))
    words = [segment_type(segment.s, segment.type), f"DPL {segment.dpl}"]
    if segment.s:
        code = segment.type & 8
        words.append("64-bit" if code and segment.l else "32-bit" if segment.db else "16-bit")
        if segment.base == 0 and segment.limit in _FLAT_LIMITS:
            words.append("flat")
    words += [text for held, text in ((segment.g, "G"), (segment.avl, "AVL")) if held]
    real = mode_of(vcpu) is Mode.REAL and segment.s
    if real and segment.base != segment.selector << 4:
        words.append("base is not selector * 16")
    junk = _junk(segment)
    odd = bool(junk) or bool(segment.type & 8 and segment.l and segment.db)
    return Line(name, raw, ", ".join(words) + junk, unusual=odd)


def _junk(segment: KvmSegment) -> str:
    """Return which bytes hold what no descriptor can."""
    limits = {
        "type": 15,
        "present": 1,
        "dpl": 3,
        "db": 1,
        "s": 1,
        "l": 1,
        "g": 1,
        "avl": 1,
        "unusable": 1,
        "padding": 0,
    }
    odd = [f"{name}={getattr(segment, name):#x}" for name, most in limits.items() if getattr(segment, name) > most]
    return f", junk: {' '.join(odd)}" if odd else ""


def _table_line(name: str, table: KvmDtable, text: str) -> Line:
    junk = any(table.padding)
    return Line(
        name, f"     {table.base:016x} {table.limit:08x}", text + (", junk in padding" if junk else ""), unusual=junk
    )


def _idt_text(vcpu: VcpuState) -> str:
    size = vcpu.sregs.idt.limit + 1
    if mode_of(vcpu) is Mode.REAL:
        return f"{size // 4} vectors"
    return f"{size // (16 if is_64_bit(vcpu) else 8)} gates"


def debug_lines(vcpu: VcpuState) -> Iterator[Line]:
    """Yield the breakpoints that are enabled, and DR6 and DR7 where they are not at reset."""
    regs = vcpu.debugregs
    bits = REGISTERS["dr7"].decode(regs.dr7)
    for n, address in enumerate(regs.db):
        enabled = bits[f"L{n}"] or bits[f"G{n}"]
        kind = ("execute", "write", "I/O", "read or write")[bits[f"RW{n}"]]
        text = f"breakpoint: {kind}, {(1, 2, 8, 4)[bits[f'LEN{n}']]} bytes" if enabled else ""
        yield Line(f"dr{n}", hex64(address), text, unusual=bool(enabled), usual=not address)
    yield register_line("dr6", regs.dr6, "dr6", usual=regs.dr6 == DR6_RESET)
    yield register_line("dr7", regs.dr7, "dr7", alarm=1 << 13, usual=regs.dr7 == DR7_RESET)
    if regs.flags or any(regs.reserved):
        yield Line(
            "flags", hex64(regs.flags), "KVM_SET_DEBUGREGS refuses flags; reserved words hold junk", unusual=True
        )
