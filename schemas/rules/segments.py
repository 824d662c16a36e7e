"""Rules on segments: what a descriptor can hold (INV-065), and what VMX demands at entry (INV-037 to INV-048).

Source: SDM vol. 3C 27.3.1.2, 27.3.1.3, with an unrestricted guest as KVM runs it. KVM sets the accessed bit (type bit
0) of every segment but LDTR itself, and a segment that is not present becomes unusable (Linux 6.12 vmx.c
__vmx_set_segment, vmx_segment_access_rights), so neither is demanded here.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import Severity
from ..uapi.sregs import KvmSegment
from .facts import CR0_PE, RFLAGS_VM, VcpuFacts, is_canonical
from .row import INTEL, At, Check, Details, Invariant

_ALL = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")
_DATA = ("ds", "es", "fs", "gs")
_CODE_TYPES, _STACK_TYPES, _TSS_TYPES, _LDT_TYPE, _BUSY_TSS64 = (9, 11, 13, 15), (3, 7), (3, 11), 2, 11
_DATA_RW, _CONFORMING = 3, 4
_TI = 1 << 2
_V86_LIMIT, _V86_TYPE, _V86_DPL = 0xFFFF, 3, 3

_LIMITS = (
    ("type", 15), ("present", 1), ("dpl", 3), ("db", 1), ("s", 1), ("l", 1), ("g", 1), ("avl", 1), ("unusable", 1)
)  # fmt: skip


def _segments(v: VcpuFacts, names: tuple[str, ...]) -> Iterator[tuple[str, KvmSegment]]:
    held = v.sregs.__dict__
    for name in names:
        yield name, held[name]


def _usable(v: VcpuFacts, names: tuple[str, ...]) -> Iterator[tuple[str, KvmSegment]]:
    for name, segment in _segments(v, names):
        if segment.present and not segment.unusable:
            yield name, segment


def _virtual_8086(v: VcpuFacts) -> bool:
    return bool(v.regs.rflags & RFLAGS_VM)


def _bits(v: VcpuFacts) -> Details:
    for name, segment in _segments(v, _ALL):
        held = segment.__dict__
        for field, most in _LIMITS:
            if held[field] > most:
                yield At(f"sregs.{name}.{field}", f"{name}.{field} {held[field]}")


def _limits(v: VcpuFacts) -> Details:
    for name, segment in _usable(v, _ALL):
        low, high = segment.limit & 0xFFF, segment.limit >> 20
        if (segment.g and low != 0xFFF) or (not segment.g and high):
            yield At(f"sregs.{name}.limit", f"{name} limit {segment.limit:#x}, g {segment.g}")


def _bases(v: VcpuFacts) -> Details:
    for name, segment in _segments(v, ("cs", "ds", "es", "ss")):
        if segment.base >> 32 and not segment.unusable:
            yield At(f"sregs.{name}.base", f"{name} base {segment.base:#x}")


def _code(v: VcpuFacts) -> Details:
    cs, ss = v.sregs.cs, v.sregs.ss
    if _virtual_8086(v):
        return
    kind = cs.type | 1
    if cs.unusable or not cs.present or not cs.s or (kind not in _CODE_TYPES and kind != _DATA_RW):
        yield f"cs type {cs.type}, s {cs.s}, present {cs.present}, unusable {cs.unusable}"
    elif kind == _DATA_RW and cs.dpl:
        yield f"cs type {cs.type}, dpl {cs.dpl}, expected 0"
    elif kind != _DATA_RW and (cs.dpl > ss.dpl if kind & _CONFORMING else cs.dpl != ss.dpl):
        yield f"cs type {cs.type}, dpl {cs.dpl}, ss.dpl {ss.dpl}"


def _stack(v: VcpuFacts) -> Details:
    ss = v.sregs.ss
    if _virtual_8086(v):
        return
    if (not v.sregs.cr0 & CR0_PE or v.sregs.cs.type | 1 == _DATA_RW) and ss.dpl:
        yield f"ss.dpl {ss.dpl}, cr0 {v.sregs.cr0:#x}, cs type {v.sregs.cs.type}: expected 0"
    if ss.present and not ss.unusable and (ss.type | 1 not in _STACK_TYPES or not ss.s):
        yield f"ss type {ss.type}, s {ss.s}"


def _data(v: VcpuFacts) -> Details:
    if _virtual_8086(v):
        return
    for name, segment in _usable(v, _DATA):
        if not segment.s or segment.type & 0b1010 == 0b1000:
            yield At(f"sregs.{name}", f"{name} type {segment.type}, s {segment.s}: expected data, or readable code")


def _task(v: VcpuFacts) -> Details:
    tr = v.sregs.tr
    allowed = (_BUSY_TSS64,) if v.long_mode else _TSS_TYPES
    if tr.unusable or not tr.present or tr.s or tr.type | 1 not in allowed or tr.selector & _TI:
        yield f"tr selector {tr.selector:#x}, type {tr.type}, s {tr.s}, present {tr.present}, unusable {tr.unusable}"


def _local(v: VcpuFacts) -> Details:
    ldt = v.sregs.ldt
    if ldt.present and not ldt.unusable and (ldt.type != _LDT_TYPE or ldt.s or ldt.selector & _TI):
        yield f"ldt selector {ldt.selector:#x}, type {ldt.type}, s {ldt.s}"


def _v86(v: VcpuFacts) -> Details:
    if not _virtual_8086(v):
        return
    for name, s in _segments(v, ("cs", "ss", *_DATA)):
        plain = s.s and s.present and not (s.db or s.l or s.g or s.unusable)
        if s.base != s.selector << 4 or s.limit != _V86_LIMIT:
            yield At(f"sregs.{name}", f"{name} selector {s.selector:#x}, base {s.base:#x}, limit {s.limit:#x}")
        elif not plain or s.type | 1 != _V86_TYPE or s.dpl != _V86_DPL:
            yield At(f"sregs.{name}", f"{name} type {s.type}, dpl {s.dpl}, expected 16-bit data of DPL 3")


def _canonical(v: VcpuFacts) -> Details:
    bits = v.linear_bits
    for name, segment in _segments(v, ("fs", "gs", "tr", "ldt")):
        if not is_canonical(segment.base, bits) and not (name == "ldt" and segment.unusable):
            yield At(f"sregs.{name}.base", f"{name} base {segment.base:#x}")
    for name in ("gdt", "idt"):
        if not is_canonical(base := getattr(v.sregs, name).base, bits):
            yield At(f"sregs.{name}.base", f"{name} base {base:#x}")


def _rule(number: int, where: str, text: str, hint: str, check: Check) -> Invariant:
    source = "SDM vol. 3C 27.3.1.2, 27.3.1.3"
    return Invariant(f"INV-{number:03}", Severity.WARNING, where, text, hint, source, check, host_vendor=INTEL)


SEGMENT_RULES: tuple[Invariant, ...] = (
    _rule(37, "sregs", "a segment limit fits its granularity", "set g, or round the limit", _limits),
    _rule(38, "sregs", "CS, DS, ES and SS have 32-bit bases", "clear the upper half", _bases),
    _rule(41, "sregs.cs", "CS is present code of the right DPL, or data in real mode", "type 11, s 1", _code),
    _rule(42, "sregs.ss", "SS is writable data; its DPL is the CPL", "type 3 or 7, s 1", _stack),
    _rule(43, "sregs", "DS, ES, FS and GS are data or readable code", "type 3, s 1, or unusable", _data),
    _rule(44, "sregs.tr", "TR is a busy TSS, 64-bit in long mode", "type 11, s 0, present 1", _task),
    _rule(45, "sregs.ldt", "LDTR is an LDT or unusable", "type 2, s 0, or unusable", _local),
    _rule(46, "sregs", "in virtual-8086 mode a segment is its selector times 16, of DPL 3", "correct it", _v86),
    _rule(47, "sregs", "FS, GS, TR, LDTR, GDTR and IDTR have canonical bases", "sign-extend them", _canonical),
    Invariant(
        "INV-065", Severity.ERROR, "sregs", "segment attributes fit their descriptor bits", "KVM would cut them",
        "SDM vol. 3A 3.4.5", _bits,
    ),
)  # fmt: skip
