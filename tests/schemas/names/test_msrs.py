"""The MSR table: one name per number, one number per name, and every register that a KVM host lists."""

import re

import pytest

from schemas.errors import FieldError
from schemas.names.bits import REGISTERS
from schemas.names.msrs import ALIASES, MSRS, MsrClass, RestorePhase, msr_name, msr_names, msr_number, msr_row
from schemas.ordering import RESTORE_ORDER

NAMES = dict(msr_names())
REGISTERS_OF_ROWS = [(number, name) for row in MSRS for number, name in row.registers()]


def test_numbers_and_names_are_each_there_once() -> None:
    numbers = [number for number, _ in REGISTERS_OF_ROWS]
    names = [name for _, name in REGISTERS_OF_ROWS]
    assert len(set(numbers)) == len(numbers) == len(NAMES)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("row", MSRS, ids=lambda row: row.name)
def test_a_row_is_whole(row) -> None:
    assert 0 <= row.number <= 0xFFFFFFFF
    assert re.fullmatch(r"[A-Z][A-Za-z0-9_{}]+", row.name)
    assert ("{n}" in row.name) == (row.length > 1)
    assert row.source
    assert row.bits is None or row.bits in REGISTERS


def test_every_name_is_read_back() -> None:
    assert all(msr_number(name) == number for number, name in NAMES.items())
    assert all(msr_number(hex(number)) == number for number in NAMES)
    assert all(msr_number(alias) == number for alias, number in ALIASES.items())
    assert set(ALIASES.values()) <= set(NAMES)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("MSR_LSTAR", 0xC0000082), ("lstar", 0xC0000082), ("TSC", 0x10), ("IA32_TSC", 0x10), ("0x174", 0x174),
        ("372", 0x174), ("MSR_IA32_MC3_STATUS", 0x40D), ("HV_X64_MSR_SINT15", 0x4000009F), ("IA32_X2APIC_ISR7", 0x817),
        ("MSR_IA32_MTRR_PHYSMASK1", 0x203), ("MSR_ARCH_PERFMON_EVENTSEL7", 0x18D), ("MSR_IA32_FEATURE_CONTROL", 0x3A),
    ],
)  # fmt: skip
def test_a_register_is_found_by_its_usual_spellings(text: str, number: int) -> None:
    assert msr_number(text) == number


@pytest.mark.parametrize("text", ["", "MSR_NOPE", "0x100000000", "99999999999", "-1", "0x", "0x1g", "²"])
def test_what_names_no_register_is_refused(text: str) -> None:
    with pytest.raises(FieldError, match="no MSR is called"):
        msr_number(text)


def test_a_near_miss_is_told_what_there_is() -> None:
    with pytest.raises(FieldError, match="MSR_IA32_TSC_DEADLINE"):
        msr_number("MSR_IA32_TSC_DEADLIN")


def test_a_number_without_a_name_is_written_in_hex() -> None:
    assert msr_name(0x12345) == "0x12345"
    assert msr_row(0x12345) is None


KVM_LISTS = {
    "MSR_IA32_SYSENTER_CS": 0x174, "MSR_STAR": 0xC0000081, "MSR_IA32_TSC": 0x10, "MSR_IA32_CR_PAT": 0x277,
    "MSR_VM_HSAVE_PA": 0xC0010117, "MSR_IA32_FEAT_CTL": 0x3A, "MSR_IA32_BNDCFGS": 0xD90, "MSR_TSC_AUX": 0xC0000103,
    "MSR_IA32_SPEC_CTRL": 0x48, "MSR_IA32_TSX_CTRL": 0x122, "MSR_IA32_RTIT_ADDR3_B": 0x587,
    "MSR_IA32_UMWAIT_CONTROL": 0xE1,
    "MSR_IA32_XFD": 0x1C4, "MSR_IA32_XFD_ERR": 0x1C5, "MSR_IA32_XSS": 0xDA0, "MSR_IA32_PL3_SSP": 0x6A7,
    "MSR_IA32_INT_SSP_TAB": 0x6A8, "MSR_ARCH_PERFMON_FIXED_CTR2": 0x30B, "MSR_CORE_PERF_GLOBAL_CTRL": 0x38F,
    "MSR_PEBS_DATA_CFG": 0x3F2, "MSR_K7_EVNTSEL3": 0xC0010003, "MSR_F15H_PERF_CTR5": 0xC001020B,
    "MSR_AMD64_PERF_CNTR_GLOBAL_CTL": 0xC0000301, "MSR_KVM_SYSTEM_TIME_NEW": 0x4B564D01,
    "HV_X64_MSR_CRASH_P4": 0x40000104,
    "HV_X64_MSR_TSC_INVARIANT_CONTROL": 0x40000118, "HV_X64_MSR_SYNDBG_PENDING_BUFFER": 0x400000F5,
    "MSR_KVM_ASYNC_PF_ACK": 0x4B564D07, "MSR_IA32_TSC_ADJUST": 0x3B, "MSR_IA32_TSC_DEADLINE": 0x6E0,
    "MSR_IA32_ARCH_CAPABILITIES": 0x10A, "MSR_IA32_PERF_CAPABILITIES": 0x345, "MSR_IA32_MISC_ENABLE": 0x1A0,
    "MSR_IA32_MCG_EXT_CTL": 0x4D0, "MSR_IA32_SMBASE": 0x9E, "MSR_SMI_COUNT": 0x34, "MSR_PLATFORM_INFO": 0xCE,
    "MSR_MISC_FEATURES_ENABLES": 0x140, "MSR_AMD64_VIRT_SPEC_CTRL": 0xC001011F, "MSR_AMD64_TSC_RATIO": 0xC0000104,
    "MSR_IA32_POWER_CTL": 0x1FC, "MSR_IA32_UCODE_REV": 0x8B, "MSR_IA32_VMX_VMFUNC": 0x491, "MSR_K7_HWCR": 0xC0010015,
    "MSR_KVM_POLL_CONTROL": 0x4B564D05, "MSR_AMD64_DE_CFG": 0xC0011029, "MSR_KVM_MIGRATION_CONTROL": 0x4B564D08,
}  # fmt: skip
"""A sample over all lists of arch/x86/kvm/x86.c, with the numbers of the kernel's headers."""


@pytest.mark.parametrize(("name", "number"), KVM_LISTS.items())
def test_what_a_kvm_host_lists_has_the_kernels_name(name: str, number: int) -> None:
    assert msr_name(number) == name


def test_phases_name_steps_of_the_restore_order() -> None:
    steps = {step.name for step in RESTORE_ORDER}
    for phase in RestorePhase:
        if phase is not RestorePhase.NEVER:
            assert phase.split(".")[0] in steps
    assert RestorePhase.TSC_DEADLINE in steps


def test_phases_follow_each_other() -> None:
    order = list(RestorePhase)
    feature, tsc, counter, enable, deadline = (
        order.index(msr_row(number).restore_phase) for number in (0x480, 0x10, 0xC1, 0x38F, 0x6E0)
    )
    assert feature < tsc < counter < enable < deadline


def test_what_says_time_or_features_is_of_that_class() -> None:
    assert {msr_row(n).msr_class for n in (0x10, 0x3B, 0x6E0, 0x40000020)} == {MsrClass.TIME}
    assert {msr_row(n).msr_class for n in range(0x480, 0x493)} == {MsrClass.VMX}
    assert all(row.restore_phase is RestorePhase.FEATURES for row in MSRS if row.msr_class is MsrClass.VMX)
