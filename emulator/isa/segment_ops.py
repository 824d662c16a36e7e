"""Segment registers, descriptor tables and checks of selectors.

Source: SDM vol. 2, pages of MOV, LDS/LES/LFS/LGS/LSS, LAR, LSL, VERR, VERW, ARPL, LLDT, LTR, SLDT, STR.
"""

from collections.abc import Callable

from ..cpu import Cpu
from ..decode import Decoded
from ..exceptions import general_protection, undefined_opcode
from ..flags import set_flags
from ..instruction import Action, op
from ..operands import load, modify, store, width
from ..registers import CS, EFER_LMA, FLAG_ZF, SHADOW_MOV_SS, SS
from ..segments import Descriptor, fill_null, load_data_segment, load_system_segment, read_descriptor
from ..state import Segment
from .far import far_pointer
from .system import user_mode_prevented

_LOADS = {"LES": 0, "LSS": 2, "LDS": 3, "LFS": 4, "LGS": 5}


@op("MOV", syntax="MOV Sreg, r/m16", form="s,rm")
def mov_to_segment(cpu: Cpu, insn: Decoded) -> Action:
    """Load a segment register; SS sets the MOV SS shadow. MOV CS decodes on an 8086 only."""
    index, value = insn.operands[0].value, load(cpu, insn, 1, 2)

    def move() -> None:
        load_data_segment(cpu, index, value())
        if index == SS:
            cpu.set_shadow(SHADOW_MOV_SS)
        elif index == CS:
            cpu.update_mode()

    return move


@op("MOV", syntax="MOV r/m, Sreg", form="rm,s")
def mov_from_segment(cpu: Cpu, insn: Decoded) -> Action:
    """Store a selector: zero-extended into a register, 16 bits into memory."""
    seg = cpu.state.segs[insn.operands[1].value]
    put = store(cpu, insn, 0, None if insn.operands[0].kind == "r" else 2)
    return lambda: put(seg.selector)


@op("LES", "LDS", "LSS", "LFS", "LGS", syntax="LxS r, m16:16/32/64", form="r,m")
def load_pointer(cpu: Cpu, insn: Decoded) -> Action:
    """Load a segment register and a general one; LSS gives no interrupt shadow."""
    size, index = width(insn), _LOADS[insn.mnemonic]
    pointer, put = far_pointer(cpu, insn, 1, size), store(cpu, insn, 0)

    def run() -> None:
        selector, offset = pointer()
        load_data_segment(cpu, index, selector)
        put(offset)

    return run


def _protected(cpu: Cpu, action: Action) -> Action:
    """#UD in real and virtual-8086 mode."""

    def run() -> None:
        if cpu.real_segments:
            raise undefined_opcode()
        action()

    return run


def _try_descriptor(cpu: Cpu, selector: int) -> Descriptor | None:
    """A descriptor that instructions may ask about, None where they answer with ZF = 0."""
    if not selector & 0xFFFC:
        return None
    table = cpu.state.ldtr if selector & 4 else cpu.state.gdtr
    if (selector & 4 and cpu.state.ldtr.unusable) or selector | 7 > table.limit:
        return None
    return read_descriptor(cpu, selector)


def _visible(cpu: Cpu, descriptor: Descriptor) -> bool:
    """Whether CPL and RPL may look at a descriptor: conforming code always."""
    if descriptor.is_code and descriptor.conforming:
        return True
    return descriptor.dpl >= max(cpu.state.cpl, descriptor.selector & 3)


def _question(cpu: Cpu, insn: Decoded, n: int, answer: Callable[[Descriptor], int | None]) -> Action:
    """ZF = 1 and the destination written if there is an answer."""
    state, selector_of = cpu.state, load(cpu, insn, n, 2)
    put = store(cpu, insn, 0) if n else None

    def ask() -> None:
        descriptor = _try_descriptor(cpu, selector_of())
        value = answer(descriptor) if descriptor is not None else None
        set_flags(state, FLAG_ZF, 0 if value is None else FLAG_ZF)
        if value is not None and put is not None:
            put(value)

    return _protected(cpu, ask)


@op("LAR", syntax="LAR r, r/m16", form="r,rm", flags_written="Z")
def lar(cpu: Cpu, insn: Decoded) -> Action:
    """Access rights of a descriptor."""
    mask = 0xFFFF if width(insn) == 2 else 0xFFFFFFFF

    def answer(descriptor: Descriptor) -> int | None:
        system = (2, 9, 11, 12) if cpu.state.efer & EFER_LMA else (1, 2, 3, 4, 5, 9, 11, 12)
        if (not descriptor.s and descriptor.type not in system) or not _visible(cpu, descriptor):
            return None
        return descriptor.raw >> 32 & 0x00F0FF00 & mask

    return _question(cpu, insn, 1, answer)


@op("LSL", syntax="LSL r, r/m16", form="r,rm", flags_written="Z")
def lsl(cpu: Cpu, insn: Decoded) -> Action:
    """Limit of a descriptor, in bytes."""
    mask = (1 << 8 * width(insn)) - 1

    def answer(descriptor: Descriptor) -> int | None:
        system = (2, 9, 11) if cpu.state.efer & EFER_LMA else (1, 2, 3, 9, 11)
        if (not descriptor.s and descriptor.type not in system) or not _visible(cpu, descriptor):
            return None
        return descriptor.limit & mask

    return _question(cpu, insn, 1, answer)


@op("VERR", syntax="VERR r/m16", form="rm", flags_written="Z")
def verr(cpu: Cpu, insn: Decoded) -> Action:
    """Whether a segment can be read."""

    def answer(descriptor: Descriptor) -> int | None:
        readable = descriptor.s and (not descriptor.is_code or descriptor.type & 2)
        return 1 if readable and _visible(cpu, descriptor) else None

    return _question(cpu, insn, 0, answer)


@op("VERW", syntax="VERW r/m16", form="rm", flags_written="Z")
def verw(cpu: Cpu, insn: Decoded) -> Action:
    """Whether a segment can be written."""

    def answer(descriptor: Descriptor) -> int | None:
        writable = descriptor.s and not descriptor.is_code and descriptor.type & 2
        return 1 if writable and _visible(cpu, descriptor) else None

    return _question(cpu, insn, 0, answer)


@op("ARPL", syntax="ARPL r/m16, r16", form="rm,r", flags_written="Z")
def arpl(cpu: Cpu, insn: Decoded) -> Action:
    """Raise the destination's RPL to the source's."""
    state, (get, put), source = cpu.state, modify(cpu, insn, 0, 2), load(cpu, insn, 1, 2)

    def adjust() -> None:
        value, rpl = get(), source() & 3
        lower = value & 3 < rpl
        put(value & ~3 | rpl if lower else value)
        set_flags(state, FLAG_ZF, FLAG_ZF if lower else 0)

    return _protected(cpu, adjust)


@op("SLDT", "STR", syntax="SLDT r/m; STR r/m", form="rm")
def store_system_selector(cpu: Cpu, insn: Decoded) -> Action:
    """Selector of LDTR or TR."""
    seg = cpu.state.ldtr if insn.mnemonic == "SLDT" else cpu.state.tr
    put = store(cpu, insn, 0, insn.operands[0].size if insn.operands[0].kind == "r" else 2)
    return _protected(cpu, user_mode_prevented(cpu, lambda: put(seg.selector)))


@op("LLDT", syntax="LLDT r/m16", form="rm")
def lldt(cpu: Cpu, insn: Decoded) -> Action:
    """Load LDTR; a null selector makes it unusable."""
    selector_of, state = load(cpu, insn, 0, 2), cpu.state

    def run() -> None:
        if state.cpl:
            raise general_protection()
        selector = selector_of()
        if not selector & 0xFFFC:
            fill_null(state.ldtr, selector)
        else:
            load_system_segment(cpu, state.ldtr, selector, (2,))

    return _protected(cpu, run)


@op("LTR", syntax="LTR r/m16", form="rm")
def ltr(cpu: Cpu, insn: Decoded) -> Action:
    """Load TR from an available TSS and mark it busy."""
    selector_of, state = load(cpu, insn, 0, 2), cpu.state

    def run() -> None:
        if state.cpl:
            raise general_protection()
        selector = selector_of()
        if not selector & 0xFFFC:
            raise general_protection()
        loaded = Segment()
        descriptor = load_system_segment(cpu, loaded, selector, (9,) if state.efer & EFER_LMA else (1, 9))
        loaded.type |= 2
        cpu.mmu.write_slow(descriptor.address + 5, 1, (descriptor.raw >> 40 & 0xFF) | 2, 0)
        state.tr.copy_from(loaded)

    return _protected(cpu, run)
