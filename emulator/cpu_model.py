"""CPU models as data: CPUID leaves, instruction sets, MSRs and reset values."""

from dataclasses import dataclass

from .exceptions import GP, SS
from .registers import (
    CR0_DEFINED,
    CR4_DE,
    CR4_MCE,
    CR4_PAE,
    CR4_PCE,
    CR4_PGE,
    CR4_PSE,
    CR4_PVI,
    CR4_SMAP,
    CR4_SMEP,
    CR4_TSD,
    CR4_UMIP,
    CR4_VME,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    EFER_SCE,
    FLAG_AC,
    FLAG_IOPL,
    FLAG_NT,
    FLAG_RF,
    FLAG_VM,
    FLAGS_DEFINED,
    MSR_APIC_BASE,
    MSR_CSTAR,
    MSR_EFER,
    MSR_FS_BASE,
    MSR_GS_BASE,
    MSR_KERNEL_GS_BASE,
    MSR_LSTAR,
    MSR_SFMASK,
    MSR_SMBASE,
    MSR_STAR,
    MSR_SYSENTER_CS,
    MSR_SYSENTER_EIP,
    MSR_SYSENTER_ESP,
    MSR_TSC,
    MSR_TSC_AUX,
    MSR_TSC_DEADLINE,
)


@dataclass(frozen=True, slots=True)
class CpuidLeaf:
    """One row of CPUID. `index` is None where ECX is ignored."""

    function: int
    index: int | None
    eax: int
    ebx: int
    ecx: int
    edx: int


@dataclass(frozen=True, slots=True)
class Quirks:
    """How processors before the 386 differ in what they do, rather than in what they have.

    `opcode_map` names the table of `legacy` that decodes, `shift_mask` cuts shift counts, `pushed_ones` are flags that
    read as ones, `status_ones` bits of SMSW that do. `wraps`: there are no segment limits. `stack_fault` is the vector
    of an overrun of the stack segment in real mode, `divide_error_behind` says that #DE returns behind the division,
    `strings_move_first` that a faulting string instruction has counted and moved its index registers.

    Source: SDM vol. 3B 23 (architecture compatibility).
    """

    opcode_map: str = ""
    shift_mask: int = 0x1F
    push_sp_lowered: bool = False
    wraps: bool = False
    pushed_ones: int = 0
    status_ones: int = 0
    stack_fault: int = SS
    divide_error_behind: bool = False
    strings_move_first: bool = False


@dataclass(frozen=True, slots=True)
class CpuModel:
    """What a vCPU offers: all else raises #UD or #GP in the guest.

    `features` are the decoder's names of instruction sets (CpuidFeature), `cr4_mask` and `efer_mask` the bits a
    program may set, `flags` the flags that exist and `real_flags` those of real mode, `cr0_mask` the bits of CR0,
    `msr_indices` the MSRs a snapshot holds, in the order in which they are saved.
    """

    name: str
    cpuid: tuple[CpuidLeaf, ...]
    features: frozenset[str]
    cr4_mask: int
    efer_mask: int
    msr_indices: tuple[int, ...]
    physical_bits: int
    reset_rdx: int
    flags: int = FLAGS_DEFINED
    real_flags: int = FLAGS_DEFINED
    cr0_mask: int = CR0_DEFINED
    quirks: Quirks = Quirks()

    @property
    def x2apic(self) -> bool:
        """CPUID 1 ECX bit 21."""
        return any(leaf.function == 1 and leaf.ecx >> 21 & 1 for leaf in self.cpuid)

    @property
    def long_mode(self) -> bool:
        """CPUID 8000_0001h EDX bit 29, which also chooses the SMRAM map. Source: Linux 6.12 arch/x86/kvm/smm.c."""
        return bool(self.efer_mask & EFER_LME)

    def cpuid_values(self, function: int, index: int) -> tuple[int, int, int, int]:
        """EAX, EBX, ECX, EDX; a leaf beyond the highest basic one answers as that one. Source: SDM vol. 2A CPUID."""
        for leaf in self.cpuid:
            if leaf.function == function and leaf.index in (None, index):
                return leaf.eax, leaf.ebx, leaf.ecx, leaf.edx
        top = 0x80000000 if function & 0x80000000 else 0
        highest = next((leaf.eax for leaf in self.cpuid if leaf.function == top), 0)
        if function <= highest or function == highest:
            return 0, 0, 0, 0
        basic = next(leaf.eax for leaf in self.cpuid if leaf.function == 0)
        return (0, 0, 0, 0) if function == basic else self.cpuid_values(basic, index)


def _text_leaves(function: int, text: str) -> tuple[CpuidLeaf, ...]:
    """The processor brand string: three leaves of 16 bytes."""
    raw = text.encode().ljust(48, b"\0")
    words = [int.from_bytes(raw[n : n + 4], "little") for n in range(0, 48, 4)]
    return tuple(CpuidLeaf(function + n, None, *words[4 * n : 4 * n + 4]) for n in range(3))


_VENDOR = (0x756E6547, 0x6C65746E, 0x49656E69)  # "GenuineIntel" as EBX, ECX, EDX
_LEAF_1_PENTIUM = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9
"""VME DE PSE TSC MSR MCE CX8 APIC: no FPU bit, since x87 state is opaque here."""
_LEAF_1_X86_64 = _LEAF_1_PENTIUM | 1 << 6 | 1 << 11 | 1 << 13 | 1 << 15 | 1 << 17 | 1 << 19
"""and PAE SEP PGE CMOV PSE36 CLFSH."""

_LEAF_1_ECX_X86_64 = 1 << 13 | 1 << 21 | 1 << 22 | 1 << 23 | 1 << 24
"""CX16 X2APIC MOVBE POPCNT TSC_DEADLINE."""

_FEATURES_PENTIUM = frozenset({
    "INTEL8086", "INTEL8086_ONLY", "INTEL186", "INTEL286", "INTEL286_ONLY", "INTEL386", "INTEL386_ONLY", "INTEL486",
    "CPUID", "MSR", "TSC", "CX8", "SMM", "PAUSE",
})  # fmt: skip
_FEATURES_X86_64 = _FEATURES_PENTIUM | {
    "X64", "CMOV", "SEP", "SYSCALL", "CMPXCHG16B", "RDTSCP", "MULTIBYTENOP", "CLFSH", "POPCNT", "MOVBE",
    "MONITOR", "SMAP", "RDPMC",
}  # fmt: skip

_CR4_PENTIUM = CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_MCE

_FEATURES_8086 = frozenset({"INTEL8086", "INTEL8086_ONLY", "PAUSE"})  # F3 90 is a NOP
_FEATURES_286 = frozenset({"INTEL8086", "INTEL186", "INTEL286", "PAUSE"})
_FEATURES_386 = _FEATURES_286 | {"INTEL386"}
_FLAGS_16 = 0xFD5
_FLAGS_PROTECTED_16 = _FLAGS_16 | FLAG_IOPL | FLAG_NT
_FLAGS_386 = _FLAGS_PROTECTED_16 | FLAG_RF | FLAG_VM


def _early(name: str, features: frozenset[str], physical_bits: int, reset_rdx: int, flags: int, cr0_mask: int,
           real_flags: int | None = None, quirks: Quirks = Quirks()) -> CpuModel:  # fmt: skip
    """A processor without CPUID, CR4, EFER and MSRs."""
    real = flags if real_flags is None else real_flags
    return CpuModel(name, (), features, 0, 0, (), physical_bits, reset_rdx, flags, real, cr0_mask, quirks)


I8086 = _early(
    "8086", _FEATURES_8086, 20, 0, _FLAGS_16, 0,
    quirks=Quirks("8086", 0xFF, push_sp_lowered=True, wraps=True, pushed_ones=0xF000, divide_error_behind=True),
)  # fmt: skip
I286 = _early(
    "286", _FEATURES_286, 24, 0, _FLAGS_PROTECTED_16, 0xF, _FLAGS_16,
    Quirks("286", status_ones=0xFFF0, stack_fault=GP, strings_move_first=True),
)  # fmt: skip
I386 = _early("386", _FEATURES_386, 32, 0x303, _FLAGS_386, 0x8000001F)
I486 = _early("486", _FEATURES_386 | {"INTEL486"}, 32, 0x402, _FLAGS_386 | FLAG_AC, CR0_DEFINED)

PENTIUM = CpuModel(
    name="pentium",
    cpuid=(
        CpuidLeaf(0, None, 1, _VENDOR[0], _VENDOR[1], _VENDOR[2]),
        CpuidLeaf(1, None, 0x543, 0, 0, _LEAF_1_PENTIUM),
    ),
    features=_FEATURES_PENTIUM,
    cr4_mask=_CR4_PENTIUM,
    efer_mask=0,
    msr_indices=(MSR_TSC, MSR_APIC_BASE, MSR_SMBASE),
    physical_bits=32,
    reset_rdx=0x543,
)

X86_64 = CpuModel(
    name="x86-64",
    cpuid=(
        CpuidLeaf(0, None, 7, _VENDOR[0], _VENDOR[1], _VENDOR[2]),
        CpuidLeaf(1, None, 0x663, 8 << 8, 1 << 3 | _LEAF_1_ECX_X86_64, _LEAF_1_X86_64),
        CpuidLeaf(5, None, 64, 64, 3, 0),
        CpuidLeaf(7, 0, 0, 1 << 7 | 1 << 20, 1 << 2, 0),
        CpuidLeaf(0x80000000, None, 0x80000008, 0, 0, 0),
        CpuidLeaf(0x80000001, None, 0, 0, 1, 1 << 11 | 1 << 20 | 1 << 26 | 1 << 27 | 1 << 29),
        *_text_leaves(0x80000002, "migsvc x86-64 reference core"),
        CpuidLeaf(0x80000008, None, 48 << 8 | 40, 0, 0, 0),
    ),
    features=_FEATURES_X86_64,
    cr4_mask=_CR4_PENTIUM | CR4_PAE | CR4_PGE | CR4_PCE | CR4_UMIP | CR4_SMEP | CR4_SMAP,
    efer_mask=EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE,
    msr_indices=(
        MSR_TSC,
        MSR_APIC_BASE,
        MSR_SMBASE,
        MSR_SYSENTER_CS,
        MSR_SYSENTER_ESP,
        MSR_SYSENTER_EIP,
        MSR_EFER,
        MSR_STAR,
        MSR_LSTAR,
        MSR_CSTAR,
        MSR_SFMASK,
        MSR_FS_BASE,
        MSR_GS_BASE,
        MSR_KERNEL_GS_BASE,
        MSR_TSC_AUX,
        MSR_TSC_DEADLINE,
    ),
    physical_bits=40,
    reset_rdx=0x663,
)

MODELS = {model.name: model for model in (X86_64, PENTIUM, I486, I386, I286, I8086)}
"""CPU models by name."""
