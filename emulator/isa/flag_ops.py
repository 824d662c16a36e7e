"""Instructions on single flags, with the interrupt shadow of STI.

Source: SDM vol. 2, pages of CLC, CLD, CLI, CMC, LAHF, SAHF, STC, STD, STI.
"""

from ..cpu import Cpu
from ..decode import Decoded
from ..exceptions import general_protection
from ..flags import set_flags
from ..instruction import Action, op
from ..operands import register_load, register_store
from ..registers import FLAG_CF, FLAG_DF, FLAG_FIXED, FLAG_IF, FLAG_OF, FLAGS_STATUS, RAX, SHADOW_STI

_SIMPLE = {"CLC": (FLAG_CF, 0), "STC": (FLAG_CF, FLAG_CF), "CLD": (FLAG_DF, 0), "STD": (FLAG_DF, FLAG_DF)}


@op("CLC", "STC", "CLD", "STD", syntax="CLC; STC; CLD; STD", flags_written="CD")
def set_or_clear(cpu: Cpu, insn: Decoded) -> Action:
    """Set or clear CF or DF."""
    state, (mask, value) = cpu.state, _SIMPLE[insn.mnemonic]
    return lambda: set_flags(state, mask, value)


@op("CMC", syntax="CMC", flags_written="C")
def cmc(cpu: Cpu, _insn: Decoded) -> Action:
    """Complement CF."""
    state = cpu.state
    return lambda: set_flags(state, FLAG_CF, ~state.rflags)


@op("CLI", syntax="CLI", flags_written="I")
def cli(cpu: Cpu, _insn: Decoded) -> Action:
    """Clear IF; #GP(0) with CPL > IOPL. CR4.VME and PVI are not offered by any model."""
    state = cpu.state

    def clear() -> None:
        if state.cpl > state.rflags >> 12 & 3:
            raise general_protection()
        state.rflags &= ~FLAG_IF

    return clear


@op("STI", syntax="STI", flags_written="I")
def sti(cpu: Cpu, _insn: Decoded) -> Action:
    """Set IF; the STI shadow follows only if IF was clear.

    KVM's instruction emulator sets the shadow with IF already set, too; the SDM requires that IF was clear, and so
    do processors. Source: SDM vol. 2B STI, Description.
    """
    state = cpu.state

    def set_interrupts() -> None:
        if state.cpl > state.rflags >> 12 & 3:
            raise general_protection()
        if not state.rflags & FLAG_IF:
            state.rflags |= FLAG_IF
            cpu.set_shadow(SHADOW_STI)

    return set_interrupts


@op("LAHF", syntax="LAHF")
def lahf(cpu: Cpu, _insn: Decoded) -> Action:
    """AH = SF ZF 0 AF 0 PF 1 CF."""
    state, put = cpu.state, register_store(cpu, RAX, 1, 1)
    return lambda: put(state.rflags & FLAGS_STATUS & 0xFF | FLAG_FIXED)


@op("SAHF", syntax="SAHF", flags_written="SZAPC")
def sahf(cpu: Cpu, _insn: Decoded) -> Action:
    """SF ZF AF PF CF from AH."""
    state, get = cpu.state, register_load(cpu, RAX, 1, 1)
    return lambda: set_flags(state, FLAGS_STATUS & ~FLAG_OF, get())
