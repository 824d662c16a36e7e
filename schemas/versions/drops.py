"""DROPS: what is lost with a section that an older version does not have, one row per section."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..uapi.msrs import KvmMsrs
from ..uapi.nested_state import VMX_NO_ADDRESS, KvmNestedState, NestedFlags

Sections = Mapping[str, bytes]
Verdict = tuple[str, str]
"""(id of a row of LOSSES, detail)."""

_MSR_TSC = 0x10
_NOTHING_LOST, _LOST = "LOSS-021", "LOSS-020"


class Drop(NamedTuple):
    """One section and how to tell what leaving it out loses, looking at all sections that it stands beside."""

    section: str
    scope: str
    judge: Callable[[Sections], Verdict]


def _nested_state(sections: Sections) -> Verdict:
    """A vCPU that has not entered VMX operation, or has no guest under SVM, begins like that on any host."""
    nested = KvmNestedState.unpack(sections["nested_state"])
    if nested.data:
        return _LOST, f"{len(nested.data)} bytes of the guest hypervisor's control blocks"
    if nested.vmx is not None:
        if nested.vmx.vmxon_pa != VMX_NO_ADDRESS:
            return _LOST, f"VMXON at {nested.vmx.vmxon_pa:#x}"
        if nested.flags or nested.vmx.smm.flags:
            return _LOST, f"flags {nested.flags:#x}, smm.flags {nested.vmx.smm.flags:#x} outside VMX operation"
        return _NOTHING_LOST, "no VMX operation"
    if nested.svm is not None and nested.flags == NestedFlags.KVM_STATE_NESTED_GIF_SET:
        return _NOTHING_LOST, "no guest under SVM, GIF set"
    return _LOST, f"flags {nested.flags:#x} of format {nested.format}"


_FPU_PIECES = ((0, 32, 128), (128, 0, 2), (130, 2, 2), (132, 4, 1), (134, 6, 2), (136, 8, 16), (152, 160, 256))
"""(offset in kvm_fpu, offset in the XSAVE area, bytes); KVM fills no mxcsr. Source: Linux 6.12 get_fpu."""


def _fpu(sections: Sections) -> Verdict:
    fpu, area = sections["fpu"], sections.get("xsave", b"")
    same = all(fpu[a : a + size] == area[b : b + size] for a, b, size in _FPU_PIECES)
    return (_NOTHING_LOST, "`xsave` holds the same") if same else ("LOSS-022", "`fpu` and the legacy area of `xsave`")


def _tsc_offset(sections: Sections) -> Verdict:
    msrs = KvmMsrs.unpack(sections["msrs"]).values_by_index() if "msrs" in sections else {}
    return ("LOSS-023", "") if _MSR_TSC in msrs else (_LOST, "and the state has no MSR_IA32_TSC (0x10)")


_IOAPIC_RESET = struct.pack("<QIIII24Q", 0xFEC0_0000, 0, 0, 0, 0, *[1 << 16] * 24)
"""struct kvm_ioapic_state after reset: every line masked. Source: Linux 6.12 arch/x86/kvm/ioapic.c kvm_ioapic_reset."""


def _ioapic(sections: Sections) -> Verdict:
    held = sections["ioapic"][8 : 8 + len(_IOAPIC_RESET)]
    return (_NOTHING_LOST, "as after reset") if held == _IOAPIC_RESET else (_LOST, "its lines are set up")


DROPS: tuple[Drop, ...] = (
    Drop("fpu", "vcpu", _fpu),
    Drop("nested_state", "vcpu", _nested_state),
    Drop("tsc_offset", "vcpu", _tsc_offset),
    Drop("ioapic", "vm", _ioapic),
)
DROP_OF: Mapping[str, Drop] = {row.section: row for row in DROPS}
