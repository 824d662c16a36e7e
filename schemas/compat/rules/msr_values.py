"""MSRs of which the host takes some values and not others."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from ...errors import Severity
from ...names.msrs import msr_name
from ..row import Case, CompatRule, Mismatch, Mismatches, hexes, unsaid

_ERROR, _WARNING = Severity.ERROR, Severity.WARNING

ARCH_CAPABILITIES, PERF_CAPABILITIES, DE_CFG = 0x10A, 0x345, 0xC0011029
FEATURE_CONTROL, SPEC_CTRL, TSX_CTRL, XFD, XSS, SEV_STATUS = 0x3A, 0x48, 0x122, 0x1C4, 0xDA0, 0xC0010131


def _bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


ARCH_CAP_CONTROLS = _bits(7, 9, 10, 11, 12, 18, 21, 22, 23, 25)
"""Bits that announce an MSR or a control; the others say that something is not vulnerable.

TSX_CTRL, MCU_CONTROL, MISC_PACKAGE_CTLS, ENERGY_FILTERING_CTL, DOITM, FB_CLEAR_CTRL, XAPIC_DISABLE_STATUS,
MCU_ENUMERATION, OVERCLOCKING_STATUS, GDS_CTRL. Source: Linux 6.12 arch/x86/include/asm/msr-index.h ARCH_CAP_*.
"""
ARCH_CAP_WEAKNESSES = _bits(2, 19)
"""RSBA and RRSBA: set where the processor *is* vulnerable."""
PERF_CAP_LBR_FORMAT = 0x3F
_LMCE, _MCG_LMCE_P = 20, 27
"""Bits of FEATURE_CONTROL and of MCG_CAP."""


def _features(index: int, mask: int, inverse: bool, case: Case) -> Mismatches:
    """A feature MSR: the guest's bits among the host's, or the host's among the guest's."""
    for where, values, _ in case.msr_values:
        ours = values.get(index)
        if ours is None or (not inverse and not ours & mask):
            continue
        theirs = case.host.feature_msr(index)
        if theirs is None:
            if case.host.feature_msrs is None:
                yield unsaid(where, f"{ours:#x}", f"its value of {msr_name(index)}")
                continue
            theirs = 0
        wrong = (theirs & ~ours if inverse else ours & ~theirs) & mask
        if wrong:
            who = "has" if inverse else "lacks"
            bits = hexes(1 << bit for bit in range(64) if wrong >> bit & 1)
            yield Mismatch(where, f"{msr_name(index)}: the host {who} {bits}", f"{ours:#x}", f"{theirs:#x}")


def _lbr_format(case: Case) -> Mismatches:
    for where, values, _ in case.msr_values:
        ours = values.get(PERF_CAPABILITIES, 0) & PERF_CAP_LBR_FORMAT
        theirs = case.host.feature_msr(PERF_CAPABILITIES)
        if ours and case.host.feature_msrs is None:
            yield unsaid(where, f"{ours:#x}", "the format of its LBRs")
        elif ours and ours != (theirs or 0) & PERF_CAP_LBR_FORMAT:
            yield Mismatch(where, f"LBR format {ours:#x}", f"{ours:#x}", f"{theirs or 0:#x}")


def _xss(case: Case) -> Mismatches:
    theirs = case.cpu.xss_mask
    for where, values, _ in case.msr_values:
        if lost := values.get(XSS, 0) & ~theirs:
            yield Mismatch(
                where, f"IA32_XSS has {lost:#x}, the host takes {theirs:#x}", f"{values[XSS]:#x}", f"{theirs:#x}"
            )


def _xfd(case: Case) -> Mismatches:
    # ECX bit 2 of a component's subleaf: XFD can fault on it.
    theirs = sum(1 << number for number, (_, _, ecx) in case.cpu.components.items() if ecx & 4)
    for where, values, _ in case.msr_values:
        if lost := values.get(XFD, 0) & ~theirs:
            yield Mismatch(
                where, f"IA32_XFD has {lost:#x}, the host takes {theirs:#x}", f"{values[XFD]:#x}", f"{theirs:#x}"
            )


class Control(NamedTuple):
    """A bit of SPEC_CTRL and the CPUID bits of which the host must have one."""

    bit: int
    name: str
    features: tuple[tuple[int, int, str, int], ...]


SPEC_CTRL_BITS: tuple[Control, ...] = (
    Control(0, "IBRS", ((7, 0, "edx", 26), (0x80000008, 0, "ebx", 14))),
    Control(1, "STIBP", ((7, 0, "edx", 27), (0x80000008, 0, "ebx", 15))),
    Control(2, "SSBD", ((7, 0, "edx", 31), (0x80000008, 0, "ebx", 24))),
    Control(3, "IPRED_DIS_U", ((7, 2, "edx", 1),)),
    Control(4, "IPRED_DIS_S", ((7, 2, "edx", 1),)),
    Control(5, "RRSBA_DIS_U", ((7, 2, "edx", 2),)),
    Control(6, "RRSBA_DIS_S", ((7, 2, "edx", 2),)),
    Control(7, "PSFD", ((7, 2, "edx", 0), (0x80000008, 0, "ebx", 28))),
    Control(8, "DDPD_U", ((7, 2, "edx", 3),)),
    Control(10, "BHI_DIS_S", ((7, 2, "edx", 4),)),
)
"""Source: SDM vol. 4 IA32_SPEC_CTRL; APM vol. 2 3.2.9."""


def _spec_ctrl(case: Case) -> Mismatches:
    for where, values, _ in case.msr_values:
        ours = values.get(SPEC_CTRL, 0)
        lost = [
            row.name
            for row in SPEC_CTRL_BITS
            if ours >> row.bit & 1
            and not any(case.cpu.bit(leaf, sub, register, bit) for leaf, sub, register, bit in row.features)  # type: ignore[arg-type]
        ]
        if unnamed := ours & ~sum(1 << row.bit for row in SPEC_CTRL_BITS):
            lost.append(f"{unnamed:#x}")
        if lost:
            yield Mismatch(where, f"SPEC_CTRL has {', '.join(lost)}, which the host lacks", f"{ours:#x}", "")


def _tsx_ctrl(case: Case) -> Mismatches:
    for where, values, _ in case.msr_values:
        ours = values.get(TSX_CTRL, 0)
        theirs = case.host.feature_msr(ARCH_CAPABILITIES)
        if ours and case.host.feature_msrs is None:
            yield unsaid(where, f"{ours:#x}", "whether it has TSX_CTRL")
        elif ours and not (theirs or 0) >> 7 & 1:
            yield Mismatch(where, "TSX_CTRL is set, the host has no such MSR", f"{ours:#x}", f"{theirs or 0:#x}")


def _feature_control(case: Case) -> Mismatches:
    """VMX outside SMX needs nested VMX; the SGX and LMCE bits need what they enable."""
    shown = case.host.mce_capabilities
    for where, values, _ in case.msr_values:
        ours = values.get(FEATURE_CONTROL, 0)
        unknown = shown is None and case.host.is_kvm
        if unknown and ours >> _LMCE & 1:
            yield unsaid(where, f"{ours:#x}", "whether guests may have LMCE")
        needs = (
            (2, "VMX", case.cpu.bit(1, 0, "ecx", 5)),
            (17, "SGX launch control", case.cpu.bit(7, 0, "ecx", 30)),
            (18, "SGX", case.cpu.bit(7, 0, "ebx", 2)),
            (_LMCE, "LMCE", unknown or bool((shown or 0) >> _MCG_LMCE_P & 1)),
        )
        lost = [name for bit, name, there in needs if ours >> bit & 1 and not there]
        if lost:
            yield Mismatch(where, f"FEATURE_CONTROL enables {', '.join(lost)}, the host cannot", f"{ours:#x}", "")


def _encrypted(case: Case) -> Mismatches:
    for where, values, _ in case.msr_values:
        if values.get(SEV_STATUS, 0):
            text = "SEV is active: memory is encrypted with a key of the source's processor"
            yield Mismatch(where, text, f"{values[SEV_STATUS]:#x}", "")


_MASK = "create the VM without the bit, or choose a host that has it"
_ARCH = "Linux 6.12 arch/x86/kvm/x86.c kvm_get_arch_capabilities; SDM vol. 4 IA32_ARCH_CAPABILITIES"

MSR_VALUE_RULES: tuple[CompatRule, ...] = (
    CompatRule(
        "CMP-202", _ERROR, "controls of ARCH_CAPABILITIES", "the guest writes MSRs that are not there: #GP",
        _MASK, _ARCH,
        partial(_features, ARCH_CAPABILITIES, ARCH_CAP_CONTROLS, False),
    ),
    CompatRule(
        "CMP-203", _WARNING, "immunities of ARCH_CAPABILITIES", "the guest leaves out a mitigation that it needs here",
        _MASK, _ARCH,
        partial(_features, ARCH_CAPABILITIES, ~(ARCH_CAP_CONTROLS | ARCH_CAP_WEAKNESSES) & (1 << 64) - 1, False),
    ),
    CompatRule(
        "CMP-204", _WARNING, "weaknesses of ARCH_CAPABILITIES",
        "the guest does not know that return predictions leak here",
        "create the VM with RSBA and RRSBA set, as for the weakest host", _ARCH,
        partial(_features, ARCH_CAPABILITIES, ARCH_CAP_WEAKNESSES, True),
    ),
    CompatRule(
        "CMP-205", _ERROR, "format of the LBRs", "KVM refuses PERF_CAPABILITIES; records would be misread",
        "create the VM without LBRs, or migrate among hosts of one format",
        "Linux 6.12 arch/x86/kvm/vmx/vmx.c vmx_set_msr", _lbr_format,
    ),
    CompatRule(
        "CMP-206", _ERROR, "PERF_CAPABILITIES", "KVM_SET_MSRS refuses the value", _MASK,
        "Linux 6.12 arch/x86/kvm/x86.c kvm_set_msr_common: supported_perf_cap",
        partial(_features, PERF_CAPABILITIES, ~PERF_CAP_LBR_FORMAT & (1 << 64) - 1, False),
    ),
    CompatRule(
        "CMP-207", _ERROR, "LFENCE as a barrier (DE_CFG)",
        "KVM_SET_MSRS refuses the value; Spectre v1 is not mitigated",
        _MASK, "Linux 6.12 arch/x86/kvm/svm/svm.c svm_set_msr: MSR_AMD64_DE_CFG",
        partial(_features, DE_CFG, 1 << 1, False),
    ),
    CompatRule(
        "CMP-208", _ERROR, "IA32_XSS", "KVM_SET_MSRS refuses the value; supervisor state has no place", _MASK,
        "Linux 6.12 arch/x86/kvm/x86.c kvm_set_msr_common: MSR_IA32_XSS", _xss,
    ),
    CompatRule(
        "CMP-209", _ERROR, "IA32_XFD", "KVM_SET_MSRS refuses the value", _MASK,
        "Linux 6.12 arch/x86/kvm/x86.c kvm_set_msr_common: MSR_IA32_XFD", _xfd,
    ),
    CompatRule(
        "CMP-210", _ERROR, "SPEC_CTRL", "KVM_SET_MSRS refuses bits that the host's processor lacks", _MASK,
        "Linux 6.12 arch/x86/kvm/x86.c kvm_spec_ctrl_test_value", _spec_ctrl,
    ),
    CompatRule(
        "CMP-211", _ERROR, "TSX_CTRL", "the guest has TSX switched off by an MSR that is not here", _MASK,
        "Linux 6.12 arch/x86/kvm/vmx/vmx.c vmx_set_msr: MSR_IA32_TSX_CTRL", _tsx_ctrl,
    ),
    CompatRule(
        "CMP-212", _ERROR, "FEATURE_CONTROL", "KVM_SET_MSRS refuses bits of features that the host lacks", _MASK,
        "Linux 6.12 arch/x86/kvm/vmx/vmx.c is_vmx_feature_control_msr_valid", _feature_control,
    ),
    CompatRule(
        "CMP-213", _ERROR, "encrypted guest", "the destination could not decrypt what it receives",
        "create the VM without SEV", "APM vol. 2 15.34.10 SEV_STATUS", _encrypted,
    ),
)  # fmt: skip
