"""Rules on nested_state of the SVM format: INV-160 to INV-169. Source: Linux 6.12 svm/nested.c svm_set_nested_state."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import Severity
from ..uapi.nested_state import KVM_STATE_NESTED_SVM_VMCB_SIZE, NestedFlags
from .facts import CR0_CD, CR0_NW, CR0_PE, CR0_PG, CR4_PAE, EFER_LME, EFER_SVME, VcpuFacts
from .nested import nested_of, nested_rule
from .row import Details, Invariant

_FLAG = NestedFlags
# Plain ints: the complement of an IntFlag has known bits only, so an unknown bit would slip through.
_KNOWN = sum(NestedFlags)
_SVM_KNOWN = int(
    _FLAG.KVM_STATE_NESTED_GUEST_MODE | _FLAG.KVM_STATE_NESTED_RUN_PENDING | _FLAG.KVM_STATE_NESTED_GIF_SET
)


class VmcbField(NamedTuple):
    """A field of a VMCB: offset and size in bytes. Source: APM vol. 2 appendix B."""

    offset: int
    size: int


_INTERCEPTS4 = VmcbField(0x10, 4)
_ASID = VmcbField(0x58, 4)
_SAVE_EFER, _SAVE_CR4, _SAVE_CR0 = VmcbField(0x4D0, 8), VmcbField(0x548, 8), VmcbField(0x558, 8)
_SAVE_DR7, _SAVE_DR6 = VmcbField(0x560, 8), VmcbField(0x568, 8)
_INTERCEPT_VMRUN = 1 << 0


def _is_svm(v: VcpuFacts) -> bool:
    return nested_of(v).svm is not None


def _svm_flags(v: VcpuFacts) -> Details:
    if _is_svm(v) and (foreign := nested_of(v).flags & _KNOWN & ~_SVM_KNOWN):
        yield f"flags {nested_of(v).flags:#x}: {foreign:#x}"


def _svme(v: VcpuFacts) -> Details:
    gif = _FLAG.KVM_STATE_NESTED_GIF_SET
    if _is_svm(v) and not v.sregs.efer & EFER_SVME and nested_of(v).flags & _SVM_KNOWN != gif:
        yield f"flags {nested_of(v).flags:#x}, efer {v.sregs.efer:#x}"


def _vmcb12(v: VcpuFacts) -> bytes | None:
    state = nested_of(v)
    there = len(state.data) >= KVM_STATE_NESTED_SVM_VMCB_SIZE
    return state.data if state.svm is not None and state.guest_mode and there else None


def _vmcb12_there(v: VcpuFacts) -> Details:
    if _is_svm(v) and nested_of(v).guest_mode and _vmcb12(v) is None:
        yield f"{len(nested_of(v).data)} bytes"


def _read(vmcb: bytes, field: VmcbField) -> int:
    return int.from_bytes(vmcb[field.offset : field.offset + field.size], "little")


def _vmcb12_control(v: VcpuFacts) -> Details:
    vmcb = _vmcb12(v)
    if vmcb is None:
        return
    if not _read(vmcb, _INTERCEPTS4) & _INTERCEPT_VMRUN:
        yield "VMRUN is not intercepted"
    if not _read(vmcb, _ASID):
        yield "ASID 0"


def _vmcb12_save(v: VcpuFacts) -> Details:
    """Check the host state that the save area holds: what L1 had when it executed VMRUN."""
    vmcb = _vmcb12(v)
    if vmcb is None:
        return
    cr0, cr4, efer = (_read(vmcb, field) for field in (_SAVE_CR0, _SAVE_CR4, _SAVE_EFER))
    if cr0 >> 32 or cr0 & (CR0_PE | CR0_PG) != CR0_PE | CR0_PG or (cr0 & CR0_NW and not cr0 & CR0_CD):
        yield f"save.cr0 {cr0:#x}"
    if not efer & EFER_SVME:
        yield f"save.efer {efer:#x}: no SVME"
    if efer & EFER_LME and not cr4 & CR4_PAE:
        yield f"save.efer {efer:#x}, save.cr4 {cr4:#x}: long mode needs PAE"
    for name, field in (("dr6", _SAVE_DR6), ("dr7", _SAVE_DR7)):
        if _read(vmcb, field) >> 32:
            yield f"save.{name} {_read(vmcb, field):#x}"


_E = Severity.ERROR
_N = "nested_state"

NESTED_SVM_RULES: tuple[Invariant, ...] = (
    nested_rule(160, _E, f"{_N}.flags", "SVM has no EVMCS and no MTF", "clear them", _svm_flags),
    nested_rule(161, _E, f"{_N}.flags", "without EFER.SVME the flags are GIF_SET", "flags 0x100", _svme),
    nested_rule(162, _E, f"{_N}.data", "guest mode needs the VMCB12", "add the body", _vmcb12_there),
    nested_rule(
        163, _E, f"{_N}.data", "the VMCB12 intercepts VMRUN and has an ASID", "it is L1's: save it again",
        _vmcb12_control,
    ),
    nested_rule(164, _E, f"{_N}.data", "the host state in the VMCB12 is legal", "save it again", _vmcb12_save),
)  # fmt: skip
