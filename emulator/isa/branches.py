"""Near branches.

A target outside the code segment or not canonical faults at the branch, which leaves RIP at the branch.

Source: SDM vol. 2, pages of JMP, Jcc, CALL, RET, LOOP, JCXZ.
"""

from collections.abc import Callable

from ..cpu import Cpu
from ..decode import Decoded
from ..exceptions import general_protection
from ..flags import CONDITION_NAMES, SINGLE_BIT_CONDITIONS, condition
from ..instruction import Action, op
from ..operands import load, register_store
from ..registers import CS, FLAG_ZF, MASK16, MASK32, MASK64, RCX
from ..translate import CANONICAL_HALF, NON_CANONICAL


def branch_bytes(insn: Decoded) -> int:
    """Operand size of a near branch: always 8 in 64-bit mode."""
    return 8 if insn.bits == 64 else insn.operand_size or insn.bits // 8


def jumper(cpu: Cpu, size: int) -> Callable[[int], None]:
    """Function that goes to an offset of `size` bytes, checked."""
    state, cs = cpu.state, cpu.state.segs[CS]
    if size == 8:

        def go_long(target: int) -> None:
            target &= MASK64
            if (target + CANONICAL_HALF) & NON_CANONICAL:
                raise general_protection()
            state.rip = target

        return go_long
    mask = MASK16 if size == 2 else MASK32

    def go(target: int) -> None:
        target &= mask
        if target > cs.limit:
            raise general_protection()
        state.rip = target

    return go


@op("JMP", syntax="JMP rel", form="b")
def jmp(cpu: Cpu, insn: Decoded) -> Action:
    """Relative jump."""
    state, displacement, go = cpu.state, insn.operands[0].value, jumper(cpu, branch_bytes(insn))
    return lambda: go(state.rip + displacement)


@op("JMP", syntax="JMP r/m", form="rm")
def jmp_indirect(cpu: Cpu, insn: Decoded) -> Action:
    """Absolute near jump."""
    target, go = load(cpu, insn, 0), jumper(cpu, branch_bytes(insn))
    return lambda: go(target())


def _conditional_jump(name: str) -> None:
    @op(f"J{name}", syntax=f"J{name} rel", form="b")
    def jcc(cpu: Cpu, insn: Decoded) -> Action:
        """Relative jump by a condition."""
        state, displacement, go = cpu.state, insn.operands[0].value, jumper(cpu, branch_bytes(insn))
        if name in SINGLE_BIT_CONDITIONS:
            mask, wanted = SINGLE_BIT_CONDITIONS[name]

            def if_set() -> None:
                if state.rflags & mask:
                    go(state.rip + displacement)

            def if_clear() -> None:
                if not state.rflags & mask:
                    go(state.rip + displacement)

            return if_set if wanted else if_clear
        holds = condition(state, name)

        def jump() -> None:
            if holds():
                go(state.rip + displacement)

        return jump


for _name in CONDITION_NAMES:
    _conditional_jump(_name)


@op("CALL", syntax="CALL rel", form="b")
def call(cpu: Cpu, insn: Decoded) -> Action:
    """Relative call."""
    state, displacement, size = cpu.state, insn.operands[0].value, branch_bytes(insn)
    return _call(cpu, lambda: state.rip + displacement, size)


@op("CALL", syntax="CALL r/m", form="rm")
def call_indirect(cpu: Cpu, insn: Decoded) -> Action:
    """Absolute near call."""
    return _call(cpu, load(cpu, insn, 0), branch_bytes(insn))


def _call(cpu: Cpu, target: Callable[[], int], size: int) -> Action:
    """Check the target first: a bad one pushes nothing."""
    state, go, ones = cpu.state, jumper(cpu, size), (1 << 8 * size) - 1

    def run() -> None:
        back = state.rip
        go(target())
        cpu.push(back & ones, size)

    return run


@op("RET", syntax="RET", form="")
def ret(cpu: Cpu, insn: Decoded) -> Action:
    """Return near."""
    return _return(cpu, branch_bytes(insn), 0)


@op("RET", syntax="RET imm16", form="i")
def ret_release(cpu: Cpu, insn: Decoded) -> Action:
    """Return near and release parameters."""
    return _return(cpu, branch_bytes(insn), insn.operands[0].value & MASK16)


def _return(cpu: Cpu, size: int, release: int) -> Action:
    """SP changes only once the target is known to be good."""
    gpr, go = cpu.state.gpr, jumper(cpu, size)

    def run() -> None:
        before = gpr[4]
        target = cpu.pop(size)
        try:
            go(target)
        except BaseException:
            gpr[4] = before
            raise
        if release:
            cpu.set_stack_pointer(gpr[4] + release)

    return run


def _counter(cpu: Cpu, insn: Decoded) -> tuple[Callable[[], int], Callable[[int], None]]:
    """CX, ECX or RCX by the address size: value, and a store."""
    gpr, mask = cpu.state.gpr, (1 << insn.address_bits) - 1
    return (lambda: gpr[RCX] & mask), register_store(cpu, RCX, insn.address_bits // 8)


@op("JCXZ", "JECXZ", "JRCXZ", syntax="JCXZ rel8; JECXZ rel8; JRCXZ rel8", form="b")
def jcxz(cpu: Cpu, insn: Decoded) -> Action:
    """Jump if the counter is zero."""
    state, displacement, go = cpu.state, insn.operands[0].value, jumper(cpu, branch_bytes(insn))
    count, _ = _counter(cpu, insn)

    def jump() -> None:
        if not count():
            go(state.rip + displacement)

    return jump


@op("LOOP", "LOOPE", "LOOPNE", syntax="LOOP rel8; LOOPE rel8; LOOPNE rel8", form="b")
def loop(cpu: Cpu, insn: Decoded) -> Action:
    """Count down and jump while not zero and, for LOOPE and LOOPNE, while ZF is as named."""
    state, displacement, go = cpu.state, insn.operands[0].value, jumper(cpu, branch_bytes(insn))
    count, put = _counter(cpu, insn)
    mask = (1 << insn.address_bits) - 1
    mnemonic = insn.mnemonic

    def run() -> None:
        left = count() - 1 & mask
        zero = bool(state.rflags & FLAG_ZF)
        if left and (mnemonic == "LOOP" or zero == (mnemonic == "LOOPE")):
            go(state.rip + displacement)
        put(left)

    return run
