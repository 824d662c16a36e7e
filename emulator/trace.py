"""A readable trace: one line per step, with what the step changed. For people and for bug reports; it is slow.

for line in trace(machine, 100):
    print(line)

   1203 smm16  3000:8005  66 31 c0        XOR eax, eax                  eax=0 rflags=46
"""

from collections.abc import Iterator

from .config import PAGE_BYTES
from .decode import BASE_RIP, MAX_BYTES, NO_REGISTER, Decoded, InvalidInstruction, Operand, TruncatedInstruction, decode
from .machine import Machine, StopReason
from .registers import CR0_PE, CR0_PG, CR4_PAE, CR4_PSE, CS, EFER_LMA, GPR_NAMES, MASK32, MASK64, SEGMENT_NAMES
from .state import CpuState

_PRESENT, _LARGE = 1, 0x80
_REGISTER_NAMES = {
    1: ("al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil", *(f"r{n}b" for n in range(8, 16))),
    2: ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di", *(f"r{n}w" for n in range(8, 16))),
    4: ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", *(f"r{n}d" for n in range(8, 16))),
    8: GPR_NAMES,
}
_HIGH_BYTES = ("ah", "ch", "dh", "bh")
_WATCHED = (
    "rflags", "cr0", "cr2", "cr3", "cr4", "efer", "dr6", "dr7", "smbase", "mp_state", "shadow", "smm", "smm_shadow",
    "smi_pending", "smm_inside_nmi", "nmi_pending", "nmi_masked", "exception_pending", "exception_nr", "triple_fault",
)  # fmt: skip
"""Attributes of CpuState whose changes are shown."""


def trace(machine: Machine, max_steps: int) -> Iterator[str]:
    """Run step by step; yield a line for each: number, mode, CS:RIP, bytes, instruction, what changed.

    The instruction shown is the one at RIP before the step. Where an interrupt, NMI or SMI is taken, the step
    executes the first instruction of its handler instead, and the line says so by the changes in CS and RIP.
    """
    for _ in range(max_steps):
        before = _snapshot(machine.cpu.state)
        place = _place(machine)
        number = machine.retired
        result = machine.run(1)
        if not result.steps:
            return
        changes = _changes(before, _snapshot(machine.cpu.state))
        yield f"{number:>10} {place} {changes}".rstrip()
        if result.reason is not StopReason.BUDGET:
            return


def code_bits(state: CpuState) -> int:
    """Width of the code at hand: 16, 32 or 64."""
    cs = state.segs[CS]
    if state.efer & EFER_LMA and cs.l:
        return 64
    return 32 if cs.db and state.cr0 & CR0_PE else 16


def linear_rip(state: CpuState) -> int:
    """Linear address of the next instruction."""
    return state.rip if code_bits(state) == 64 else (state.segs[CS].base + state.rip) & MASK32


def peek(machine: Machine, linear: int, size: int) -> bytes:
    """Read through the page tables without setting accessed bits; stops before a page that is not there."""
    as_id = int(machine.cpu.state.smm)
    data = b""
    while len(data) < size:
        gpa = physical_of(machine, linear + len(data))
        if gpa is None or machine.memory.page_offset(as_id, gpa) < 0:
            break
        part = min(size - len(data), PAGE_BYTES - gpa % PAGE_BYTES)
        data += machine.memory.read_bytes(as_id, gpa, part)
    return data


def physical_of(machine: Machine, linear: int) -> int | None:
    """Guest physical address of a linear one, no bit of memory changed, or None. Source: SDM vol. 3A 4.3-4.5."""
    state, memory, as_id = machine.cpu.state, machine.memory, int(machine.cpu.state.smm)
    shifts: tuple[int, ...]
    if not state.cr0 & CR0_PG:
        return linear & MASK32
    if state.efer & EFER_LMA:
        shifts, table, width = (39, 30, 21, 12), state.cr3, 8
    elif state.cr4 & CR4_PAE:
        pointer = state.pdptrs[linear >> 30 & 3]
        if not pointer & _PRESENT:
            return None
        shifts, table, width = (21, 12), pointer, 8
    else:
        shifts, table, width = (22, 12), state.cr3, 4
    address_bits = 0x000FFFFFFFFFF000 if width == 8 else 0xFFFFF000
    index_mask = PAGE_BYTES // width - 1
    for shift in shifts:
        entry = memory.read(as_id, (table & address_bits) + (linear >> shift & index_mask) * width, width)
        if not entry & _PRESENT:
            return None
        large = entry & _LARGE and shift > 12 and (width == 8 or state.cr4 & CR4_PSE)
        if large or shift == 12:
            offset_mask = (1 << shift) - 1
            return entry & address_bits & ~offset_mask | linear & offset_mask
        table = entry
    return None


def _place(machine: Machine) -> str:
    """Mode, address, bytes and text of the instruction at RIP."""
    state = machine.cpu.state
    bits, cs, linear = code_bits(state), state.segs[CS], linear_rip(state)
    mode = ("smm" if state.smm else "real" if not state.cr0 & CR0_PE else "prot") if bits != 64 else "long"
    code = peek(machine, linear, MAX_BYTES)
    try:
        decoded = decode(code, bits)
        code, text = code[: decoded.length], text_of(decoded, state.rip)
    except (TruncatedInstruction, InvalidInstruction):
        code, text = code[:1], "(bad)" if code else "(not present)"
    return f"{mode}{bits:<3} {cs.selector:04x}:{state.rip:<8x} {code.hex(' '):<24} {text:<36}"


def text_of(insn: Decoded, rip: int) -> str:
    """The instruction in Intel's order of operands; branch targets as addresses."""
    compares = insn.mnemonic.startswith(("CMPS", "SCAS"))
    rep = insn.rep.upper() if compares or insn.rep == "repne" else "REP" if insn.rep else ""
    prefix = ("LOCK " if insn.lock else "") + (f"{rep} " if rep else "")
    operands = ", ".join(_operand(operand, insn, rip) for operand in insn.operands)
    return f"{prefix}{insn.mnemonic} {operands}".rstrip()


def _operand(operand: Operand, insn: Decoded, rip: int) -> str:
    match operand.kind:
        case "r" if operand.size == 1 and operand.extra:
            return _HIGH_BYTES[operand.value]
        case "r":
            return _REGISTER_NAMES[operand.size][operand.value]
        case "s":
            return SEGMENT_NAMES[operand.value]
        case "c" | "d":
            return f"{operand.kind}r{operand.value}"
        case "b":
            return f"{(rip + insn.length + operand.value) & MASK64:x}"
        case "f":
            return f"{operand.extra:x}:{operand.value:x}"
        case "m":
            return _memory(operand)
        case _:
            return f"{operand.value & ((1 << 8 * max(operand.size, 1)) - 1):x}"


def _memory(operand: Operand) -> str:
    memory = operand.memory
    if memory is None:
        return "[?]"
    names = _REGISTER_NAMES[memory.address_bits // 8]
    parts = []
    if memory.base == BASE_RIP:
        parts.append("rip")
    elif memory.base != NO_REGISTER:
        parts.append(names[memory.base])
    if memory.index_register != NO_REGISTER:
        parts.append(names[memory.index_register] + (f"*{memory.scale}" if memory.scale > 1 else ""))
    if memory.displacement or not parts:
        parts.append(f"{memory.displacement:x}")
    return f"{SEGMENT_NAMES[memory.seg]}:[{'+'.join(parts)}]"


def _snapshot(state: CpuState) -> dict[str, int]:
    """What a step may change, by name."""
    values = dict(zip(GPR_NAMES, state.gpr, strict=True))
    values.update({name: state.segs[n].selector for n, name in enumerate(SEGMENT_NAMES)})
    values.update({name: int(getattr(state, name)) for name in _WATCHED})
    return values


def _changes(before: dict[str, int], after: dict[str, int]) -> str:
    return " ".join(f"{name}={value:x}" for name, value in after.items() if value != before[name])
