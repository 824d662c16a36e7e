"""REGISTERS: the bits of every register that has named ones.

Keyed by the name of the field that holds the register ("rflags", "cr4", "efer"), or by what a row of another table
names in its `bits`. To name a bit, add it to a row; to name a register, add a row here or in `msr_bits`.
"""

from __future__ import annotations

from .apic import APIC_BITS
from .bitfields import RESERVED, BitField, RegisterBits
from .msr_bits import MSR_REGISTERS
from .smram import SMRAM_BITS

__all__ = ["REGISTERS", "RESERVED", "BitField", "RegisterBits"]


def _flags(*names: tuple[int, str, str]) -> tuple[BitField, ...]:
    return tuple(BitField(name, low, text=text) for low, name, text in names)


_DR7_RW = {1: "write", 2: "io", 3: "read-write"}
_DR7_LEN = {1: "2", 2: "8", 3: "4"}

_CR3_TAIL = (
    BitField("PDBR", 12, 40, "physical address of the top paging structure, in pages"),
    BitField("LAM_U57", 61, text="linear-address masking, 57 bits"),
    BitField("LAM_U48", 62, text="linear-address masking, 48 bits"),
    BitField("NOFLUSH", 63, text="MOV to CR3 keeps the TLB; never stored"),
)

XFEATURES = _flags(
    (0, "FP", "x87"), (1, "SSE", "XMM and MXCSR"), (2, "YMM", "upper halves of YMM0-15"),
    (3, "BNDREGS", "MPX bounds"), (4, "BNDCSR", "MPX configuration"), (5, "OPMASK", "AVX-512 k0-k7"),
    (6, "ZMM_Hi256", "upper halves of ZMM0-15"), (7, "Hi16_ZMM", "ZMM16-31"), (9, "PKRU", "protection keys"),
    (17, "XTILE_CFG", "AMX tile configuration"), (18, "XTILE_DATA", "AMX tiles"), (19, "APX", "R16-R31"),
)  # fmt: skip
XSS_FEATURES = _flags(
    (8, "PT", "processor trace"), (10, "PASID", "ENQCMD"), (11, "CET_USER", "user shadow stack"),
    (12, "CET_KERNEL", "supervisor shadow stacks"), (13, "HDC", "duty cycling"), (14, "UINTR", "user interrupts"),
    (15, "LBR", "last branches"), (16, "HWP", "performance requests"),
)  # fmt: skip

_RFLAGS = (
    *_flags(
        (0, "CF", "carry"), (2, "PF", "parity"), (4, "AF", "auxiliary carry"), (6, "ZF", "zero"),
        (7, "SF", "sign"), (8, "TF", "single step"), (9, "IF", "interrupts enabled"), (10, "DF", "direction"),
        (11, "OF", "overflow"), (14, "NT", "nested task"), (16, "RF", "resume"), (17, "VM", "virtual 8086"),
        (18, "AC", "alignment check"), (19, "VIF", "virtual IF"), (20, "VIP", "virtual interrupt pending"),
        (21, "ID", "CPUID available"),
    ),
    BitField("IOPL", 12, 2, "I/O privilege level"),
)  # fmt: skip

_CORE: tuple[RegisterBits, ...] = (
    RegisterBits(
        "rflags", 64, _RFLAGS,
        "SDM vol. 1 3.4.3; Linux 6.12 arch/x86/include/uapi/asm/processor-flags.h", ones=1 << 1,
    ),
    RegisterBits("syscall_mask", 64, _RFLAGS, "SDM vol. 3A 6.8.8: RFLAGS bits that SYSCALL clears"),
    RegisterBits(
        "cr0", 64,
        _flags(
            (0, "PE", "protected mode"), (1, "MP", "WAIT traps with TS"), (2, "EM", "no x87"),
            (3, "TS", "task switched"), (4, "ET", "387"), (5, "NE", "#MF instead of FERR"),
            (16, "WP", "write protect in supervisor mode"), (18, "AM", "alignment mask"),
            (29, "NW", "not write-through"),
            (30, "CD", "cache disable"), (31, "PG", "paging"),
        ),
        "SDM vol. 3A 2.5",
    ),
    RegisterBits("cr3", 64, (*_flags((3, "PWT", "write-through"), (4, "PCD", "uncached")), *_CR3_TAIL),
                 "SDM vol. 3A 2.5, table 4-12; without CR4.PCIDE"),
    RegisterBits("cr3_pcid", 64, (BitField("PCID", 0, 12, "process-context identifier"), *_CR3_TAIL),
                 "SDM vol. 3A 2.5, table 4-13; with CR4.PCIDE"),
    RegisterBits(
        "cr4", 64,
        _flags(
            (0, "VME", "virtual-8086 extensions"), (1, "PVI", "protected-mode virtual interrupts"),
            (2, "TSD", "RDTSC at CPL 0 only"), (3, "DE", "I/O breakpoints"), (4, "PSE", "4 MiB pages"),
            (5, "PAE", "8-byte page-table entries"), (6, "MCE", "machine checks"), (7, "PGE", "global pages"),
            (8, "PCE", "RDPMC at any CPL"), (9, "OSFXSR", "SSE"), (10, "OSXMMEXCPT", "#XM"),
            (11, "UMIP", "SGDT and friends at CPL 0 only"), (12, "LA57", "5-level paging"), (13, "VMXE", "VMX"),
            (14, "SMXE", "SMX"), (16, "FSGSBASE", "RDFSBASE and friends"), (17, "PCIDE", "process-context identifiers"),
            (18, "OSXSAVE", "XSAVE"), (19, "KL", "key locker"), (20, "SMEP", "no user code in supervisor mode"),
            (21, "SMAP", "no user data in supervisor mode"), (22, "PKE", "user protection keys"),
            (23, "CET", "control-flow enforcement"), (24, "PKS", "supervisor protection keys"),
            (25, "UINTR", "user interrupts"), (27, "LASS", "linear-address space separation"),
            (28, "LAM_SUP", "supervisor address masking"), (32, "FRED", "flexible return and event delivery"),
        ),
        "SDM vol. 3A 2.5; Linux 6.12 arch/x86/include/uapi/asm/processor-flags.h",
    ),
    RegisterBits("cr8", 64, (BitField("TPL", 0, 4, "task priority: APIC TPR bits 4-7"),), "SDM vol. 3A 11.8.6"),
    RegisterBits(
        "efer", 64,
        _flags(
            (0, "SCE", "SYSCALL"), (8, "LME", "long mode enabled"), (10, "LMA", "long mode active"),
            (11, "NX", "no-execute pages (NXE)"), (12, "SVME", "SVM"), (13, "LMSLE", "long-mode segment limits"),
            (14, "FFXSR", "fast FXSAVE"), (15, "TCE", "translation cache extension"), (17, "MCOMMIT", "MCOMMIT"),
            (18, "INTWB", "interruptible WBINVD"), (20, "UAIE", "upper-address ignore"),
            (21, "AUTOIBRS", "automatic IBRS"),
        ),
        "SDM vol. 3A 2.2.1; APM vol. 2 3.1.7; Linux 6.12 arch/x86/include/asm/msr-index.h _EFER_*",
    ),
    RegisterBits(
        "dr6", 64,
        (
            *_flags(
                (0, "B0", "breakpoint 0"), (1, "B1", "breakpoint 1"), (2, "B2", "breakpoint 2"),
                (3, "B3", "breakpoint 3"), (13, "BD", "debug-register access"), (14, "BS", "single step"),
                (15, "BT", "task switch"),
            ),
            BitField("BLD", 11, text="bus lock", active_low=True),
            BitField("RTM", 16, text="in a transaction", active_low=True),
        ),
        "SDM vol. 3B 18.2.3", ones=0xFFFE07F0,
    ),
    RegisterBits(
        "dr7", 64,
        (
            *(BitField(f"L{n}", 2 * n, text="enabled for this task") for n in range(4)),
            *(BitField(f"G{n}", 2 * n + 1, text="enabled for all tasks") for n in range(4)),
            *_flags((8, "LE", ""), (9, "GE", ""), (11, "RTM", "#DB inside transactions"),
                    (13, "GD", "#DB at debug-register access")),
            *(BitField(f"RW{n}", 16 + 4 * n, 2, "condition", _DR7_RW) for n in range(4)),
            *(BitField(f"LEN{n}", 18 + 4 * n, 2, "bytes", _DR7_LEN) for n in range(4)),
        ),
        "SDM vol. 3B 18.2.4", ones=1 << 10,
    ),
    RegisterBits("xcr0", 64, XFEATURES, "SDM vol. 1 13.3; Linux 6.12 arch/x86/include/asm/fpu/types.h enum xfeature"),
    RegisterBits("xstate_bv", 64, XFEATURES + XSS_FEATURES, "SDM vol. 1 13.4.2"),
    RegisterBits(
        "mxcsr", 32,
        (
            *_flags(
                (0, "IE", "invalid"), (1, "DE", "denormal"), (2, "ZE", "divide by zero"), (3, "OE", "overflow"),
                (4, "UE", "underflow"), (5, "PE", "precision"), (6, "DAZ", "denormals are zeros"),
                (7, "IM", "masked"), (8, "DM", "masked"), (9, "ZM", "masked"), (10, "OM", "masked"),
                (11, "UM", "masked"),
                (12, "PM", "masked"), (15, "FTZ", "flush to zero"), (17, "MM", "misaligned SSE (AMD)"),
            ),
            BitField("RC", 13, 2, "rounding", {1: "down", 2: "up", 3: "zero"}),
        ),
        "SDM vol. 1 10.2.3",
    ),
    RegisterBits(
        "fcw", 16,
        (
            *_flags((0, "IM", ""), (1, "DM", ""), (2, "ZM", ""), (3, "OM", ""), (4, "UM", ""), (5, "PM", "")),
            BitField("PC", 8, 2, "precision", {0: "single", 1: "reserved", 2: "double", 3: "extended"}),
            BitField("RC", 10, 2, "rounding", {1: "down", 2: "up", 3: "zero"}),
            BitField("X", 12, text="infinity (287)"),
        ),
        "SDM vol. 1 8.1.5", ones=1 << 6,
    ),
    RegisterBits(
        "fsw", 16,
        (
            *_flags((0, "IE", ""), (1, "DE", ""), (2, "ZE", ""), (3, "OE", ""), (4, "UE", ""), (5, "PE", ""),
                    (6, "SF", "stack fault"), (7, "ES", "exception summary"), (8, "C0", ""), (9, "C1", ""),
                    (10, "C2", ""),
                    (14, "C3", ""), (15, "B", "busy")),
            BitField("TOP", 11, 3, "top of stack"),
        ),
        "SDM vol. 1 8.1.3",
    ),
    RegisterBits(
        "page_fault_error", 32,
        _flags((0, "P", "protection, not absence"), (1, "W", "write"), (2, "U", "user mode"),
        (3, "RSVD", "reserved bit"),
               (4, "I", "instruction fetch"), (5, "PK", "protection key"), (6, "SS", "shadow stack"),
               (15, "SGX", "SGX")),
        "SDM vol. 3A 4.7",
    ),
    RegisterBits(
        "control_protection_error", 32,
        (BitField("CPEC", 0, 15, "cause", {1: "near-ret", 2: "far-ret", 3: "endbranch", 4: "rstorssp", 5: "setssbsy"}),
         BitField("ENCL", 15, text="in an enclave")),
        "SDM vol. 3A 6.15",
    ),
    RegisterBits(
        "selector_error", 32,
        (*_flags((0, "EXT", "by an external event"), (1, "IDT", "names a gate"), (2, "TI", "in the LDT")),
         BitField("index", 3, 13, "of the descriptor")),
        "SDM vol. 3A 6.13",
    ),
)  # fmt: skip

REGISTERS: dict[str, RegisterBits] = {row.name: row for row in (*_CORE, *APIC_BITS, *SMRAM_BITS, *MSR_REGISTERS)}
