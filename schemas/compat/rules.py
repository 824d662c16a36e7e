"""COMPAT_RULES: what a host must have to hold a machine, one row per rule.

A row's function yields (where, message, severity) for each thing that does not fit; severity None takes the row's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..errors import Severity
from ..shadow import SmmCarrier
from ..uapi.vcpu_events import VcpuEventFlags
from .cpuid_bits import missing_features
from .profile import HostProfile, MachineSummary

Mismatch = tuple[str, str, Severity | None]
Mismatches = Iterator[Mismatch]

_LISTED = 16
"""How many numbers a message lists before it says how many more there are."""


class CompatRule(NamedTuple):
    """One rule: `check` yields what does not fit."""

    id: str
    severity: Severity
    text: str
    hint: str
    source: str
    check: Callable[[MachineSummary, HostProfile], Mismatches]


def _list(numbers: list[int]) -> str:
    shown = ", ".join(f"{number:#x}" for number in numbers[:_LISTED])
    return shown + (f" and {len(numbers) - _LISTED} more" if len(numbers) > _LISTED else "")


def _schema_version(machine: MachineSummary, host: HostProfile) -> Mismatches:
    if machine.schema_version not in host.schema_versions:
        yield "schema_version", f"{machine.schema_version}, the host reads {list(host.schema_versions)}", None


def _stream_version(machine: MachineSummary, host: HostProfile) -> Mismatches:
    if machine.stream_version is not None and machine.stream_version not in host.stream_versions:
        yield "stream_version", f"{machine.stream_version}, the host reads {list(host.stream_versions)}", None


def _backend(machine: MachineSummary, host: HostProfile) -> Mismatches:
    if machine.backend is not None and machine.backend not in host.backends:
        yield "backend", f"{machine.backend!r}, the host has {list(host.backends)}", None


def _ram(machine: MachineSummary, host: HostProfile) -> Mismatches:
    if machine.ram_bytes > host.max_ram_bytes:
        yield "memory.ram_bytes", f"{machine.ram_bytes:#x}, the host takes {host.max_ram_bytes:#x}", None


def _vcpus(machine: MachineSummary, host: HostProfile) -> Mismatches:
    if len(machine.vcpus) > host.max_vcpus:
        yield "vcpus", f"{len(machine.vcpus)} vCPUs, the host takes {host.max_vcpus}", None


def _vm_sections(machine: MachineSummary, host: HostProfile) -> Mismatches:
    for name in machine.vm_sections:
        if name not in host.vm_sections:
            yield f"vm.{name}", "the host has no such section", None


def _vcpu_sections(machine: MachineSummary, host: HostProfile) -> Mismatches:
    for vcpu in machine.vcpus:
        for name in vcpu.sections:
            if name not in host.vcpu_sections:
                yield f"vcpus.{vcpu.index}.{name}", "the host has no such section", None


_SHADOW_FLAG = VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM_SHADOW


def _event_flags(machine: MachineSummary, host: HostProfile) -> Mismatches:
    """An event that is there needs its flag; a flag whose fields are empty can be cleared on the way."""
    for vcpu in machine.vcpus:
        refused = vcpu.event_flags & ~host.event_flags & ~_SHADOW_FLAG
        where = f"vcpus.{vcpu.index}.events.flags"
        if used := refused & vcpu.events_in_use:
            yield where, f"{used:#x} is in use and the host refuses it", None
        elif refused:
            yield where, f"{refused:#x} is cleared, its fields are empty", Severity.NOTE


def _smm(machine: MachineSummary, host: HostProfile) -> Mismatches:
    for vcpu in machine.vcpus:
        if vcpu.smm and not host.smm:
            yield f"vcpus.{vcpu.index}.events.smi.smm", "the vCPU is in SMM and the host has no SMM", None


def _smm_shadow(machine: MachineSummary, host: HostProfile) -> Mismatches:
    """The shadow put aside travels in the events if the host reads it there, else in SMRAM, else not at all."""
    for vcpu in machine.vcpus:
        aside = vcpu.events_in_use & _SHADOW_FLAG
        nibble = SmmCarrier.EVENTS_NIBBLE in host.smm_carriers and host.event_flags & _SHADOW_FLAG
        if not aside or nibble:
            continue
        where, value = f"vcpus.{vcpu.index}.events.interrupt.shadow", f"{vcpu.shadow:#04x}"
        if SmmCarrier.SMRAM in host.smm_carriers:
            yield where, f"upper bits of {value} travel in the SMRAM save area", Severity.NOTE
        else:
            yield where, f"upper bits of {value} have no carrier on the host: RSM would lose the shadow", None


def _msrs(machine: MachineSummary, host: HostProfile) -> Mismatches:
    held = frozenset(host.msr_indices)
    for vcpu in machine.vcpus:
        missing = [index for index in vcpu.msr_indices if index not in held]
        if missing:
            yield f"vcpus.{vcpu.index}.msrs", f"the host does not hold {_list(missing)}", None


def _cpuid(machine: MachineSummary, host: HostProfile) -> Mismatches:
    for vcpu in machine.vcpus:
        for feature in missing_features(vcpu.cpuid, host.cpuid):
            yield f"vcpus.{vcpu.index}.cpuid2", f"the host lacks {feature}", None


def _vendor(machine: MachineSummary, host: HostProfile) -> Mismatches:
    theirs = host.cpuid.vendor
    for vcpu in machine.vcpus:
        ours = vcpu.cpuid.vendor
        if ours is not None and theirs is not None and ours != theirs:
            yield f"vcpus.{vcpu.index}.cpuid2", f"the guest sees {ours!r}, the host is {theirs!r}", None


def _xcr0(machine: MachineSummary, host: HostProfile) -> Mismatches:
    for vcpu in machine.vcpus:
        for where, value in (("xcrs", vcpu.xcr0), ("xsave", vcpu.xstate_bv)):
            if missing := value & ~host.xcr0_mask:
                yield f"vcpus.{vcpu.index}.{where}", f"the host lacks components {missing:#x} of {value:#x}", None


def _xsave(machine: MachineSummary, host: HostProfile) -> Mismatches:
    for vcpu in machine.vcpus:
        if vcpu.xsave_bytes > host.xsave_bytes:
            yield f"vcpus.{vcpu.index}.xsave", f"{vcpu.xsave_bytes} bytes, the host holds {host.xsave_bytes}", None


def _tsc(machine: MachineSummary, host: HostProfile) -> Mismatches:
    for vcpu in machine.vcpus:
        if vcpu.tsc_khz and not host.tsc_khz_min <= vcpu.tsc_khz <= host.tsc_khz_max:
            text = f"{vcpu.tsc_khz} kHz, the host runs {host.tsc_khz_min} to {host.tsc_khz_max}"
            yield f"vcpus.{vcpu.index}.tsc_khz", text, None


_ERROR, _WARNING = Severity.ERROR, Severity.WARNING

COMPAT_RULES: tuple[CompatRule, ...] = (
    CompatRule("CMP-001", _ERROR, "schema version", "upgrade the host", "schemas/versions", _schema_version),
    CompatRule("CMP-002", _ERROR, "stream version", "upgrade the host", "FORMAT.md", _stream_version),
    CompatRule("CMP-003", _ERROR, "backend", "choose a host that offers it", "migsvc backends", _backend),
    CompatRule("CMP-004", _ERROR, "guest memory", "choose a host with more memory", "host limit", _ram),
    CompatRule("CMP-005", _ERROR, "number of vCPUs", "choose a larger host", "KVM_CAP_MAX_VCPUS", _vcpus),
    CompatRule("CMP-006", _ERROR, "device", "remove the device or choose another host", "SECTIONS", _vm_sections),
    CompatRule("CMP-007", _ERROR, "vCPU state section", "choose a newer host", "SECTIONS", _vcpu_sections),
    CompatRule(
        "CMP-008", _ERROR, "event", "migrate a few instructions later, when the event has been delivered",
        "Linux 6.12 kvm_vcpu_ioctl_x86_set_vcpu_events: EINVAL", _event_flags,
    ),
    CompatRule(
        "CMP-009", _ERROR, "System Management Mode", "migrate after RSM, or choose a host with KVM_CAP_X86_SMM",
        "Linux 6.12 kvm_vcpu_ioctl_x86_set_vcpu_events: EINVAL without CONFIG_KVM_SMM", _smm,
    ),
    CompatRule(
        "CMP-010", _ERROR, "interrupt shadow put aside by an SMI", "migrate after RSM, or choose a host with Linux 6.2",
        "Linux 6.2 commit fb28875fd7da", _smm_shadow,
    ),
    CompatRule("CMP-011", _ERROR, "MSR", "choose a host that lists them", "KVM_GET_MSR_INDEX_LIST", _msrs),
    CompatRule(
        "CMP-012", _ERROR, "CPU feature", "create the VM with a smaller CPU model", "KVM_GET_SUPPORTED_CPUID", _cpuid
    ),
    CompatRule(
        "CMP-013", _WARNING, "CPU vendor", "errata, SYSENTER in long mode and SMM details differ", "SDM, APM", _vendor
    ),
    CompatRule("CMP-014", _ERROR, "XSAVE component", "create the VM without it", "SDM vol. 1 13.3", _xcr0),
    CompatRule("CMP-015", _ERROR, "XSAVE area", "choose a host with a larger area", "KVM_CAP_XSAVE2", _xsave),
    CompatRule("CMP-016", _ERROR, "TSC frequency", "choose a host with TSC scaling", "KVM_CAP_TSC_CONTROL", _tsc),
)  # fmt: skip
