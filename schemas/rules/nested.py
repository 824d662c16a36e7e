"""Rules on nested_state in general and of the VMX format: INV-140 to INV-159.

KVM_SET_NESTED_STATE refuses most of what they find with EINVAL. The format says whose rules bind, whatever host is
meant: state of one format is refused by all hosts of the other.
Source: Linux 6.12 x86.c kvm_arch_vcpu_ioctl KVM_SET_NESTED_STATE, vmx/nested.c vmx_set_nested_state, svm/nested.c
svm_set_nested_state; api.rst 4.114, 4.115.
"""

from __future__ import annotations

from ..errors import Severity
from ..uapi.nested_state import (
    KVM_STATE_NESTED_VMX_VMCS_SIZE,
    NESTED_STATE_HEADER_BYTES,
    VMX_NO_ADDRESS,
    KvmNestedState,
    KvmSvmNestedStateHdr,
    KvmVmxNestedStateHdr,
    NestedFlags,
    NestedFormat,
    NestedSmmFlags,
    NestedVmxFlags,
)
from .facts import CR4_VMXE, CpuidBit, VcpuFacts
from .row import Check, Details, Invariant

_FLAG, _SMM = NestedFlags, NestedSmmFlags
# Plain ints: the complement of an IntFlag has known bits only, so an unknown bit would slip through.
_KNOWN, _SMM_KNOWN, _VMX_KNOWN = sum(NestedFlags), sum(NestedSmmFlags), sum(NestedVmxFlags)
_EVMCS = int(_FLAG.KVM_STATE_NESTED_EVMCS)
SMM_SHADOW_BITS = 0x000C
"""STI and MOV SS blocking in hdr.vmx.smm.flags: the carrier nested_flags, values ours (`schemas.shadow`)."""

VMCS12_REVISION = 0x11E5_7ED0
"""Source: Linux 6.12 vmx/vmcs12.h; KVM-private, fixed since 2018 because it is migrated."""
VMCS_SHADOW_INDICATOR = 1 << 31
PAGE_BYTES = 4096

VMX = CpuidBit(1, 0, "ecx", 5, "VMX")
SVM = CpuidBit(0x80000001, 0, "ecx", 2, "SVM")


def nested_of(v: VcpuFacts) -> KvmNestedState:
    """Return the section; the rules' `needs` keeps them away from a vCPU without."""
    state: KvmNestedState | None = v.nested_state
    if state is None:
        raise LookupError("nested_state")
    return state


def _vmx(v: VcpuFacts) -> KvmVmxNestedStateHdr | None:
    return nested_of(v).vmx


def _svm(v: VcpuFacts) -> KvmSvmNestedStateHdr | None:
    return nested_of(v).svm


def _vmxon(v: VcpuFacts) -> KvmVmxNestedStateHdr | None:
    """Return the VMX header of a vCPU in VMX operation, or None."""
    vmx = nested_of(v).vmx
    return vmx if vmx is not None and vmx.vmxon_pa != VMX_NO_ADDRESS else None


def _page(v: VcpuFacts, address: int) -> bool:
    """Return whether an address is that of a page within MAXPHYADDR; kernel: page_address_valid."""
    beyond = v.features_known and address >> v.physical_bits
    return not address % PAGE_BYTES and not beyond and not address >> 52


def _format(v: VcpuFacts) -> Details:
    if nested_of(v).format not in (NestedFormat.KVM_STATE_NESTED_FORMAT_VMX, NestedFormat.KVM_STATE_NESTED_FORMAT_SVM):
        yield f"format {nested_of(v).format}"


def _size(v: VcpuFacts) -> Details:
    state = nested_of(v)
    there = NESTED_STATE_HEADER_BYTES + len(state.data)
    if state.size < NESTED_STATE_HEADER_BYTES or state.size > there:
        yield f"size {state.size}, {there} bytes are there"


def _flags(v: VcpuFacts) -> Details:
    if unknown := nested_of(v).flags & ~_KNOWN:
        yield f"flags {nested_of(v).flags:#x}: {unknown:#x}"


def _run_pending(v: VcpuFacts) -> Details:
    if nested_of(v).flags & _FLAG.KVM_STATE_NESTED_RUN_PENDING and not nested_of(v).guest_mode:
        yield f"flags {nested_of(v).flags:#x}"


def _guest_mode_in_smm(v: VcpuFacts) -> Details:
    pending = _FLAG.KVM_STATE_NESTED_GUEST_MODE | _FLAG.KVM_STATE_NESTED_RUN_PENDING
    if v.in_smm and nested_of(v).flags & pending:
        yield f"smi.smm 1, flags {nested_of(v).flags:#x}"


def _feature(v: VcpuFacts) -> Details:
    vmx = _vmxon(v)
    if not v.features_known:
        return
    if vmx is not None and not v.has(VMX):
        yield f"vmxon_pa {vmx.vmxon_pa:#x}, CPUID has no VMX"
    if _svm(v) is not None and nested_of(v).guest_mode and not v.has(SVM):
        yield "guest mode, CPUID has no SVM"


def _no_vmxon(v: VcpuFacts) -> Details:
    vmx = _vmx(v)
    if vmx is None or vmx.vmxon_pa != VMX_NO_ADDRESS:
        return
    if vmx.vmcs12_pa != VMX_NO_ADDRESS:
        yield f"vmcs12_pa {vmx.vmcs12_pa:#x}"
    if vmx.smm.flags & ~SMM_SHADOW_BITS:
        yield f"smm.flags {vmx.smm.flags:#x}"
    if nested_of(v).flags & ~_EVMCS:
        yield f"flags {nested_of(v).flags:#x}"


def _addresses(v: VcpuFacts) -> Details:
    vmx, svm = _vmxon(v), _svm(v)
    if vmx is not None:
        if not _page(v, vmx.vmxon_pa):
            yield f"vmxon_pa {vmx.vmxon_pa:#x}"
        has_body = len(nested_of(v).data) >= KVM_STATE_NESTED_VMX_VMCS_SIZE
        if has_body and vmx.vmcs12_pa != VMX_NO_ADDRESS and not _page(v, vmx.vmcs12_pa):
            yield f"vmcs12_pa {vmx.vmcs12_pa:#x}"
    if svm is not None and nested_of(v).guest_mode and not _page(v, svm.vmcb_pa):
        yield f"vmcb_pa {svm.vmcb_pa:#x}"


def _same_page(v: VcpuFacts) -> Details:
    vmx = _vmxon(v)
    if vmx is not None and vmx.vmcs12_pa == vmx.vmxon_pa:
        yield f"vmxon_pa and vmcs12_pa {vmx.vmxon_pa:#x}"


def _smm_flags(v: VcpuFacts) -> Details:
    vmx = _vmx(v)
    if vmx is None:
        return
    flags = vmx.smm.flags
    if flags & ~(_SMM_KNOWN | SMM_SHADOW_BITS):
        yield f"smm.flags {flags:#x}"
    if flags and not v.in_smm:
        yield f"smm.flags {flags:#x}, smi.smm 0"
    if flags & _SMM.KVM_STATE_NESTED_SMM_GUEST_MODE and not flags & _SMM.KVM_STATE_NESTED_SMM_VMXON:
        yield f"smm.flags {flags:#x}: SMM_GUEST_MODE without SMM_VMXON"
    if flags & _SMM.KVM_STATE_NESTED_SMM_GUEST_MODE and nested_of(v).guest_mode:
        yield f"smm.flags {flags:#x}, flags {nested_of(v).flags:#x}: SMM_GUEST_MODE and GUEST_MODE"


def _smm_shadow_bits(v: VcpuFacts) -> Details:
    vmx = _vmx(v)
    if vmx is not None and vmx.smm.flags & SMM_SHADOW_BITS:
        yield f"smm.flags {vmx.smm.flags:#x}"


def _vmx_flags(v: VcpuFacts) -> Details:
    vmx = _vmx(v)
    if vmx is not None and vmx.flags & ~_VMX_KNOWN:
        yield f"hdr.vmx.flags {vmx.flags:#x}"


def _vmcs12_there(v: VcpuFacts) -> Details:
    vmx, state = _vmxon(v), nested_of(v)
    if vmx is None:
        return
    enlightened = state.flags & _EVMCS
    if len(state.data) < KVM_STATE_NESTED_VMX_VMCS_SIZE:
        if state.guest_mode or enlightened or vmx.vmcs12_pa != VMX_NO_ADDRESS:
            yield f"flags {state.flags:#x}, vmcs12_pa {vmx.vmcs12_pa:#x}, no VMCS12"
    elif vmx.vmcs12_pa == VMX_NO_ADDRESS and not enlightened:
        yield "a VMCS12, and no vmcs12_pa"


def _revision(v: VcpuFacts) -> Details:
    state = nested_of(v)
    if _vmxon(v) is None or len(state.data) < KVM_STATE_NESTED_VMX_VMCS_SIZE:
        return
    revision = int.from_bytes(state.data[:4], "little") & ~VMCS_SHADOW_INDICATOR
    if revision != VMCS12_REVISION:
        yield f"revision {revision:#x}, expected {VMCS12_REVISION:#x}"


def _vmxe(v: VcpuFacts) -> Details:
    vmx = _vmxon(v)
    if vmx is not None and not v.in_smm and not v.sregs.cr4 & CR4_VMXE:
        yield f"vmxon_pa {vmx.vmxon_pa:#x}, cr4 {v.sregs.cr4:#x}"


def nested_rule(
    number: int, severity: Severity, where: str, text: str, hint: str, check: Check, source: str = ""
) -> Invariant:
    """Return a row; the source is KVM_SET_NESTED_STATE unless it says another."""
    source = source or "Linux 6.12 KVM_SET_NESTED_STATE: EINVAL"
    return Invariant(f"INV-{number}", severity, where, text, hint, source, check, needs="nested_state")


_E, _W = Severity.ERROR, Severity.WARNING
_N = "nested_state"

NESTED_RULES: tuple[Invariant, ...] = (
    nested_rule(140, _E, f"{_N}.format", "the format is VMX or SVM", "0 or 1", _format),
    nested_rule(141, _E, f"{_N}.size", "size counts the header and no more than is there", "correct it", _size),
    nested_rule(142, _E, f"{_N}.flags", "only known flags", "clear the others", _flags),
    nested_rule(143, _E, f"{_N}.flags", "RUN_PENDING needs GUEST_MODE", "clear flag 0x02", _run_pending),
    nested_rule(
        144, _E, f"{_N}.flags", "no guest mode in SMM: an SMI leaves it", "use smm.flags, or SMRAM", _guest_mode_in_smm
    ),
    nested_rule(145, _E, f"{_N}.hdr", "nested operation needs its CPUID feature", "offer VMX or SVM", _feature),
    nested_rule(146, _E, f"{_N}.hdr", "without VMXON there is no VMCS, flag or SMM flag", "clear them", _no_vmxon),
    nested_rule(
        147, _E, f"{_N}.hdr", "VMXON region, VMCS and VMCB are pages within MAXPHYADDR", "correct it", _addresses
    ),
    nested_rule(148, _E, f"{_N}.hdr", "the VMXON region is no VMCS", "correct one of them", _same_page),
    nested_rule(149, _E, f"{_N}.hdr", "hdr.vmx.smm.flags are legal, and 0 outside SMM", "clear them", _smm_flags),
    nested_rule(
        150, _W, f"{_N}.hdr", "no kernel takes the shadow that an SMI put aside from hdr.vmx.smm.flags",
        "convert to the carrier smram", _smm_shadow_bits, "ours; proposed on the kvm list on 2022-08-24, EINVAL",
    ),
    nested_rule(151, _E, f"{_N}.hdr", "hdr.vmx.flags has known flags only", "clear the others", _vmx_flags),
    nested_rule(152, _E, f"{_N}.data", "a current VMCS and its VMCS12 come together", "add the body", _vmcs12_there),
    nested_rule(153, _E, f"{_N}.data", "a VMCS12 has KVM's revision", "it is private to KVM: save it again", _revision),
    nested_rule(
        154, _W, f"{_N}.hdr", "VMX operation needs CR4.VMXE", "set bit 13, or vmxon_pa all ones", _vmxe,
        "SDM vol. 3C 24.8",
    ),
)  # fmt: skip
