"""What the guest was told of its hypervisor: KVM, Hyper-V and Xen leaves."""

from __future__ import annotations

from ...errors import Severity
from ..cpuid_names import bit_names
from ..cpuid_view import HYPERV_SIGNATURE, KVM_SIGNATURE, XEN_SIGNATURE, CpuidView
from ..cpuid_words import Word
from ..row import Case, CompatRule, Mismatch, Mismatches, unsaid

_ERROR, _WARNING = Severity.ERROR, Severity.WARNING

# MSI_EXT_DEST_ID (15): the VMM's interrupt controller. HC_MAP_GPA_RANGE (16) and MIGRATION_CONTROL (17): KVM hands the
# hypercall and the MSR to the VMM. KVM reports none of them. Source: Linux 6.12 arch/x86/kvm/cpuid.c.
_OF_THE_VMM = 1 << 15 | 1 << 16 | 1 << 17
_KVM_HC_MAP_GPA_RANGE = 12
_XEN_BASE = 0x40000000
_KVM_FEATURES = Word(0x40000001, 0, "eax")


def _kvm_signature(case: Case) -> Mismatches:
    """A guest of KVM on something else: its leaves, MSRs and hypercalls would have nobody to answer."""
    there = case.cpu.hypervisor(KVM_SIGNATURE)
    for where, guest, _ in case.guests:
        base = guest.hypervisor(KVM_SIGNATURE)
        if base is not None and there is None and guest.value(base + 1, 0, "eax"):
            yield Mismatch(f"{where}.cpuid2", f"leaves of KVM at {base:#x}, the host has none", "KVM", "none")


def _kvm_features(case: Case) -> Mismatches:
    there = case.cpu.hypervisor(KVM_SIGNATURE)
    if there is None:
        return
    theirs = case.cpu.value(there + 1, 0, "eax")
    for where, guest, _ in case.guests:
        base = guest.hypervisor(KVM_SIGNATURE)
        ours = guest.value(base + 1, 0, "eax") if base is not None else 0
        if lost := ours & ~theirs & ~_OF_THE_VMM:
            text = f"the host lacks {bit_names(_KVM_FEATURES, lost)}"
            yield Mismatch(f"{where}.cpuid2", text, f"{ours:#x}", f"{theirs:#x}")


def _map_gpa_range(case: Case) -> Mismatches:
    for where, guest, _ in case.guests:
        base = guest.hypervisor(KVM_SIGNATURE)
        if base is None or not guest.bit(base + 1, 0, "eax", 16):
            continue
        handed = case.host.capability("KVM_CAP_EXIT_HYPERCALL")
        if handed is None:
            yield unsaid(f"{where}.cpuid2", "hc_map_gpa_range", "which hypercalls it hands to the VMM")
        elif not handed >> _KVM_HC_MAP_GPA_RANGE & 1:
            text = "the host does not hand KVM_HC_MAP_GPA_RANGE to the VMM"
            yield Mismatch(f"{where}.cpuid2", text, "hc_map_gpa_range", f"{handed:#x}")


_HYPERV_WORDS = tuple(
    Word(function, 0, register)  # type: ignore[arg-type]
    for function, register in (
        (0x40000003, "eax"),
        (0x40000003, "ebx"),
        (0x40000003, "edx"),
        (0x4000000A, "eax"),
    )
)
"""Features and nested features; 0x40000004 recommends, which the VMM decides. Source: Linux 6.12 kvm_get_hv_cpuid."""


def _hyperv(case: Case) -> Mismatches:
    supported = CpuidView(case.host.hyperv_cpuid) if case.host.hyperv_cpuid is not None else None
    for where, guest, _ in case.guests:
        if guest.hypervisor(HYPERV_SIGNATURE) is None:
            continue
        if supported is None:
            if case.host.is_kvm and case.host.kvm_capabilities is None:
                yield unsaid(f"{where}.cpuid2", "Hyper-V leaves", "which enlightenments it has")
            else:
                yield Mismatch(f"{where}.cpuid2", "the host has no enlightenments of Hyper-V", "Hyper-V", "none")
            continue
        for word in _HYPERV_WORDS:
            ours = guest.value(word.function, 0, word.register)
            theirs = supported.value(word.function, 0, word.register)
            if lost := ours & ~theirs:
                text = f"{word.place}: the host lacks {bit_names(word, lost)}"
                yield Mismatch(f"{where}.cpuid2", text, f"{ours:#x}", f"{theirs:#x}")


def _xen(case: Case) -> Mismatches:
    for where, guest, _ in case.guests:
        if guest.hypervisor(XEN_SIGNATURE) is None:
            continue
        there = case.host.capability("KVM_CAP_XEN_HVM")
        if there is None and case.host.is_kvm:
            yield unsaid(f"{where}.cpuid2", "Xen leaves", "whether it can pass for Xen")
        elif not there:
            yield Mismatch(f"{where}.cpuid2", "the host cannot pass for Xen", "Xen", "none")


PARAVIRT_RULES: tuple[CompatRule, ...] = (
    CompatRule(
        "CMP-135", _ERROR, "KVM features", "clock, end of interrupt and flush requests of the guest go unanswered",
        "mask the bits of CPUID 0x40000001 when the VM is created, or choose a host with a newer kernel",
        "Linux 6.12 Documentation/virt/kvm/x86/cpuid.rst", _kvm_features,
    ),
    CompatRule(
        "CMP-136", _ERROR, "KVM's leaves", "clock, hypercalls and asynchronous page faults go unanswered",
        "choose a host with KVM, or create the VM without the features of CPUID 0x40000001",
        "Linux 6.12 Documentation/virt/kvm/x86/cpuid.rst", _kvm_signature,
    ),
    CompatRule(
        "CMP-137", _ERROR, "hypercall for encrypted pages", "the guest cannot say which of its pages are shared",
        "choose a host with KVM_CAP_EXIT_HYPERCALL", "Linux 6.12 api.rst 7.35 KVM_CAP_EXIT_HYPERCALL", _map_gpa_range,
    ),
    CompatRule(
        "CMP-138", _ERROR, "Hyper-V enlightenments", "synthetic timers, interrupts and hypercalls go unanswered",
        "create the VM without them, or choose a host whose KVM_GET_SUPPORTED_HV_CPUID has them",
        "Linux 6.12 arch/x86/kvm/hyperv.c kvm_get_hv_cpuid", _hyperv,
    ),
    CompatRule(
        "CMP-140", _ERROR, "Xen leaves", "Xen hypercalls and event channels go unanswered",
        "choose a host with KVM_CAP_XEN_HVM", "Linux 6.12 api.rst 7.19 KVM_CAP_XEN_HVM", _xen,
    ),
)  # fmt: skip
