"""XSAVE: components, their sizes and places, and what KVM_SET_XSAVE refuses."""

from __future__ import annotations

from ...errors import Severity
from ..row import Case, CompatRule, Mismatch, Mismatches, hexes, per_vcpu, unsaid

_ERROR, _WARNING, _NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE

LEGACY = 3
"""x87 and SSE: in the first 512 bytes, on every processor."""
DEFAULT_MXCSR_MASK = 0xFFBF
"""Source: SDM vol. 1 11.6.6."""


def _components(case: Case) -> Mismatches:
    theirs = case.host.xcr0_mask
    for vcpu in case.machine.vcpus:
        for where, value in (("xcrs", vcpu.xcr0), ("xsave", vcpu.xstate_bv)):
            # Without XSAVE the area is FXSAVE's, x87 and SSE, which KVM holds on a processor without it too.
            legacy = LEGACY if where == "xsave" and case.host.is_kvm else 0
            if lost := value & ~(theirs | legacy):
                text = f"the host lacks components {lost:#x} of {value:#x}"
                yield Mismatch(f"vcpus.{vcpu.index}.{where}", text, f"{value:#x}", f"{theirs:#x}")


def _shown_components(case: Case) -> Mismatches:
    theirs = case.host.xcr0_mask
    for where, guest, _ in case.guests:
        if lost := guest.xcr0_mask & ~theirs:
            text = f"CPUID.DH.0: the guest may enable {lost:#x}, which the host lacks"
            yield Mismatch(f"{where}.cpuid2", text, f"{guest.xcr0_mask:#x}", f"{theirs:#x}")


def _supervisor(case: Case) -> Mismatches:
    for where, guest, _ in case.guests:
        if lost := guest.xss_mask & ~case.cpu.xss_mask:
            text = f"CPUID.DH.1: the guest may enable {lost:#x} in IA32_XSS, which the host lacks"
            yield Mismatch(f"{where}.cpuid2", text, f"{guest.xss_mask:#x}", f"{case.cpu.xss_mask:#x}")


def _area(case: Case) -> Mismatches:
    """Bytes behind the last component in use are in their initial state: KVM reads no more than its own size."""
    for where, vcpu in per_vcpu(case.machine, lambda v: v.xsave_bytes > case.host.xsave_bytes, "xsave"):
        text = f"{vcpu.xsave_bytes} bytes, the host holds {case.host.xsave_bytes}"
        cut = case.host.is_kvm and case.machine.subject == "machine"
        fits = cut and vcpu.xsave_used_bytes <= case.host.xsave_bytes
        yield Mismatch(
            where,
            f"{text}; what is in use ends at {vcpu.xsave_used_bytes}" if fits else text,
            f"{vcpu.xsave_bytes} bytes",
            f"{case.host.xsave_bytes} bytes",
            _NOTE if fits else None,
        )


def _layout(case: Case, part: int, name: str) -> Mismatches:
    """Compare (size, offset, flags) of the components that both have; `part` numbers the member."""
    theirs = case.cpu.components
    for where, guest, vcpu in case.guests:
        for number, ours in guest.components.items():
            if number in theirs and ours[part] != theirs[number][part]:
                used = "in use" if vcpu.xstate_bv >> number & 1 else "not in use now"
                text = f"component {number} ({used}): {name} {ours[part]}, the host has {theirs[number][part]}"
                yield Mismatch(f"{where}.cpuid2", text, str(ours[part]), str(theirs[number][part]))


def _sizes(case: Case) -> Mismatches:
    return _layout(case, 0, "size")


def _offsets(case: Case) -> Mismatches:
    return _layout(case, 1, "offset")


def _alignment(case: Case) -> Mismatches:
    theirs = case.cpu.components
    for where, guest, _ in case.guests:
        for number, (_, _, flags) in guest.components.items():
            if number in theirs and (flags ^ theirs[number][2]) & 2:
                text = f"component {number}: aligned to 64 bytes on one side only in the compacted form"
                yield Mismatch(f"{where}.cpuid2", text, f"{flags:#x}", f"{theirs[number][2]:#x}")


def _dynamic(case: Case) -> Mismatches:
    """A component that XFD can switch off needs a permission that a process asks for."""
    dynamic = sum(1 << number for number, (_, _, flags) in case.cpu.components.items() if flags & 4)
    for where, guest, vcpu in case.guests:
        ours = (guest.xcr0_mask | vcpu.xcr0) & dynamic
        if not ours:
            continue
        if case.host.xcr0_guest_permitted is None:
            if case.host.is_kvm:
                yield unsaid(f"{where}.cpuid2", f"{ours:#x}", "which components a process may give to guests")
        elif lost := ours & ~case.host.xcr0_guest_permitted:
            text = f"no process of the host may give {hexes([lost])} to guests"
            yield Mismatch(f"{where}.cpuid2", text, f"{ours:#x}", f"{case.host.xcr0_guest_permitted:#x}")


def _mxcsr(case: Case) -> Mismatches:
    theirs = case.host.mxcsr_mask
    for where, vcpu in per_vcpu(case.machine, lambda v: v.mxcsr & ~(theirs or DEFAULT_MXCSR_MASK) != 0, "xsave"):
        if theirs is None and case.host.is_kvm:
            yield unsaid(where, f"{vcpu.mxcsr:#x}", "which bits of MXCSR it takes")
        elif theirs is not None:
            text = f"MXCSR {vcpu.mxcsr:#x} has bits {vcpu.mxcsr & ~theirs:#x} that the host lacks"
            yield Mismatch(where, text, f"{vcpu.mxcsr:#x}", f"{theirs:#x}")


def _compacted(case: Case) -> Mismatches:
    for where, vcpu in per_vcpu(case.machine, lambda v: v.xcomp_bv != 0 and case.host.is_kvm, "xsave"):
        yield Mismatch(where, f"XCOMP_BV is {vcpu.xcomp_bv:#x}", f"{vcpu.xcomp_bv:#x}", "0x0")


_WITHOUT = "create the VM without it"

XSAVE_RULES: tuple[CompatRule, ...] = (
    CompatRule(
        "CMP-014", _ERROR, "XSAVE component", "KVM_SET_XCRS or KVM_SET_XSAVE fails with EINVAL", _WITHOUT,
        "SDM vol. 1 13.3", _components,
    ),
    CompatRule(
        "CMP-015", _ERROR, "XSAVE area", "what lies behind the host's area is not read",
        "choose a host with a larger area",
        "Linux 6.12 api.rst 4.43 KVM_SET_XSAVE, KVM_CAP_XSAVE2", _area,
    ),
    CompatRule(
        "CMP-301", _ERROR, "XSAVE component shown to the guest", "XSETBV with it raises #GP", _WITHOUT,
        "SDM vol. 1 13.3; CPUID.0DH.0:EDX:EAX", _shown_components,
    ),
    CompatRule(
        "CMP-302", _ERROR, "supervisor XSAVE component shown to the guest", "writing IA32_XSS raises #GP", _WITHOUT,
        "SDM vol. 1 13.3; CPUID.0DH.1:EDX:ECX", _supervisor,
    ),
    CompatRule(
        "CMP-303", _ERROR, "size of an XSAVE component", "saved contexts in the guest's memory have another layout",
        "migrate among hosts that agree in it, or create the VM without the component", "SDM vol. 1 13.4; CPUID.0DH",
        _sizes,
    ),
    CompatRule(
        "CMP-304", _ERROR, "offset of an XSAVE component",
        "registers are read from where others lie: in the state that travels, and in each context that the guest saved",
        "migrate among hosts that agree in it, or create the VM without the component",
        "SDM vol. 1 13.4.3; CPUID.0DH.n:EBX", _offsets,
    ),
    CompatRule(
        "CMP-305", _ERROR, "alignment of an XSAVE component", "contexts that the guest saved compacted are misread",
        "migrate among hosts that agree in it", "SDM vol. 1 13.4.3; CPUID.0DH.n:ECX bit 1", _alignment,
    ),
    CompatRule(
        "CMP-306", _ERROR, "XSAVE component by permission", "KVM_SET_CPUID2 fails with EPERM",
        "give the VMM the permission (ARCH_REQ_XCOMP_GUEST_PERM), or create the VM without AMX",
        "Linux 6.12 api.rst KVM_X86_XCOMP_GUEST_SUPP; Documentation/arch/x86/xstate.rst", _dynamic,
    ),
    CompatRule(
        "CMP-307", _ERROR, "MXCSR", "KVM_SET_XSAVE fails with EINVAL", "clear the bit in the guest before it moves",
        "Linux 6.12 arch/x86/kernel/fpu/core.c fpu_copy_uabi_to_guest_fpstate", _mxcsr,
    ),
    CompatRule(
        "CMP-308", _ERROR, "form of the XSAVE area", "KVM_SET_XSAVE takes the standard form only: EINVAL",
        "save the state anew in the standard form",
        "Linux 6.12 arch/x86/kernel/fpu/xstate.c validate_user_xstate_header",
        _compacted,
    ),
)  # fmt: skip
