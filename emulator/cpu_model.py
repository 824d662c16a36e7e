"""CPU models as data: CPUID leaves, instruction sets, MSRs and reset values."""

from dataclasses import dataclass

from .registers import (
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
class CpuModel:
    """What a vCPU offers: all else raises #UD or #GP in the guest.

    `features` are the decoder's names of instruction sets (CpuidFeature), `cr4_mask` and `efer_mask` the bits a
    program may set, `flags` the flags that exist, `msr_indices` the MSRs a snapshot holds, in the order in which they
    are saved.
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

MODELS = {model.name: model for model in (X86_64, PENTIUM)}
"""CPU models by name."""
