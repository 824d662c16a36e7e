"""The components of the XSAVE area: bit, name, size, and where the fixed ones lie."""

from __future__ import annotations

from typing import NamedTuple

LEGACY_BYTES = 512
"""x87 and SSE: the FXSAVE image."""
HEADER_BYTES = 64
EXTENDED_OFFSET = LEGACY_BYTES + HEADER_BYTES


class XsaveComponent(NamedTuple):
    """One component; `size` in bytes as the manuals give it, 0 where it depends on the processor.

    `supervisor`: enabled by IA32_XSS, never in the user format that KVM_GET_XSAVE returns.
    """

    bit: int
    name: str
    size: int
    text: str
    supervisor: bool = False


XSAVE_COMPONENTS: tuple[XsaveComponent, ...] = (
    XsaveComponent(0, "FP", 160, "x87 and MMX"),
    XsaveComponent(1, "SSE", 256, "XMM0-15 and MXCSR"),
    XsaveComponent(2, "YMM", 256, "upper halves of YMM0-15"),
    XsaveComponent(3, "BNDREGS", 64, "MPX bounds BND0-3"),
    XsaveComponent(4, "BNDCSR", 64, "MPX BNDCFGU and BNDSTATUS"),
    XsaveComponent(5, "OPMASK", 64, "AVX-512 k0-k7"),
    XsaveComponent(6, "ZMM_Hi256", 512, "upper halves of ZMM0-15"),
    XsaveComponent(7, "Hi16_ZMM", 1024, "ZMM16-31"),
    XsaveComponent(8, "PT", 128, "processor trace", supervisor=True),
    XsaveComponent(9, "PKRU", 8, "user protection keys"),
    XsaveComponent(10, "PASID", 8, "ENQCMD", supervisor=True),
    XsaveComponent(11, "CET_USER", 16, "user shadow stack", supervisor=True),
    XsaveComponent(12, "CET_KERNEL", 24, "supervisor shadow stacks", supervisor=True),
    XsaveComponent(13, "HDC", 8, "hardware duty cycling", supervisor=True),
    XsaveComponent(14, "UINTR", 48, "user interrupts", supervisor=True),
    XsaveComponent(15, "LBR", 0, "last branches", supervisor=True),
    XsaveComponent(16, "HWP", 8, "performance requests", supervisor=True),
    XsaveComponent(17, "XTILE_CFG", 64, "AMX tile configuration"),
    XsaveComponent(18, "XTILE_DATA", 8192, "AMX tiles"),
    XsaveComponent(19, "APX", 128, "R16-R31"),
)
"""Source: SDM vol. 1 13.1, 13.5; Linux 6.12 arch/x86/include/asm/fpu/types.h enum xfeature. The bits of `xstate_bv`
in REGISTERS have the same names. Offsets are the processor's: CPUID leaf 0xD of the state says them.
"""

XSAVE_NAMES: dict[int, str] = {row.bit: row.name for row in XSAVE_COMPONENTS}


def component_name(bit: int) -> str:
    """Return the name of a component, "component 25" if it has none."""
    return XSAVE_NAMES.get(bit, f"component {bit}")
