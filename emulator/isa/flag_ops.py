"""Instructions on single flags, with the interrupt shadow of STI.

Source: SDM vol. 2, pages of CLC, CLD, CLI, CMC, LAHF, SAHF, STC, STD, STI.
"""

from ..cpu import Cpu
from ..decode import Decoded
from ..flags import set_flags
from ..instruction import Action, op
from ..operands import register_load, register_store
from ..registers import FLAG_CF, FLAG_DF, FLAG_FIXED, FLAG_OF, FLAGS_STATUS, RAX
from ..v86 import set_interrupt_flag

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
    """Clear IF, or VIF with CPL > IOPL where CR4.VME or PVI allows it; else #GP(0)."""
    return lambda: set_interrupt_flag(cpu, enable=False)


@op("STI", syntax="STI", flags_written="I")
def sti(cpu: Cpu, _insn: Decoded) -> Action:
    """Set IF (or VIF, as CLI); the STI shadow follows only if IF was clear.

    KVM's instruction emulator sets the shadow with IF already set, too; the SDM requires that IF was clear, and so
    do processors. Source: SDM vol. 2B STI, Description.
    """
    return lambda: set_interrupt_flag(cpu, enable=True)


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
