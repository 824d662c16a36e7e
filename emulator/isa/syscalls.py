"""Fast system calls and SWAPGS, as on Intel processors: SYSCALL and SYSRET in 64-bit mode only.

Source: SDM vol. 2, pages of SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS.
"""

from ..cpu import Cpu
from ..decode import Decoded
from ..exceptions import general_protection, undefined_opcode
from ..instruction import Action, op
from ..registers import (
    CR0_PE,
    CS,
    EFER_LMA,
    EFER_SCE,
    FLAG_FIXED,
    FLAG_IF,
    FLAG_RF,
    FLAG_TF,
    FLAG_VM,
    FLAGS_DEFINED,
    GS,
    MASK32,
    MSR_KERNEL_GS_BASE,
    MSR_LSTAR,
    MSR_SFMASK,
    MSR_STAR,
    MSR_SYSENTER_CS,
    MSR_SYSENTER_EIP,
    MSR_SYSENTER_ESP,
    R11,
    RCX,
    RDX,
    RSP,
    SS,
)
from ..translate import canonical


def _flat(cpu: Cpu, index: int, selector: int, dpl: int, long_code: bool) -> None:
    """A segment register with the fixed contents that these instructions load."""
    seg = cpu.state.segs[index]
    code = index == CS
    seg.selector, seg.base, seg.limit = selector, 0, MASK32
    seg.type, seg.s, seg.dpl, seg.present, seg.avl = 11 if code else 3, 1, dpl, 1, 0
    seg.l, seg.db, seg.g, seg.unusable = int(code and long_code), int(not (code and long_code)), 1, 0
    seg.refresh()


def _enter_level(cpu: Cpu, cs: int, ss: int, cpl: int, long_code: bool) -> None:
    _flat(cpu, CS, cs, cpl, long_code)
    _flat(cpu, SS, ss, cpl, long_code)
    cpu.state.cpl = cpl
    cpu.update_mode()


@op("SYSCALL", syntax="SYSCALL", flags_written="OSZAPCDITNLXR")
def syscall(cpu: Cpu, insn: Decoded) -> Action:
    """To LSTAR at CPL 0; RCX and R11 take RIP and RFLAGS. TF counts as it is afterwards."""
    state, gpr = cpu.state, cpu.state.gpr

    def run() -> None:
        if insn.bits != 64 or not state.efer & EFER_SCE:
            raise undefined_opcode()
        star = state.msrs.get(MSR_STAR, 0)
        gpr[RCX] = state.rip
        gpr[R11] = state.eflags() & ~FLAG_RF
        state.rflags = state.rflags & ~(state.msrs.get(MSR_SFMASK, 0) | FLAG_RF) | FLAG_FIXED
        cpu.trap_inhibited = not state.rflags & FLAG_TF
        selector = star >> 32 & 0xFFFC
        _enter_level(cpu, selector, selector + 8 & 0xFFFF, 0, long_code=True)
        state.rip = state.msrs.get(MSR_LSTAR, 0)

    return run


@op("SYSRET", "SYSRETQ", syntax="SYSRET; SYSRETQ", flags_written="OSZAPCDITNLXR")
def sysret(cpu: Cpu, insn: Decoded) -> Action:
    """Back to CPL 3 at RCX with the flags of R11: 64-bit code with REX.W, else compatibility mode."""
    state, gpr, wide = cpu.state, cpu.state.gpr, insn.mnemonic == "SYSRETQ"

    def run() -> None:
        if insn.bits != 64 or not state.efer & EFER_SCE:
            raise undefined_opcode()
        target = gpr[RCX]
        if state.cpl or (wide and not canonical(target)):
            raise general_protection()
        base = state.msrs.get(MSR_STAR, 0) >> 48
        state.rflags = gpr[R11] & FLAGS_DEFINED & ~(FLAG_RF | FLAG_VM) | FLAG_FIXED
        _enter_level(cpu, base + (16 if wide else 0) & 0xFFFF | 3, base + 8 & 0xFFFF | 3, 3, long_code=wide)
        state.rip = target if wide else target & MASK32

    return run


@op("SYSENTER", syntax="SYSENTER", flags_written="I")
def sysenter(cpu: Cpu, _insn: Decoded) -> Action:
    """To IA32_SYSENTER_EIP at CPL 0."""
    state, gpr = cpu.state, cpu.state.gpr

    def run() -> None:
        selector = state.msrs.get(MSR_SYSENTER_CS, 0) & 0xFFFC
        if not state.cr0 & CR0_PE or not selector:
            raise general_protection()
        long_mode = bool(state.efer & EFER_LMA)
        mask = -1 if long_mode else MASK32
        state.rflags &= ~(FLAG_IF | FLAG_VM | FLAG_RF)
        _enter_level(cpu, selector, selector + 8 & 0xFFFF, 0, long_code=long_mode)
        gpr[RSP] = state.msrs.get(MSR_SYSENTER_ESP, 0) & mask
        state.rip = state.msrs.get(MSR_SYSENTER_EIP, 0) & mask

    return run


@op("SYSEXIT", "SYSEXITQ", syntax="SYSEXIT; SYSEXITQ")
def sysexit(cpu: Cpu, insn: Decoded) -> Action:
    """Back to CPL 3 at (E/R)DX with the stack of (E/R)CX."""
    state, gpr, wide = cpu.state, cpu.state.gpr, insn.mnemonic == "SYSEXITQ"

    def run() -> None:
        base = state.msrs.get(MSR_SYSENTER_CS, 0) & 0xFFFC
        if not state.cr0 & CR0_PE or not base or state.cpl:
            raise general_protection()
        rip, rsp = (gpr[RDX], gpr[RCX]) if wide else (gpr[RDX] & MASK32, gpr[RCX] & MASK32)
        if wide and not (canonical(rip) and canonical(rsp)):
            raise general_protection()
        offset = 32 if wide else 16
        _enter_level(cpu, base + offset & 0xFFFF | 3, base + offset + 8 & 0xFFFF | 3, 3, long_code=wide)
        state.rip, gpr[RSP] = rip, rsp

    return run


@op("SWAPGS", syntax="SWAPGS")
def swapgs(cpu: Cpu, insn: Decoded) -> Action:
    """Exchange GS.base with KERNEL_GS_BASE; 64-bit mode only."""
    state, gs = cpu.state, cpu.state.segs[GS]

    def run() -> None:
        if insn.bits != 64:
            raise undefined_opcode()
        if state.cpl:
            raise general_protection()
        gs.base, state.msrs[MSR_KERNEL_GS_BASE] = state.msrs.get(MSR_KERNEL_GS_BASE, 0), gs.base

    return run
