"""CPUID leaves that a row of relations cannot express."""

from __future__ import annotations

from ...errors import Severity
from ..cpuid_view import REGISTERS, CpuidView
from ..cpuid_words import DESCRIPTIVE, TREATED
from ..row import Case, CompatRule, Mismatch, Mismatches, listed, unsaid

_ERROR, _WARNING = Severity.ERROR, Severity.WARNING

_CACHES = range(8)
"""Subleaves of the cache leaves that are looked at; processors have four or five."""

_MWAIT_EXITS_OFF = 1
"""KVM_X86_DISABLE_EXITS_MWAIT of KVM_CAP_X86_DISABLE_EXITS."""


def _cache_lines(function: int, case: Case) -> Mismatches:
    for where, guest, _ in case.guests:
        for subleaf in _CACHES:
            if not guest.value(function, subleaf, "eax", 0, 5) or not case.cpu.value(function, subleaf, "eax", 0, 5):
                continue
            ours = guest.value(function, subleaf, "ebx", 0, 12) + 1
            theirs = case.cpu.value(function, subleaf, "ebx", 0, 12) + 1
            if ours != theirs:
                text = f"CPUID.{function:X}H.{subleaf}: lines of {ours} bytes, the host has {theirs}"
                yield Mismatch(f"{where}.cpuid2", text, f"{ours} bytes", f"{theirs} bytes")


def _cache_lines_intel(case: Case) -> Mismatches:
    return _cache_lines(0x4, case)


def _cache_lines_amd(case: Case) -> Mismatches:
    return _cache_lines(0x8000001D, case)


def _missing_events(view: CpuidView) -> int:
    """Return the architectural events that are missing: bits of EBX, and all beyond the length that EAX says."""
    length = min(view.value(0xA, 0, "eax", 24, 8), 32)
    return view.value(0xA, 0, "ebx") | (0xFFFFFFFF & ~((1 << length) - 1))


def _pmu_events(case: Case) -> Mismatches:
    for where, guest, _ in case.guests:
        if not guest.value(0xA, 0, "eax", 0, 8):
            continue
        ours, theirs = _missing_events(guest), _missing_events(case.cpu)
        if lost := theirs & ~ours:
            text = f"the host does not count {listed(f'event {bit}' for bit in range(32) if lost >> bit & 1)}"
            yield Mismatch(f"{where}.cpuid2", text, f"{ours:#x}", f"{theirs:#x}")


def _pmu_model(case: Case) -> Mismatches:
    for where, guest, _ in case.guests:
        pmu = guest.value(0xA, 0, "eax", 0, 8) or guest.value(0x80000022, 0, "eax", 0, 1)
        ours, theirs = guest.family_model_stepping, case.cpu.family_model_stepping
        if pmu and ours >> 4 != theirs >> 4:
            text = f"the guest was shown model {ours:#x}, the host is {theirs:#x}"
            yield Mismatch(f"{where}.cpuid2", text, f"{ours:#x}", f"{theirs:#x}")


def _sgx_memory(case: Case) -> Mismatches:
    for where, guest, _ in case.guests:
        if guest.bit(7, 0, "ebx", 2) and case.machine.subject == "machine":
            yield Mismatch(f"{where}.cpuid2", "enclaves are not part of the state", "sgx", "")


def _mwait(case: Case) -> Mismatches:
    for where, guest, _ in case.guests:
        if not guest.bit(1, 0, "ecx", 3) or case.cpu.bit(1, 0, "ecx", 3):
            continue
        exits = case.host.capability("KVM_CAP_X86_DISABLE_EXITS")
        if exits is None:
            yield unsaid(f"{where}.cpuid2", "monitor", "whether guests may use MWAIT")
        elif not exits & _MWAIT_EXITS_OFF:
            yield Mismatch(f"{where}.cpuid2", "the host does not let guests use MWAIT", "monitor", f"{exits:#x}")


def _unknown_leaves(case: Case) -> Mismatches:
    for where, guest, _ in case.guests:
        for entry in guest.entries:
            function = entry.function
            if function in TREATED or function in DESCRIPTIVE or 0x40000000 <= function < 0x50000000:
                continue
            there = case.cpu.entry(function, entry.index)
            lacking = {
                name: bits
                for name in REGISTERS
                if (bits := getattr(entry, name) & ~(getattr(there, name) if there is not None else 0))
            }
            if lacking:
                shown = listed(f"{name.upper()} {bits:#x}" for name, bits in lacking.items())
                text = f"CPUID.{function:X}H.{entry.index}: the host lacks {shown}; this leaf has no rule"
                yield Mismatch(f"{where}.cpuid2", text, shown, "absent" if there is None else "other bits")


CPUID_SPECIAL_RULES: tuple[CompatRule, ...] = (
    CompatRule(
        "CMP-106", _WARNING, "cache lines (leaf 4)", "code that flushes or separates data by the line size is wrong",
        "migrate among hosts with equal lines", "SDM vol. 2A CPUID leaf 04H EBX[11:0]", _cache_lines_intel,
    ),
    CompatRule(
        "CMP-107", _WARNING, "cache lines (leaf 0x8000001D)",
        "code that flushes or separates data by the line size is wrong", "migrate among hosts with equal lines",
        "APM vol. 3 CPUID Fn8000_001D_EBX", _cache_lines_amd,
    ),
    CompatRule(
        "CMP-110", _ERROR, "architectural events of the PMU", "counters that the guest programs stay at 0",
        "create the VM without a PMU, or with these events marked missing in CPUID.0AH:EBX",
        "SDM vol. 3B 20.2.1; CPUID.0AH:EBX says which are not available", _pmu_events,
    ),
    CompatRule(
        "CMP-119", _WARNING, "SGX enclaves", "enclaves are gone, as after a suspend; the guest must build them anew",
        "create the VM without SGX", "SDM vol. 3D 38.5 EPC", _sgx_memory,
    ),
    CompatRule(
        "CMP-123", _WARNING, "MONITOR and MWAIT", "MWAIT is a NOP or #UD: an idle guest burns a whole CPU",
        "mask the bit, or choose a host whose KVM_CAP_X86_DISABLE_EXITS has bit 0",
        "Linux 6.12 api.rst 7.13 KVM_CAP_X86_DISABLE_EXITS", _mwait,
    ),
    CompatRule(
        "CMP-134", _WARNING, "events of the PMU by model",
        "events that are not architectural count something else on another model",
        "create the VM without a PMU, or migrate among hosts of one model", "SDM vol. 3B 20.3", _pmu_model,
    ),
    CompatRule(
        "CMP-139", _WARNING, "CPUID leaf without a rule", "what the leaf promises cannot be judged here",
        "mask the leaf when the VM is created, if the guest does not need it", "KVM_GET_SUPPORTED_CPUID",
        _unknown_leaves,
    ),
)  # fmt: skip
