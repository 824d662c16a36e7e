"""DECLARATIONS: changes between released versions that were made on purpose, and how state crosses them all the same.

`migsvc schema check` shows a declared change with its reason and does not count it against the verdict. A change that
is not compatible and has no row here fails the tests, and so does a row of which there is no such change.
"""

from __future__ import annotations

from .document import Declaration

_DOWN = "for a peer of version 1 the converter"
_OUT = f"{_DOWN} leaves it out"
_OFFERED = (
    "offered before a page moves: an agent of schema version 1 is one of this program with --schema-version 1; it and "
    "an agent of commit 2a94524, which was never released, refuse each other's offers"
)


def _declared(version: int, kind: str, subject: str, reason: str) -> Declaration:
    return Declaration(version=version, kind=kind, subject=subject, reason=reason)


DECLARATIONS: tuple[Declaration, ...] = (
    _declared(2, "optional-section-added", "sections.fpu", f"{_OUT}: LOSS-021, or LOSS-022 if xsave differs"),
    _declared(2, "optional-section-added", "sections.nested_state", f"{_OUT}: LOSS-021, LOSS-020 if in use"),
    _declared(2, "optional-section-added", "sections.tsc_offset", f"{_OUT}: LOSS-023, the MSR is kept"),
    _declared(2, "optional-section-added", "sections.ioapic", f"{_OUT}: LOSS-021, LOSS-020 if in use"),
    _declared(
        2, "flag-added", "enums.VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM_SHADOW",
        f"{_DOWN} clears it and puts the shadow into SMRAM; the migration is refused if it cannot",
    ),
    _declared(
        2, "bits-range-widened", "packed.InterruptShadow.smm",
        f"{_DOWN} clears the bits and puts the shadow into SMRAM; the migration is refused if it cannot",
    ),
    _declared(
        2, "rule-added", "invariants.*",
        "it refuses what KVM refuses to set or hardware to run: what was saved from a vCPU that ran passes",
    ),
    _declared(
        2, "compat-rule-added", "compat_rules.*",
        "it refuses before a migration begins what the restore would have refused at its end, or lost",
    ),
    _declared(
        2, "member-added", "documents.HostProfile.*",
        "profiles kept in files stay readable; a program of commit 2a94524, never released, refuses the new members",
    ),
    _declared(2, "member-added", "documents.MachineSummary.*", _OFFERED),
    _declared(2, "demanded-member-added", "documents.MachineSummary.*", _OFFERED),
    _declared(2, "demanded-member-removed", "documents.MachineSummary.*", _OFFERED),
    _declared(2, "member-made-optional", "documents.MachineSummary.*", _OFFERED),
)  # fmt: skip
