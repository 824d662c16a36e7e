"""Versions, backend, sizes, sections: what is asked before anything of the state itself."""

from __future__ import annotations

from ...errors import Severity
from ...versions import SUPPORTED_SCHEMA_VERSIONS
from ..row import Case, CompatRule, Mismatch, Mismatches, unsaid

_ERROR, _WARNING, _NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE


def _schema_version(case: Case) -> Mismatches:
    ours, theirs = case.machine.schema_version, case.host.schema_versions
    if ours in theirs:
        return
    common = [v for v in theirs if v < ours and v in SUPPORTED_SCHEMA_VERSIONS and ours in SUPPORTED_SCHEMA_VERSIONS]
    if common:
        text = f"{ours}; the state travels in version {max(common)}, converted where it leaves its host"
        yield Mismatch("schema_version", text, str(ours), str(list(theirs)), _NOTE)
    else:
        yield Mismatch("schema_version", f"{ours}, the host reads {list(theirs)}", str(ours), str(list(theirs)))


def _stream_version(case: Case) -> Mismatches:
    ours, theirs = case.machine.stream_version, case.host.stream_versions
    if ours is not None and ours not in theirs:
        yield Mismatch("stream_version", f"{ours}, the host reads {list(theirs)}", str(ours), str(list(theirs)))


def _backend(case: Case) -> Mismatches:
    ours, theirs = case.machine.backend, case.host.backends
    if ours is not None and ours not in theirs:
        yield Mismatch("backend", f"{ours!r}, the host has {list(theirs)}", ours, ", ".join(theirs))


def _limit(case: Case, where: str, ours: int, theirs: int, unit: str) -> Mismatches:
    """A machine does not fit; of a host only the machines beyond the limit do not."""
    if ours > theirs:
        if case.machine.subject == "host":
            text = f"machines with more than {theirs:#x} {unit} do not fit"
            yield Mismatch(where, text, f"{ours:#x}", f"{theirs:#x}", _WARNING)
        else:
            yield Mismatch(where, f"{ours:#x}, the host takes {theirs:#x} {unit}", f"{ours:#x}", f"{theirs:#x}")


def _ram(case: Case) -> Mismatches:
    yield from _limit(case, "memory.ram_bytes", case.machine.ram_bytes, case.host.max_ram_bytes, "bytes")


def _vcpus(case: Case) -> Mismatches:
    ours = case.machine.vcpu_limit if case.machine.subject == "host" else len(case.machine.vcpus)
    yield from _limit(case, "vcpus", ours, case.host.max_vcpus, "vCPUs")


def _vm_sections(case: Case) -> Mismatches:
    held = frozenset(case.host.vm_sections)
    for name in case.machine.vm_sections:
        if name not in held:
            yield Mismatch(f"vm.{name}", "the host has no such section", name, "none")


DERIVED = {
    "fpu": "XSAVE holds the same registers",
    "sregs2": "sregs holds all but the PDPTRs, which KVM reads again from memory",
    "tsc_offset": "MSR 0x10 holds the TSC",
    "nested_state": "it says no more than that of a fresh vCPU",
}
"""Sections without which a vCPU of KVM can do, and the reason; other backends refuse what they do not hold."""


def _vcpu_sections(case: Case) -> Mismatches:
    held = frozenset(case.host.vcpu_sections)
    for vcpu in case.machine.vcpus:
        for name in case.sections_of(vcpu):
            if name in held:
                continue
            needed = not case.host.is_kvm or {
                "sregs2": vcpu.pdptrs_valid,
                "tsc_offset": 0x10 not in case.machine.msr_lists[vcpu.msrs_id],
                "nested_state": vcpu.nested is not None and vcpu.nested.active,
                "fpu": False,
            }.get(name)
            where = f"vcpus.{vcpu.index}.{name}"
            if needed is False:
                yield Mismatch(where, f"left out: {DERIVED[name]}", name, "none", _NOTE)
            elif name == "sregs2" and case.host.is_kvm:
                text = "the PDPTRs in it are lost, the host reads them again from memory"
                yield Mismatch(where, text, name, "none", _WARNING)
            else:
                yield Mismatch(where, "the host has no such section", name, "none")


def _vendor(case: Case) -> Mismatches:
    theirs = case.host.cpuid.vendor
    for where, guest, vcpu in case.guests:
        ours = case.machine.cpuids[vcpu.cpuid_id].vendor
        if guest.entry(0) is None:
            continue
        if theirs is None:
            yield unsaid(f"{where}.cpuid2", str(ours), "of which vendor its processor is")
        elif ours != theirs:
            text = f"the guest sees {ours!r}, the host is {theirs!r}"
            yield Mismatch(f"{where}.cpuid2", text, str(ours), theirs)


GENERAL_RULES: tuple[CompatRule, ...] = (
    CompatRule(
        "CMP-001", _ERROR, "schema version", "the host would not know what the sections mean",
        "upgrade the host, or convert the state to a version that it reads", "schemas/versions", _schema_version,
    ),
    CompatRule(
        "CMP-002", _ERROR, "stream version", "the host could not read the stream", "upgrade the host", "FORMAT.md",
        _stream_version,
    ),
    CompatRule(
        "CMP-003", _ERROR, "backend", "devices and vCPUs of one backend mean nothing to another",
        "choose a host that offers it", "migsvc backends", _backend,
    ),
    CompatRule(
        "CMP-004", _ERROR, "guest memory", "the host cannot allocate it", "choose a host with more memory",
        "the host's limit", _ram,
    ),
    CompatRule(
        "CMP-005", _ERROR, "number of vCPUs", "KVM_CREATE_VCPU fails with EINVAL", "choose a larger host",
        "Linux 6.12 api.rst 4.7 KVM_CREATE_VCPU, KVM_CAP_MAX_VCPUS", _vcpus,
    ),
    CompatRule(
        "CMP-006", _ERROR, "device", "the guest would find its device gone",
        "remove the device or choose another host", "SECTIONS", _vm_sections,
    ),
    CompatRule(
        "CMP-007", _ERROR, "vCPU state section", "that part of the vCPU's state would be lost",
        "choose a host with a newer kernel or backend", "SECTIONS", _vcpu_sections,
    ),
    CompatRule(
        "CMP-013", _WARNING, "CPU vendor",
        "errata, SYSENTER in long mode, SYSCALL in compatibility mode, MXCSR and SMM details differ",
        "migrate among hosts of one vendor", "SDM vol. 2B SYSENTER, SYSCALL; APM vol. 3 SYSENTER, SYSCALL", _vendor,
    ),
)  # fmt: skip
