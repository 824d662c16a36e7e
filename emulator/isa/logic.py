"""Logical operations.

Source: SDM vol. 2, pages of AND, OR, XOR, NOT, TEST.
"""

from ..cpu import Cpu
from ..decode import Decoded
from ..flags import Binary, Unary, logic
from ..instruction import Action, op
from ..operands import load, width
from ..state import CpuState
from .arithmetic import binary, unary


def _and(state: CpuState, bits: int) -> Binary:
    written = logic(state, bits)
    return lambda a, b: written(a & b)


def _or(state: CpuState, bits: int) -> Binary:
    written = logic(state, bits)
    return lambda a, b: written(a | b)


def _xor(state: CpuState, bits: int) -> Binary:
    written = logic(state, bits)
    return lambda a, b: written(a ^ b)


def _not(_state: CpuState, bits: int) -> Unary:
    ones = (1 << bits) - 1
    return lambda a: a ^ ones


@op("AND", syntax="AND r/m, r/m/imm", form="rm,rmi", flags_written="OSZPC", flags_undefined="A")
def and_(cpu: Cpu, insn: Decoded) -> Action:
    """Bitwise and."""
    return binary(cpu, insn, _and)


@op("OR", syntax="OR r/m, r/m/imm", form="rm,rmi", flags_written="OSZPC", flags_undefined="A")
def or_(cpu: Cpu, insn: Decoded) -> Action:
    """Bitwise or."""
    return binary(cpu, insn, _or)


@op("XOR", syntax="XOR r/m, r/m/imm", form="rm,rmi", flags_written="OSZPC", flags_undefined="A")
def xor(cpu: Cpu, insn: Decoded) -> Action:
    """Bitwise exclusive or."""
    return binary(cpu, insn, _xor)


@op("NOT", syntax="NOT r/m", form="rm")
def not_(cpu: Cpu, insn: Decoded) -> Action:
    """Bitwise complement; no flags."""
    return unary(cpu, insn, _not)


@op("TEST", syntax="TEST r/m, r/imm", form="rm,ri", flags_written="OSZPC", flags_undefined="A")
def test(cpu: Cpu, insn: Decoded) -> Action:
    """AND without the result."""
    size = width(insn)
    written = logic(cpu.state, 8 * size)
    left, right = load(cpu, insn, 0), load(cpu, insn, 1, size)

    def compare() -> None:
        written(left() & right())

    return compare
