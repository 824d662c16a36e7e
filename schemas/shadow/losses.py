"""LOSSES: what a conversion between carriers or versions can lose, one row per kind. A finding has the row's id."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import Finding, Severity


class LossRow(NamedTuple):
    """One kind of loss. `smm_shadow`: it is the shadow put aside that is lost, and an operator may agree to that."""

    id: str
    severity: Severity
    text: str
    hint: str
    source: str
    smm_shadow: bool = False


_ERROR, _WARNING, _NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
_SMM_H = "Linux 6.12 arch/x86/kvm/smm.h kvm_smram_state_32, kvm_smram_state_64"
_WAIT = "wait until RSM, or choose a target with Linux 6.2 or later"

LOSSES: tuple[LossRow, ...] = (
    LossRow(
        "LOSS-001", _ERROR, "the target has no carrier: RSM will not bring back the shadow", _WAIT,
        "Linux 6.1 keeps no shadow over SMM; 6.2 commit fb28875fd7da", smm_shadow=True,
    ),
    LossRow(
        "LOSS-002", _ERROR, "the SMRAM save area cannot be found: the state has no MSR_IA32_SMBASE (0x9e)",
        "save MSR 0x9e too", "Linux 6.12 enter_smm, rsm_load_state_*: SMBASE + 0xfe00", smm_shadow=True,
    ),
    LossRow(
        "LOSS-003", _ERROR, "no memory slot of address space 1 holds the byte int_shadow of the SMRAM save area",
        "give SMRAM a slot of address space 1, and check SMBASE", _SMM_H, smm_shadow=True,
    ),
    LossRow(
        "LOSS-004", _ERROR, "nested state of this format has no smm.flags: only VMX has",
        "choose another carrier", "Linux 6.12 kvm_svm_nested_state_hdr", smm_shadow=True,
    ),
    LossRow(
        "LOSS-005", _WARNING, "VMX holds one of both: it takes STI and MOV SS together as MOV SS",
        "nothing is needed unless the guest was in an STI shadow alone", "Linux 6.12 vmx_set_interrupt_shadow",
    ),
    LossRow(
        "LOSS-006", _WARNING, "SVM has one bit: it cannot tell STI from MOV SS and will report both",
        "a debug trap held off by MOV SS may be delivered", "Linux 6.12 svm_get_interrupt_shadow",
    ),
    LossRow(
        "LOSS-007", _WARNING, "no carrier of the state says whether a shadow was put aside",
        "convert with the memory at hand: SMRAM says it since Linux 6.2", _SMM_H,
    ),
    LossRow(
        "LOSS-008", _WARNING, "two carriers of the state contradict each other",
        "name the one that counts", "schemas.shadow.CARRIERS",
    ),
    LossRow(
        "LOSS-009", _NOTE, "the byte int_shadow has bits that are no shadow; they stay in memory",
        "the SMI handler wrote them: VMX ignores them, SVM takes any as a shadow", "Linux 6.12 emulator_leave_smm",
    ),
    LossRow(
        "LOSS-010", _WARNING, "a shadow put aside where it does not count: outside SMM or without its flag",
        "it is cleared; a state saved in SMM has smi.smm and both flags", "schemas.uapi.vcpu_events",
    ),
    LossRow(
        "LOSS-011", _NOTE, "the byte int_shadow is to be written, unseen: memory is not at hand",
        "write it before the vCPU runs", _SMM_H,
    ),
    LossRow(
        "LOSS-012", _NOTE, "the shadow put aside has changed its carrier", "", "schemas.shadow.CARRIERS",
    ),
    LossRow(
        "LOSS-013", _NOTE, "the byte int_shadow stays in SMRAM: the target ignores it, a later host would not",
        "", "Linux 6.1 rsm_load_state_*: the byte is not read",
    ),
    LossRow(
        "LOSS-014", _NOTE, "nested_state, that of a vCPU outside VMX operation, comes or goes with the shadow",
        "a host without nested virtualisation refuses the section", "Linux 6.12 vmx_get_nested_state",
    ),
    LossRow(
        "LOSS-015", _WARNING, "the byte behind triple_fault held bits that are no shadow; they are overwritten",
        "no kernel reads them", "Linux 6.12 kvm_vcpu_ioctl_x86_set_vcpu_events ignores `reserved`",
    ),
    LossRow(
        "LOSS-020", _ERROR, "the version has no such section",
        "migrate between hosts of the same version, or when the section holds nothing", "schemas.versions",
    ),
    LossRow(
        "LOSS-021", _NOTE, "the version has no such section; nothing is lost, it holds what a host begins with or "
        "what other sections hold", "", "schemas.versions",
    ),
    LossRow(
        "LOSS-022", _WARNING, "the version has no such section, and it contradicts the one that is kept",
        "`xsave` counts: KVM_SET_XSAVE replaces what KVM_SET_FPU set", "Linux 6.12 kvm_vcpu_ioctl_x86_set_xsave",
    ),
    LossRow(
        "LOSS-023", _WARNING, "the version has no such section: the TSC goes on from MSR_IA32_TSC, later by as long "
        "as the move takes", "synchronise the guest's clock", "Linux 6.12 KVM_VCPU_TSC_OFFSET",
    ),
    LossRow(
        "LOSS-024", _WARNING, "bits that the version does not know are cleared",
        "see where they come from", "schemas.versions",
    ),
    LossRow(
        "LOSS-025", _NOTE, "bits of version 2 in a state of version 1: they count as they do in version 2",
        "written by migsvc 0.1, whose version 1 had them", "schemas.versions",
    ),
)  # fmt: skip

_BY_ID = {row.id: row for row in LOSSES}
SMM_SHADOW_LOSSES = frozenset(row.id for row in LOSSES if row.smm_shadow)
"""Ids of losses of the shadow put aside: what `smm_shadow_loss` of a migration is about."""


def loss(rule: str, where: str, detail: str = "", severity: Severity | None = None) -> Finding:
    """Return the finding of a row at a place; `severity` is the row's unless given."""
    row = _BY_ID[rule]
    message = f"{row.text}: {detail}" if detail else row.text
    return Finding(
        rule=row.id,
        severity=severity or row.severity,
        where=where,
        message=message,
        hint=row.hint,
        source=row.source,
    )
