"""IN and OUT, and the permission that all port instructions need.

Source: SDM vol. 1 19.5 (I/O protection), vol. 2 pages of IN, OUT.
"""

from ..cpu import Cpu
from ..decode import Decoded
from ..exceptions import general_protection
from ..instruction import Action, op
from ..operands import load, register_load, register_store, width
from ..registers import CR0_PE, MASK16, RAX

_BUSY_TSS_32 = 11
_IO_MAP_BASE = 0x66


def check_port(cpu: Cpu, port: int, size: int) -> None:
    """With CPL > IOPL, and always in virtual-8086 mode, the TSS's I/O bitmap must allow every byte.

    It also notes I/O breakpoints.

    Raises:
        GuestFault: #GP(0).
    """
    state = cpu.state
    cpu.breakpoints.port_access(port, size)
    if not state.cr0 & CR0_PE or (state.cpl <= state.rflags >> 12 & 3 and not cpu.v86):
        return
    tr = state.tr
    if tr.type & 13 != _BUSY_TSS_32 & 13 or tr.limit < _IO_MAP_BASE + 1:
        raise general_protection()
    at = cpu.mmu.read_slow(tr.base + _IO_MAP_BASE & cpu.linear_mask, 2, 0) + port // 8
    # The processor always reads two bytes, so that a map needs one byte of ones behind its end.
    if at + 1 > tr.limit:
        raise general_protection()
    allowed = cpu.mmu.read_slow(tr.base + at & cpu.linear_mask, 2, 0)
    if allowed >> port % 8 & (1 << size) - 1:
        raise general_protection()


@op("IN", syntax="IN AL/AX/EAX, imm8/DX", form="r,ri")
def in_(cpu: Cpu, insn: Decoded) -> Action:
    """Accumulator = port."""
    size, port_of, bus = width(insn), load(cpu, insn, 1, 1 if insn.operands[1].kind == "i" else 2), cpu.bus
    put = register_store(cpu, RAX, size)

    def read() -> None:
        port = port_of()
        check_port(cpu, port, size)
        put(bus.port_read(port, size) & (1 << 8 * size) - 1)

    return read


@op("OUT", syntax="OUT imm8/DX, AL/AX/EAX", form="ri,r")
def out(cpu: Cpu, insn: Decoded) -> Action:
    """Port = accumulator."""
    size, bus = width(insn, 1), cpu.bus
    port_of = load(cpu, insn, 0, 1 if insn.operands[0].kind == "i" else 2)
    value = register_load(cpu, RAX, size)

    def write() -> None:
        port = port_of() & MASK16
        check_port(cpu, port, size)
        bus.port_write(port, size, value())

    return write
