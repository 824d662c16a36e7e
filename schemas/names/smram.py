"""The two maps of the SMRAM save area as KVM writes it, every named byte of the 512.

Offsets are from SMBASE. A segment's `attributes` are those of `smram_attributes` in REGISTERS, its `flags` in the
32-bit map the same eight bits higher. Source: Linux 6.12 arch/x86/kvm/smm.h kvm_smram_state_32, kvm_smram_state_64.
"""

from __future__ import annotations

from typing import NamedTuple

from .bitfields import BitField, RegisterBits

SMRAM_AREA_OFFSET = 0xFE00
SMRAM_AREA_BYTES = 512
SMRAM_REVISION_32 = 0x00020000
SMRAM_REVISION_64 = 0x00020064
"""Bit 17: SMBASE relocation; neither I/O nor auto-HALT restart."""


class SmramField(NamedTuple):
    """One named field: `offset` from SMBASE, `size` in bytes, `bits` the key of REGISTERS or None.

    `loaded`: RSM reads it, so that changing it changes where the guest goes on.
    """

    offset: int
    size: int
    name: str
    bits: str | None = None
    loaded: bool = True


def _cached_32(offset: int, name: str) -> tuple[SmramField, ...]:
    return (
        SmramField(offset, 4, f"{name}.flags", "smram_flags"),
        SmramField(offset + 4, 4, f"{name}.limit"),
        SmramField(offset + 8, 4, f"{name}.base"),
    )


def _segment_64(offset: int, name: str) -> tuple[SmramField, ...]:
    return (
        SmramField(offset, 2, f"{name}.selector"),
        SmramField(offset + 2, 2, f"{name}.attributes", "smram_attributes"),
        SmramField(offset + 4, 4, f"{name}.limit"),
        SmramField(offset + 8, 8, f"{name}.base"),
    )


def _run(offset: int, size: int, names: str, *, loaded: bool = True) -> tuple[SmramField, ...]:
    """Return fields of one size that follow each other."""
    return tuple(SmramField(offset + n * size, size, name, None, loaded) for n, name in enumerate(names.split()))


SMRAM_32: tuple[SmramField, ...] = (
    SmramField(0xFEF8, 4, "smbase"),
    SmramField(0xFEFC, 4, "smm_revision", None, loaded=False),
    *_run(0xFF00, 2, "io_inst_restart auto_hlt_restart", loaded=False),
    *_run(0xFF04, 4, "io_restart_rdi io_restart_rcx io_restart_rsi io_restart_rip", loaded=False),
    SmramField(0xFF14, 4, "cr4", "cr4"),
    SmramField(0xFF1A, 1, "int_shadow", "int_shadow"),
    *_cached_32(0xFF2C, "ds"),
    *_cached_32(0xFF38, "fs"),
    *_cached_32(0xFF44, "gs"),
    *_run(0xFF54, 4, "idtr.limit idtr.base"),
    *_cached_32(0xFF5C, "tr"),
    *_run(0xFF70, 4, "gdtr.limit gdtr.base"),
    *_cached_32(0xFF78, "ldtr"),
    *_cached_32(0xFF84, "es"),
    *_cached_32(0xFF90, "cs"),
    *_cached_32(0xFF9C, "ss"),
    *_run(
        0xFFA8, 4,
        "es.selector cs.selector ss.selector ds.selector fs.selector gs.selector ldtr.selector tr.selector",
    ),
    SmramField(0xFFC8, 4, "dr7", "dr7"),
    SmramField(0xFFCC, 4, "dr6", "dr6"),
    *_run(0xFFD0, 4, "rax rcx rdx rbx rsp rbp rsi rdi rip"),
    SmramField(0xFFF4, 4, "rflags", "rflags"),
    SmramField(0xFFF8, 4, "cr3", "cr3"),
    SmramField(0xFFFC, 4, "cr0", "cr0"),
)  # fmt: skip
"""The P6 map, of guests whose CPUID has no long mode."""

SMRAM_64: tuple[SmramField, ...] = (
    *(
        field
        for n, name in enumerate(("es", "cs", "ss", "ds", "fs", "gs", "gdtr", "ldtr", "idtr", "tr"))
        for field in _segment_64(0xFE00 + 16 * n, name)
    ),
    *_run(0xFEA0, 8, "io_restart_rip io_restart_rcx io_restart_rsi io_restart_rdi", loaded=False),
    SmramField(0xFEC0, 4, "io_restart_dword", None, loaded=False),
    *_run(0xFEC8, 1, "io_inst_restart auto_hlt_restart amd_nmi_mask", loaded=False),
    SmramField(0xFECB, 1, "int_shadow", "int_shadow"),
    SmramField(0xFED0, 8, "efer", "efer"),
    *_run(0xFED8, 8, "svm_guest_flag svm_guest_vmcb_gpa"),
    SmramField(0xFEE8, 8, "svm_guest_virtual_int", None, loaded=False),
    SmramField(0xFEFC, 4, "smm_revision", None, loaded=False),
    SmramField(0xFF00, 4, "smbase"),
    SmramField(0xFF18, 8, "ssp"),
    *_run(
        0xFF20, 8, "svm_guest_pat svm_host_efer svm_host_cr4 svm_host_cr3 svm_host_cr0", loaded=False,
    ),
    SmramField(0xFF48, 8, "cr4", "cr4"),
    SmramField(0xFF50, 8, "cr3", "cr3"),
    SmramField(0xFF58, 8, "cr0", "cr0"),
    SmramField(0xFF60, 8, "dr7", "dr7"),
    SmramField(0xFF68, 8, "dr6", "dr6"),
    SmramField(0xFF70, 8, "rflags", "rflags"),
    *_run(0xFF78, 8, "rip r15 r14 r13 r12 r11 r10 r9 r8 rdi rsi rbp rsp rbx rdx rcx rax"),
)  # fmt: skip
"""The AMD64 map, of guests whose CPUID has long mode (0x80000001 EDX bit 29), whatever mode they are in."""

_ATTRIBUTES = (
    ("TYPE", 0, 4), ("S", 4, 1), ("DPL", 5, 2), ("P", 7, 1), ("AVL", 12, 1), ("L", 13, 1), ("DB", 14, 1), ("G", 15, 1),
)  # fmt: skip

SMRAM_BITS: tuple[RegisterBits, ...] = (
    RegisterBits(
        "smram_attributes", 16, tuple(BitField(name, low, width) for name, low, width in _ATTRIBUTES),
        "Linux 6.12 arch/x86/kvm/smm.c enter_smm_save_seg_64",
    ),
    RegisterBits(
        "smram_flags", 32, tuple(BitField(name, low + 8, width) for name, low, width in _ATTRIBUTES),
        "Linux 6.12 arch/x86/kvm/smm.c enter_smm_get_segment_flags",
    ),
    RegisterBits(
        "int_shadow", 8, (BitField("MOV_SS", 0), BitField("STI", 1)),
        "Linux 6.12 arch/x86/include/asm/kvm_host.h KVM_X86_SHADOW_INT_*",
    ),
)  # fmt: skip


def smram_map(long_mode: bool) -> tuple[SmramField, ...]:
    """Return the map of a guest whose CPUID has long mode, or has not."""
    return SMRAM_64 if long_mode else SMRAM_32
