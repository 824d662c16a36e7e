"""kvm_nested_state: a vCPU that runs a hypervisor itself."""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import Severity
from ...uapi.nested_state import NestedFlags, NestedFormat, NestedVmxFlags
from ..needs import NestedNeeds
from ..row import Case, CompatRule, Mismatch, Mismatches, unsaid

_ERROR, _WARNING = Severity.ERROR, Severity.WARNING

_CR4_VMXE, _EFER_SVME = 1 << 13, 1 << 12
FLAGS_SINCE: tuple[tuple[int, str, tuple[int, int]], ...] = (
    (NestedFlags.KVM_STATE_NESTED_EVMCS, "EVMCS", (4, 20)),
    (NestedFlags.KVM_STATE_NESTED_MTF_PENDING, "MTF_PENDING", (5, 6)),
    (NestedFlags.KVM_STATE_NESTED_GIF_SET, "GIF_SET", (5, 8)),
)
"""Flags of kvm_nested_state and the kernel that brought them; older ones refuse them."""


def _active(case: Case) -> Iterator[tuple[str, NestedNeeds]]:
    for vcpu in case.machine.vcpus:
        if vcpu.nested is not None and vcpu.nested.active and "nested_state" in case.host.vcpu_sections:
            yield f"vcpus.{vcpu.index}.nested_state", vcpu.nested


def _format(case: Case) -> Mismatches:
    there = case.host.nested
    for where, nested in _active(case):
        name = "SVM" if nested.format == NestedFormat.KVM_STATE_NESTED_FORMAT_SVM else "VMX"
        if there is None:
            yield unsaid(where, name, "whether guests may run guests")
            continue
        held = {"VMX": there.vmx, "SVM": there.svm}[name] and nested.format in tuple(NestedFormat)
        if not held:
            theirs = ", ".join(kind for kind, held in (("VMX", there.vmx), ("SVM", there.svm)) if held) or "neither"
            yield Mismatch(where, f"format {nested.format} ({name}), the host runs {theirs}", name, theirs)


def _size(case: Case) -> Mismatches:
    """A size of 0 is one that the profile does not say; without any word on nesting CMP-701 has said so."""
    there = case.host.nested
    for where, nested in _active(case):
        if there is None or not (there.vmx or there.svm) or nested.state_bytes <= there.state_bytes:
            continue
        if not there.state_bytes:
            yield unsaid(where, f"{nested.state_bytes} bytes", "how large a nested state may be")
        else:
            text = f"{nested.state_bytes} bytes, the host takes {there.state_bytes}"
            yield Mismatch(where, text, f"{nested.state_bytes}", f"{there.state_bytes}")


def _evmcs(case: Case) -> Mismatches:
    there = case.host.nested
    for where, nested in _active(case):
        if there is not None and nested.flags & NestedFlags.KVM_STATE_NESTED_EVMCS and not there.evmcs:
            yield Mismatch(where, "the guest uses Hyper-V's enlightened VMCS", "EVMCS", "none")


def _flags(case: Case) -> Mismatches:
    for flag, name, (major, minor) in FLAGS_SINCE:
        text = f"{name} came with Linux {major}.{minor}"
        found = (
            Mismatch(where, text, name, case.host.kernel_release)
            for where, nested in _active(case)
            if nested.flags & flag
        )
        yield from case.before_linux(major, minor, found)


def _timer(case: Case) -> Mismatches:
    deadline = NestedVmxFlags.KVM_STATE_VMX_PREEMPTION_TIMER_DEADLINE
    found = (
        Mismatch(where, "the deadline of the preemption timer is ignored", "deadline", case.host.kernel_release)
        for where, nested in _active(case)
        if nested.vmx_flags & deadline
    )
    return case.before_linux(5, 8, found)


def _gpat(case: Case) -> Mismatches:
    found = (
        Mismatch(where, "hdr.svm.gpat is ignored", "gpat", case.host.kernel_release)
        for where, nested in _active(case)
        if nested.gpat
    )
    return case.before_linux(7, 0, found)


def _missing(case: Case) -> Mismatches:
    if case.machine.subject == "host":
        return
    for vcpu in case.machine.vcpus:
        if vcpu.nested is None and (vcpu.cr4 & _CR4_VMXE or vcpu.efer & _EFER_SVME):
            what = "CR4.VMXE" if vcpu.cr4 & _CR4_VMXE else "EFER.SVME"
            text = f"{what} is set and the state has no nested_state"
            yield Mismatch(f"vcpus.{vcpu.index}.nested_state", text, what, "")


NESTED_RULES: tuple[CompatRule, ...] = (
    CompatRule(
        "CMP-701", _ERROR, "nested virtualisation",
        "KVM_SET_NESTED_STATE fails with EINVAL; the guest's guests are lost",
        "choose a host of the same vendor with nested=1, or stop the guest's hypervisor first",
        "Linux 6.12 api.rst 4.115 KVM_SET_NESTED_STATE", _format,
    ),
    CompatRule(
        "CMP-702", _ERROR, "size of the nested state", "KVM_SET_NESTED_STATE fails with EINVAL",
        "choose a host with a newer kernel", "Linux 6.12 api.rst 4.114 KVM_CAP_NESTED_STATE", _size,
    ),
    CompatRule(
        "CMP-703", _ERROR, "enlightened VMCS", "KVM_SET_NESTED_STATE fails with EINVAL",
        "choose a host with KVM_CAP_HYPERV_ENLIGHTENED_VMCS",
        "Linux 6.12 arch/x86/kvm/vmx/nested.c vmx_set_nested_state", _evmcs,
    ),
    CompatRule(
        "CMP-704", _ERROR, "flags of the nested state", "KVM_SET_NESTED_STATE fails with EINVAL",
        "choose a host with a newer kernel, or migrate while the guest's guests do not run",
        "Linux 6.12 arch/x86/include/uapi/asm/kvm.h KVM_STATE_NESTED_*", _flags,
    ),
    CompatRule(
        "CMP-705", _WARNING, "preemption timer of a nested guest", "the timer starts anew with its full value",
        "choose a host with Linux 5.8", "Linux 5.8 commit 850448f35aaf", _timer,
    ),
    CompatRule(
        "CMP-706", _WARNING, "nested state that is missing", "VMXON, the current VMCS, or GIF are lost",
        "save KVM_GET_NESTED_STATE with the state", "Linux 6.12 api.rst 4.114 KVM_GET_NESTED_STATE", _missing,
    ),
    CompatRule(
        "CMP-707", _WARNING, "PAT of a nested guest", "the nested guest's memory types change",
        "choose a host with a newer kernel", "Linux 7.3 arch/x86/include/uapi/asm/kvm.h kvm_svm_nested_state_hdr",
        _gpat,
    ),
)  # fmt: skip
