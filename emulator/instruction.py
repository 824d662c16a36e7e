"""The table of instructions: one block each, found by mnemonic and operand kinds, compiled to a closure.

A block is a builder: from the CPU and the decoded instruction it makes the function that executes it. When that
function runs, RIP already points behind the instruction; a fault puts it back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from .decode import Decoded
from .exceptions import GuestFault, UnsupportedInstruction, undefined_opcode

if TYPE_CHECKING:
    from .cpu import Cpu

Action = Callable[[], None]
Builder = Callable[["Cpu", Decoded], Action]

FAMILIES = (
    "moves", "arithmetic", "logic", "shifts", "multiply", "bits", "decimal", "stack", "branches", "far", "strings",
    "port_io", "flag_ops", "segment_ops", "system", "control", "syscalls", "exchange", "identify",
)  # fmt: skip
"""Modules of `isa`, each a family of blocks."""


@dataclass(frozen=True, slots=True)
class Block:
    """One instruction. `form` says which operand kinds it takes ("rm,rmi": register or memory, then any source).

    `flags_written` and `flags_undefined` name flags by letter: O S Z A P C, D I T N (NT) V (VM) R (RF) L (IOPL) and
    X (AC ID).
    """

    mnemonic: str
    syntax: str
    form: str
    flags_written: str
    flags_undefined: str
    build: Builder
    family: str

    def takes(self, insn: Decoded) -> bool:
        """Whether the operand kinds fit."""
        kinds = self.form.split(",") if self.form else []
        return len(kinds) == len(insn.operands) and all(
            operand.kind in allowed for operand, allowed in zip(insn.operands, kinds, strict=True)
        )


BLOCKS: dict[str, list[Block]] = {}
"""Blocks by mnemonic."""


def op(
    *mnemonics: str, syntax: str, form: str = "", flags_written: str = "", flags_undefined: str = ""
) -> Callable[[Builder], Builder]:
    """Register a builder for one or more mnemonics of the decoder."""

    def register(build: Builder) -> Builder:
        family = build.__module__.rpartition(".")[2]
        for mnemonic in mnemonics:
            block = Block(mnemonic, syntax, form, flags_written, flags_undefined, build, family)
            BLOCKS.setdefault(mnemonic, []).append(block)
        return build

    return register


def load_families() -> None:
    """Import every family once, so that its blocks are registered."""
    for family in FAMILIES:
        import_module(f".isa.{family}", __package__)


def find_block(insn: Decoded) -> Block | None:
    """The block of an instruction, if it is built."""
    return next((block for block in BLOCKS.get(insn.mnemonic, ()) if block.takes(insn)), None)


def compile_instruction(cpu: "Cpu", insn: Decoded, linear: int) -> Action:
    """Make the function that executes an instruction.

    Raises:
        UnsupportedInstruction: the CPU model has the instruction but there is no block for it.
    """
    if not insn.features <= cpu.model.features:
        return _not_in_model(cpu, insn)
    block = find_block(insn)
    if block is None:
        raise UnsupportedInstruction(insn.mnemonic, linear, insn.code)
    return block.build(cpu, insn)


def _not_in_model(cpu: "Cpu", insn: Decoded) -> Action:
    """#UD; x87 opcodes give #NM first where CR0.EM or CR0.TS asks for it. Source: SDM vol. 3A table 2-2."""
    state, coprocessor = cpu.state, bool(insn.features & {"FPU", "FPU287", "FPU387"})

    def undefined() -> None:
        if coprocessor and state.cr0 & 0xC:
            raise GuestFault(7)
        raise undefined_opcode()

    return undefined


def raise_invalid() -> None:
    """Action of an encoding that no processor has."""
    raise undefined_opcode()
