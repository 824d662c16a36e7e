"""The view of kvm_lapic_state: every register by name, vectors as lists, and what the timer does."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import FieldError, Problem
from ..model import Model
from ..names.apic import APIC_REGISTERS, TIMER_DIVISORS, VECTOR_BANKS
from ..names.bits import REGISTERS
from ..uapi.lapic import KVM_APIC_REG_SIZE, KvmLapicState
from .parts import Bits, Gaps, Number, Part, decode_number, encode_number, join, split_gaps

_BANKS: dict[str, int] = {"ISR": 0x100, "TMR": 0x180, "IRR": 0x200}
_STRIDE = 0x10

REGISTER_PARTS: tuple[Part, ...] = tuple(
    Part(row.name, row.offset, 4, row.bits)
    for row in APIC_REGISTERS
    if not any(start <= row.offset < start + VECTOR_BANKS * _STRIDE for start in _BANKS.values())
)
"""The registers outside the three vector bitmaps."""

_BANK_PARTS = tuple(
    Part(f"{name}{n}", start + n * _STRIDE, 4) for name, start in _BANKS.items() for n in range(VECTOR_BANKS)
)


class ApicTimer(NamedTuple):
    """What the timer does: `mode` as in LVTT, `divisor` of the bus clock (0: TDCR is invalid), counts in ticks."""

    mode: str
    vector: int
    masked: bool
    divisor: int
    initial: int
    current: int

    @property
    def armed(self) -> bool:
        """Return whether a count is running; in TSC-deadline mode MSR_IA32_TSC_DEADLINE says it."""
        return self.initial != 0 and self.mode in ("one-shot", "periodic")


class LapicView(Model):
    """The page decoded: 0x400 bytes in, the same 0x400 bytes out.

    Source: SDM vol. 3A table 11-1; Linux 6.12 arch/x86/kvm/lapic.c.
    """

    registers: dict[str, Number | Bits]
    """Register name -> number, or its named bits. LVTs, SPIV, ICR and the timer's are decoded."""
    isr: tuple[int, ...]
    """Vectors in service, lowest first."""
    tmr: tuple[int, ...]
    """Vectors that are level-triggered."""
    irr: tuple[int, ...]
    """Vectors requested and not yet delivered."""
    gaps: Gaps
    """Bytes of the page that belong to no register."""

    @classmethod
    def of(cls, lapic: KvmLapicState) -> LapicView:
        """Return the view of a page."""
        page = lapic.regs
        registers = {
            part.name: decode_number(page[part.offset : part.offset + 4], part.bits) for part in REGISTER_PARTS
        }
        return cls.model_construct(
            registers=registers,
            isr=vectors_in(page, _BANKS["ISR"]),
            tmr=vectors_in(page, _BANKS["TMR"]),
            irr=vectors_in(page, _BANKS["IRR"]),
            gaps=split_gaps(page, (*REGISTER_PARTS, *_BANK_PARTS)),
        )

    def to_struct(self) -> KvmLapicState:
        """Return the page.

        Raises:
            FieldError: a register, bit or vector does not exist, or a number does not fit.
        """
        known = {part.name: part for part in REGISTER_PARTS}
        problems = [
            Problem(where=f"lapic.{name}", message="no such register") for name in set(self.registers) - set(known)
        ]
        if problems:
            raise FieldError(problems)
        pieces = {known[name].offset: encode_number(value, known[name]) for name, value in self.registers.items()}
        for name, start in _BANKS.items():
            pieces |= _bank_of(getattr(self, name.lower()), start, name)
        return KvmLapicState(regs=join(KVM_APIC_REG_SIZE, pieces, self.gaps, "lapic.regs"))

    def bits(self, name: str, field: str) -> int:
        """Return one named field of a register, such as ("SPIV", "ENABLED")."""
        held = self.registers.get(name, 0)
        return held if isinstance(held, int) else held.get(field, 0)

    def value(self, name: str) -> int:
        """Return a register as its number."""
        part = next(part for part in REGISTER_PARTS if part.name == name)
        return int.from_bytes(encode_number(self.registers.get(name, 0), part), "little")

    @property
    def enabled(self) -> bool:
        """Return whether SPIV enables the APIC; IA32_APIC_BASE has a switch of its own."""
        return bool(self.bits("SPIV", "ENABLED"))

    @property
    def timer(self) -> ApicTimer:
        """Return what the timer does."""
        mode = REGISTERS["lvtt"].field("TIMER").word(self.bits("LVTT", "TIMER"))
        code = self.bits("TDCR", "DIV") | self.bits("TDCR", "DIV_HIGH") << 3
        return ApicTimer(
            mode,
            self.bits("LVTT", "VECTOR"),
            bool(self.bits("LVTT", "MASKED")),
            TIMER_DIVISORS.get(code, 0),
            self.value("TMICT"),
            self.value("TMCCT"),
        )


def vectors_in(page: bytes, start: int) -> tuple[int, ...]:
    """Return the vectors whose bits are set in the bitmap at `start`, lowest first."""
    bank = 0
    for n in range(VECTOR_BANKS):
        at = start + n * _STRIDE
        bank |= int.from_bytes(page[at : at + 4], "little") << 32 * n
    return tuple(v for v in range(32 * VECTOR_BANKS) if bank >> v & 1) if bank else ()


def _bank_of(vectors: tuple[int, ...], start: int, name: str) -> dict[int, bytes]:
    """Return the registers of a bitmap by offset.

    Raises:
        FieldError: a vector is not 0 to 255.
    """
    bank = 0
    for vector in vectors:
        if not 0 <= vector < 32 * VECTOR_BANKS:
            raise FieldError([Problem(where=f"lapic.{name}", message=f"{vector} is no vector", hint="0 to 255")])
        bank |= 1 << vector
    return {start + n * _STRIDE: (bank >> 32 * n & 0xFFFFFFFF).to_bytes(4, "little") for n in range(VECTOR_BANKS)}
