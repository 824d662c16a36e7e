"""Registers as GDB knows them: numbers, sizes, the description in XML, and access to a vCPU.

Source: Debugging with GDB, G.5.6 i386 Features; GDB 13 gdb/i386-tdep.h (register order of the core feature).
"""

from collections.abc import Callable
from dataclasses import dataclass

from ..cpu import Cpu
from ..registers import (
    CR0_PE,
    CS,
    DS,
    ES,
    FLAG_FIXED,
    FLAG_VM,
    FLAGS_DEFINED,
    FS,
    GS,
    R8,
    RAX,
    RBP,
    RBX,
    RCX,
    RDI,
    RDX,
    RSI,
    RSP,
    SS,
)

Read = Callable[[Cpu], int]
Write = Callable[[Cpu, int], bool]


@dataclass(frozen=True, slots=True)
class Register:
    """One register; without `read` it is there for GDB's sake and has no value, without `write` it stays as it is."""

    name: str
    bits: int
    kind: str
    read: Read | None = None
    write: Write | None = None
    group: str = "core"


def _general(name: str, number: int, bits: int) -> Register:
    mask = (1 << bits) - 1

    def write(cpu: Cpu, value: int) -> bool:
        cpu.state.gpr[number] = value & mask
        return True

    kind = "data_ptr" if number in (RSP, RBP) else f"int{bits}"
    return Register(name, bits, kind, lambda cpu: cpu.state.gpr[number] & mask, write)


def _instruction_pointer(name: str, bits: int) -> Register:
    mask = (1 << bits) - 1

    def write(cpu: Cpu, value: int) -> bool:
        cpu.state.rip = value & mask
        return True

    return Register(name, bits, "code_ptr", lambda cpu: cpu.state.rip & mask, write)


def _write_flags(cpu: Cpu, value: int) -> bool:
    """VM stays: it changes with a mode, not alone."""
    state = cpu.state
    state.rflags = value & FLAGS_DEFINED & ~FLAG_VM | state.rflags & FLAG_VM | FLAG_FIXED
    return True


def _segment(name: str, number: int) -> Register:
    def write(cpu: Cpu, value: int) -> bool:
        """As real mode loads it; in protected mode there is no descriptor at hand, so it can only stay."""
        segment = cpu.state.segs[number]
        if value & 0xFFFF == segment.selector:
            return True
        if cpu.state.cr0 & CR0_PE:
            return False
        segment.load_real(value & 0xFFFF)
        return True

    return Register(name, 32, "int32", lambda cpu: cpu.state.segs[number].selector, write)


def _x87() -> list[Register]:
    """GDB wants them described; the emulator has no x87."""
    control = ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")
    return [Register(f"st{n}", 80, "i387_ext") for n in range(8)] + [Register(name, 32, "int32") for name in control]


def _system(bits: int) -> list[Register]:
    rows: tuple[tuple[str, Read], ...] = (
        ("cr0", lambda cpu: cpu.state.cr0),
        ("cr2", lambda cpu: cpu.state.cr2),
        ("cr3", lambda cpu: cpu.state.cr3),
        ("cr4", lambda cpu: cpu.state.cr4),
        ("efer", lambda cpu: cpu.state.efer),
        ("cs_base", lambda cpu: cpu.state.segs[CS].base),
        ("ss_base", lambda cpu: cpu.state.segs[SS].base),
        ("ds_base", lambda cpu: cpu.state.segs[DS].base),
        ("es_base", lambda cpu: cpu.state.segs[ES].base),
        ("fs_base", lambda cpu: cpu.state.segs[FS].base),
        ("gs_base", lambda cpu: cpu.state.segs[GS].base),
        ("smbase", lambda cpu: cpu.state.smbase),
        ("smm", lambda cpu: int(cpu.state.smm)),
        ("shadow", lambda cpu: cpu.state.shadow),
    )
    return [Register(name, bits, f"int{bits}", read, group="system") for name, read in rows]


_SEGMENTS = [_segment(name, n) for name, n in (("cs", CS), ("ss", SS), ("ds", DS), ("es", ES), ("fs", FS), ("gs", GS))]
_FLAGS = Register("eflags", 32, "i386_eflags", lambda cpu: cpu.state.eflags(), _write_flags)
_ORDER_32 = (("ax", RAX), ("cx", RCX), ("dx", RDX), ("bx", RBX), ("sp", RSP), ("bp", RBP), ("si", RSI), ("di", RDI))
_ORDER_64 = (("ax", RAX), ("bx", RBX), ("cx", RCX), ("dx", RDX), ("si", RSI), ("di", RDI), ("bp", RBP), ("sp", RSP))
I386 = (
    *(_general(f"e{name}", number, 32) for name, number in _ORDER_32),
    _instruction_pointer("eip", 32), _FLAGS, *_SEGMENTS, *_x87(), *_system(32),
)  # fmt: skip
X86_64 = (
    *(_general(f"r{name}", number, 64) for name, number in _ORDER_64),
    *(_general(f"r{number}", number, 64) for number in range(R8, R8 + 8)),
    _instruction_pointer("rip", 64), _FLAGS, *_SEGMENTS, *_x87(), *_system(64),
)  # fmt: skip

_EFLAGS = "".join(
    f'<field name="{name}" start="{bit}" end="{bit}"/>'
    for name, bit in (
        ("CF", 0), ("", 1), ("PF", 2), ("AF", 4), ("ZF", 6), ("SF", 7), ("TF", 8), ("IF", 9), ("DF", 10), ("OF", 11),
        ("NT", 14), ("RF", 16), ("VM", 17), ("AC", 18), ("VIF", 19), ("VIP", 20), ("ID", 21),
    )
)  # fmt: skip


def description(registers: tuple[Register, ...]) -> bytes:
    """target.xml."""
    architecture = "i386:x86-64" if registers is X86_64 else "i386"
    features = []
    for group, feature in (("core", "org.gnu.gdb.i386.core"), ("system", "org.migsvc.system")):
        rows = "".join(
            f'<reg name="{register.name}" bitsize="{register.bits}" type="{register.kind}"/>'
            for register in registers
            if register.group == group
        )
        flags = f'<flags id="i386_eflags" size="4">{_EFLAGS}</flags>' if group == "core" else ""
        features.append(f'<feature name="{feature}">{flags}{rows}</feature>')
    return (
        '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0">'
        f"<architecture>{architecture}</architecture>{''.join(features)}</target>"
    ).encode()


def read_register(cpu: Cpu, register: Register) -> bytes:
    """Hexadecimal digits, low octet first; x where there is no value."""
    if register.read is None:
        return b"x" * (register.bits // 4)
    return register.read(cpu).to_bytes(register.bits // 8, "little").hex().encode()


def write_register(cpu: Cpu, register: Register, digits: bytes) -> bool:
    """Set a register from such digits; False if it cannot be set. `Cpu.state_changed` must follow.

    Raises:
        ValueError: they are no hexadecimal digits, or not as many as the register has.
    """
    if digits[:1] == b"x" or register.write is None:
        return register.read is None or digits.lower() == read_register(cpu, register)
    raw = bytes.fromhex(digits.decode("ascii"))
    if len(raw) != register.bits // 8:
        raise ValueError(f"{register.name} has {register.bits} bits")
    return register.write(cpu, int.from_bytes(raw, "little"))
