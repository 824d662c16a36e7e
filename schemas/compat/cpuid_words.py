"""How a register of a CPUID leaf compares: as a row, and the rows of the leaves that no rule treats by itself."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from ..errors import Severity
from .cpuid_view import CpuidView, Register


class Relation(Enum):
    """What must hold between the guest's bits and the host's."""

    SUBSET = "the host must have every bit that the guest was shown"
    EQUAL = "both must be equal"
    NOT_GREATER = "the guest's number must not be greater than the host's"


class Word(NamedTuple):
    """Bits of one register of one leaf. `ignored`: bits that are no matter of the processor."""

    function: int
    subleaf: int
    register: Register
    relation: Relation = Relation.SUBSET
    low: int = 0
    width: int = 32
    ignored: int = 0
    name: str = ""
    """Of a number: what it counts."""
    severity: Severity | None = None

    @property
    def place(self) -> str:
        """Return leaf, subleaf and register in the manuals' form."""
        bits = "" if self.width == 32 else f"[{self.low + self.width - 1}:{self.low}]"
        return f"CPUID.{self.function:X}H.{self.subleaf}:{self.register.upper()}{bits}"


class Difference(NamedTuple):
    """A register that does not compare as its row wants; `wrong` are the bits of a set that are at fault."""

    word: Word
    guest: int
    host: int
    wrong: int


def differences(words: tuple[Word, ...], guest: CpuidView, host: CpuidView) -> Iterator[Difference]:
    """Yield the registers that do not compare; a leaf that the guest was not shown asks for nothing."""
    for word in words:
        if guest.entry(word.function, word.subleaf) is None:
            continue
        ours = guest.value(word.function, word.subleaf, word.register, word.low, word.width)
        theirs = host.value(word.function, word.subleaf, word.register, word.low, word.width)
        if word.relation is Relation.SUBSET:
            wrong = ours & ~theirs & ~(word.ignored >> word.low)
        elif word.relation is Relation.EQUAL:
            wrong = ours ^ theirs
        else:
            wrong = ours if ours > theirs else 0
        if wrong:
            yield Difference(word, ours, theirs, wrong)


def _bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


# Aliases of leaf 1 EDX that AMD repeats and Intel does not: the original is compared. APIC (9) mirrors IA32_APIC_BASE.
_AMD_ALIASES = 0x0183F3FF

STANDARD: tuple[Word, ...] = (
    # MONITOR (3) and TSC_DEADLINE (24) have rules of their own; OSXSAVE (27) mirrors CR4; 31 names a hypervisor.
    Word(0x1, 0, "ecx", ignored=_bits(3, 24, 27, 31)),
    # APIC (9) mirrors IA32_APIC_BASE; HTT (28) says how many vCPUs share a package, which the VMM decides.
    Word(0x1, 0, "edx", ignored=_bits(9, 28)),
    # FDP_EXCPTN_ONLY (6) and ZERO_FCS_FDS (13) say that something is absent and have a rule of their own.
    Word(0x7, 0, "ebx", ignored=_bits(6, 13)),
    Word(0x7, 0, "ecx", ignored=_bits(4)),  # OSPKE (4) mirrors CR4
    # CMP_LEGACY (1) and TOPOEXT (22) describe the topology, which the VMM decides.
    Word(0x80000001, 0, "ecx", ignored=_bits(1, 22)),
    Word(0x80000001, 0, "edx", ignored=_AMD_ALIASES),
)
SPECULATION: tuple[Word, ...] = (Word(0x7, 0, "edx"), Word(0x7, 2, "edx", ignored=_bits(5)))
STRUCTURED: tuple[Word, ...] = tuple(Word(0x7, 1, register) for register in ("eax", "ebx", "ecx", "edx"))
ABSENCES: tuple[Word, ...] = (
    Word(0x7, 0, "ebx", Relation.EQUAL, 6, 1, name="FDP_EXCPTN_ONLY"),
    Word(0x7, 0, "ebx", Relation.EQUAL, 13, 1, name="ZERO_FCS_FDS"),
)
ASSURANCES: tuple[Word, ...] = (
    Word(0x7, 2, "edx", ignored=~_bits(5)),
    Word(0x80000008, 0, "ebx", ignored=~_bits(26, 29)),
    Word(0x80000021, 0, "eax", ignored=~_bits(29, 30)),
    Word(0x80000021, 0, "ecx", ignored=~_bits(1, 2)),
)
"""Bits that say that a processor does not have a vulnerability."""
POWER: tuple[Word, ...] = (Word(0x6, 0, "eax"), Word(0x6, 0, "ecx", low=0, width=1))
PMU_SIZES: tuple[Word, ...] = (
    Word(0xA, 0, "eax", Relation.NOT_GREATER, 0, 8, name="PMU version"),
    Word(0xA, 0, "eax", Relation.NOT_GREATER, 8, 8, name="general counters"),
    Word(0xA, 0, "eax", Relation.NOT_GREATER, 16, 8, name="bits of a general counter"),
    Word(0xA, 0, "edx", Relation.NOT_GREATER, 0, 5, name="fixed counters"),
    Word(0xA, 0, "edx", Relation.NOT_GREATER, 5, 8, name="bits of a fixed counter"),
    Word(0xA, 0, "ecx"),
)
PMU_AMD: tuple[Word, ...] = (
    Word(0x80000022, 0, "eax"),
    Word(0x80000022, 0, "ebx", Relation.NOT_GREATER, 0, 4, name="core counters"),
    Word(0x80000022, 0, "ebx", Relation.NOT_GREATER, 4, 6, name="LBR stack entries"),
    Word(0x80000022, 0, "ebx", Relation.NOT_GREATER, 10, 6, name="northbridge counters"),
)
XSAVE_FEATURES: tuple[Word, ...] = (Word(0xD, 1, "eax"),)
PT_FEATURES: tuple[Word, ...] = (
    Word(0x14, 0, "ebx"),
    Word(0x14, 0, "ecx", width=31),
    Word(0x14, 1, "eax", Relation.NOT_GREATER, 0, 3, name="address ranges"),
    Word(0x14, 1, "eax", low=16, width=16),
    Word(0x14, 1, "ebx"),
)
PT_LIP: tuple[Word, ...] = (Word(0x14, 0, "ecx", Relation.EQUAL, 31, 1, name="IP payloads have LIP values"),)
AMX_TILES: tuple[Word, ...] = (
    Word(0x1D, 0, "eax", Relation.NOT_GREATER, name="highest palette"),
    Word(0x1D, 1, "eax", Relation.EQUAL, name="tile bytes"),
    Word(0x1D, 1, "ebx", Relation.EQUAL, name="row bytes and tile names"),
    Word(0x1D, 1, "ecx", Relation.EQUAL, 0, 16, name="rows"),
)
AMX_TMUL: tuple[Word, ...] = (
    Word(0x1E, 0, "ebx", Relation.EQUAL, 0, 24, name="rows and column bytes of TMUL"),
    Word(0x1E, 1, "eax"),
)
AVX10: tuple[Word, ...] = (
    Word(0x24, 0, "ebx", Relation.NOT_GREATER, 0, 8, name="AVX10 version"),
    Word(0x24, 0, "ebx", low=16, width=3),
    Word(0x24, 1, "ecx"),
)
SGX: tuple[Word, ...] = (Word(0x12, 0, "eax"), Word(0x12, 0, "ebx"), Word(0x12, 1, "eax"), Word(0x12, 1, "ecx"))
KEY_LOCKER: tuple[Word, ...] = (Word(0x19, 0, "eax"), Word(0x19, 0, "ebx"), Word(0x19, 0, "ecx"))
ARCH_LBR: tuple[Word, ...] = (Word(0x1C, 0, "eax"), Word(0x1C, 0, "ebx"), Word(0x1C, 0, "ecx"))
RESOURCES: tuple[Word, ...] = (Word(0xF, 0, "edx"), Word(0x10, 0, "ebx"))
POWER_80000007: tuple[Word, ...] = tuple(Word(0x80000007, 0, register) for register in ("eax", "ebx", "edx"))
# 16, 17 and 18 say which of two ways the processor prefers; 26 and 29 are assurances.
EXTENDED: tuple[Word, ...] = (Word(0x80000008, 0, "ebx", ignored=_bits(16, 17, 18, 26, 29)),)
EXTENDED_2: tuple[Word, ...] = (
    Word(0x80000021, 0, "eax", ignored=_bits(29, 30)),
    Word(0x80000021, 0, "ecx", ignored=_bits(1, 2)),
)
IBS: tuple[Word, ...] = (Word(0x8000001B, 0, "eax"),)
SVM: tuple[Word, ...] = (
    Word(0x8000000A, 0, "eax", Relation.NOT_GREATER, 0, 8, name="SVM revision"),
    Word(0x8000000A, 0, "ebx", Relation.NOT_GREATER, name="address space ids"),
    Word(0x8000000A, 0, "edx"),
)
ENCRYPTION: tuple[Word, ...] = (Word(0x8000001F, 0, "eax"),)
ENCRYPTION_BIT: tuple[Word, ...] = (
    Word(0x8000001F, 0, "ebx", Relation.EQUAL, 0, 6, name="position of the C-bit"),
    Word(0x8000001F, 0, "ebx", Relation.EQUAL, 6, 6, name="address bits given up"),
)
CENTAUR: tuple[Word, ...] = (Word(0xC0000001, 0, "edx"),)
CLFLUSH_LINE: tuple[Word, ...] = (Word(0x1, 0, "ebx", Relation.EQUAL, 8, 8, name="8-byte units of a CLFLUSH line"),)
PHYSICAL_BITS: tuple[Word, ...] = (
    Word(0x80000008, 0, "eax", Relation.NOT_GREATER, 0, 8, name="physical address bits"),
)
LINEAR_BITS: tuple[Word, ...] = (Word(0x80000008, 0, "eax", Relation.NOT_GREATER, 8, 8, name="linear address bits"),)

TREATED = frozenset(
    {word.function for words in (
        *(STANDARD, SPECULATION, STRUCTURED, POWER, PMU_SIZES, PMU_AMD, XSAVE_FEATURES, PT_FEATURES, AMX_TILES),
        *(AMX_TMUL, AVX10, SGX, KEY_LOCKER, ARCH_LBR, RESOURCES, POWER_80000007, EXTENDED, EXTENDED_2, IBS, SVM),
        *(ENCRYPTION, CENTAUR, PHYSICAL_BITS),
    ) for word in words}
)  # fmt: skip
"""Leaves that the rules compare."""

DESCRIPTIVE = frozenset({
    0x0, 0x2, 0x3, 0x4, 0x5, 0x8, 0x9, 0xB, 0xC, 0xE, 0x11, 0x13, 0x15, 0x16, 0x17, 0x18, 0x1A, 0x1B, 0x1F,
    0x80000000, *range(0x80000002, 0x80000007), 0x80000009, *range(0x8000000B, 0x8000001B), 0x8000001C,
    0x8000001D, 0x8000001E, 0x80000026, 0xC0000000,
})  # fmt: skip
"""Leaves that describe (names, caches, topology, frequencies) and promise nothing that the host must do: the guest
keeps what it was shown. What of them matters (cache lines, frequencies, the vendor) has rules of its own."""
