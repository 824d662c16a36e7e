"""MSRS: every model-specific register that a KVM guest's state may hold, by number, name, class and restore phase.

Names are the kernel's; where the kernel has none (MTRR ranges, x2APIC), the SDM's. A row may stand for a run of
registers: `length` of them, `step` apart, "{n}" in the name being the place in the run. To add one, add it to a group.
Source: Linux 6.12 arch/x86/include/asm/msr-index.h, perf_event.h, hyperv-tlfs.h, uapi/asm/kvm_para.h;
arch/x86/kvm/x86.c msrs_to_save_base, msrs_to_save_pmu, emulated_msrs_all, msr_based_features_all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from ..errors import FieldError, Problem
from .msr_rows import MsrClass, MsrRow, RestorePhase
from .msr_rows_amd import AMD_MSRS
from .msr_rows_intel import INTEL_MSRS
from .msr_rows_pv import PV_MSRS

__all__ = ["ALIASES", "MSRS", "MsrClass", "MsrRow", "RestorePhase", "msr_name", "msr_names", "msr_number", "msr_row"]

MSRS: tuple[MsrRow, ...] = (*INTEL_MSRS, *AMD_MSRS, *PV_MSRS)

ALIASES: dict[str, int] = {
    "MSR_IA32_FEATURE_CONTROL": 0x3A,
    "MSR_IA32_APIC_BASE": 0x1B,
    "MSR_IA32_BIOS_SIGN_ID": 0x8B,
    "MSR_AMD64_PATCH_LEVEL": 0x8B,
    "MSR_IA32_PAT": 0x277,
    "MSR_IA32_EFER": 0xC0000080,
    "MSR_IA32_STAR": 0xC0000081,
    "MSR_IA32_LSTAR": 0xC0000082,
    "MSR_IA32_CSTAR": 0xC0000083,
    "MSR_IA32_FMASK": 0xC0000084,
    "MSR_SFMASK": 0xC0000084,
    "MSR_IA32_FS_BASE": 0xC0000100,
    "MSR_IA32_GS_BASE": 0xC0000101,
    "MSR_IA32_KERNEL_GS_BASE": 0xC0000102,
    "MSR_IA32_TSC_AUX": 0xC0000103,
    "MSR_IA32_DEBUGCTL": 0x1D9,
    "MSR_IA32_MTRRCAP": 0xFE,
    "MSR_IA32_MTRR_DEF_TYPE": 0x2FF,
}
"""Other spellings in use; `msr_number` reads them, nothing writes them."""

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10}", re.ASCII)


@cache
def _by_number() -> dict[int, tuple[str, MsrRow]]:
    return {number: (name, row) for row in MSRS for number, name in row.registers()}


@cache
def _by_name() -> dict[str, int]:
    names = {name.upper(): number for number, (name, _) in _by_number().items()}
    return {**ALIASES, **names}


def msr_names() -> Iterator[tuple[int, str]]:
    """Yield number and name of every register that has a name, runs spelled out, by number."""
    for number, (name, _) in sorted(_by_number().items()):
        yield number, name


def msr_row(number: int) -> MsrRow | None:
    """Return the row that a register belongs to, or None if its number has no name."""
    found = _by_number().get(number)
    return found[1] if found else None


def msr_name(number: int) -> str:
    """Return a register's name ("MSR_LSTAR"), or its number in hex ("0x1234") if it has none."""
    found = _by_number().get(number)
    return found[0] if found else hex(number)


def msr_number(text: str) -> int:
    """Return the number of "MSR_LSTAR", "LSTAR", "0xc0000082" or "3221225602"; case does not matter.

    Raises:
        FieldError: no register has this name, or the number has more than 32 bits.
    """
    if _NUMBER.fullmatch(text):
        number = int(text, 0) if text[:2].lower() == "0x" else int(text)
        if number <= 0xFFFFFFFF:
            return number
    name = text.upper()
    for candidate in (name, f"MSR_{name}", f"MSR_IA32_{name}", name.removeprefix("MSR_")):
        if candidate in _by_name():
            return _by_name()[candidate]
    hint = ", ".join(_near(name)) or 'a number works too: "0x174"'
    raise FieldError([Problem(where="msrs", message=f"no MSR is called {text[:64]!r}", hint=hint)])


def _near(name: str) -> list[str]:
    """Return up to five names that hold what was asked for, for the hint of an error."""
    part = name.removeprefix("MSR_").removeprefix("IA32_")[:32]
    return [known for known in _by_name() if len(part) > 2 and part in known][:5]
