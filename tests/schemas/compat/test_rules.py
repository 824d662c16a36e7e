"""Every rule has a pair that it stops, which no other rule stops, and a mended pair that nothing stops."""

from typing import Any, NamedTuple

import pytest

from schemas.compat import COMPAT_RULES, LapicSupport, MemorySupport, NestedSupport, Verdict, check_compat
from schemas.compat.needs import NestedNeeds
from schemas.compat.summary import SlotNeeds
from schemas.errors import Severity
from schemas.uapi import VCPU_SECTIONS, VM_SECTIONS

NO, OTHER_FORM, LOSS = Verdict.IMPOSSIBLE, Verdict.TRANSLATED, Verdict.LOSSY


class Row(NamedTuple):
    """A pair that a rule stops; `cure` are changes to the host, or with "guest" to the machine, that mend it."""

    rule: str
    verdict: Verdict
    guest: dict[str, Any]
    host: dict[str, Any]
    cure: dict[str, Any]
    where: str | None = None
    also: frozenset[str] | set[str] = frozenset()
    """Rules that stop the pair for another reason as well."""


KVM_SIGNATURE = {"eax": 0x40000001, "ebx": 0x4B4D564B, "ecx": 0x564B4D56, "edx": 0x4D}
HYPERV_SIGNATURE = {"ebx": 0x7263694D, "ecx": 0x666F736F, "edx": 0x76482074}
XEN_SIGNATURE = {"ebx": 0x566E6558, "ecx": 0x65584D4D, "edx": 0x4D4D566E}
AS_INTEL = {(0, 0): {"ebx": 0x756E6547, "ecx": 0x6C65746E, "edx": 0x49656E69}}
KVM_LEAVES = {(0x40000000, 0): KVM_SIGNATURE, (0x40000001, 0): {"eax": 9}}
PT = {(7, 0): {"ebx": 1 | 1 << 25}, (0x14, 0): {"eax": 1, "ebx": 1, "ecx": 7}, (0x14, 1): {"eax": 0x20002}}
AMX = {
    (7, 0): {"ebx": 1, "edx": 1 << 24},
    (0x1D, 0): {"eax": 1},
    (0x1D, 1): {"eax": 0x4002000, "ecx": 16},
    (0x1E, 0): {"ebx": 0x4010},
}
PMU = {(0xA, 0): {"eax": 0x07300402, "edx": 0x603, "ebx": 0}}
SVM = {(0x80000001, 0): {"ecx": 5}, (0x8000000A, 0): {"eax": 1, "ebx": 64, "edx": 0xB}}
WIDE = {(0xD, 0): {"eax": 0x207}, (0xD, 9): {"eax": 8, "ebx": 832}}
VMX = {(1, 0): {"ecx": 1 << 26 | 1 << 21 | 1 << 5}}
BASIC = 0x00DA_1000_11E5_7ED0 & ~(1 << 48)


def has(leaf: tuple[int, int], **registers: int) -> dict[str, Any]:
    return {"cpuid": {leaf: registers}}


def both(leaves: dict[Any, Any], **other: Any) -> dict[str, Any]:
    return {"cpuid": leaves, **other}


def without(table: dict[str, Any], name: str) -> tuple[str, ...]:
    return tuple(key for key in table if key != name)


NESTED = {"nested": NestedNeeds(format=1, flags=0x101, state_bytes=4224, active=True), "sections": ("nested_state",)}
ROWS = [
    Row("CMP-001", NO, {"schema_version": 3}, {}, {"schema_versions": (3,)}, "schema_version"),
    Row("CMP-001", OTHER_FORM, {}, {"schema_versions": (1,)}, {"schema_versions": (1, 2)}, "schema_version"),
    Row("CMP-002", NO, {"stream_version": 2}, {}, {"stream_versions": (1, 2)}, "stream_version"),
    Row("CMP-003", NO, {"backend": "emulator"}, {}, {"guest": {"backend": "kvm"}}, "backend"),
    Row("CMP-004", NO, {"ram_bytes": 1 << 31}, {}, {"max_ram_bytes": 1 << 31}, "memory.ram_bytes"),
    Row("CMP-005", NO, {}, {"max_vcpus": 0}, {"max_vcpus": 1}, "vcpus"),
    Row(
        "CMP-006",
        NO,
        {"vm_sections": ("pit2",)},
        {"vm_sections": without(VM_SECTIONS, "pit2")},
        {"vm_sections": ("pit2",)},
        "vm.pit2",
    ),
    Row(
        "CMP-007",
        NO,
        {},
        {"vcpu_sections": without(VCPU_SECTIONS, "lapic")},
        {"vcpu_sections": tuple(VCPU_SECTIONS)},
        "vcpus.0.lapic",
    ),
    Row("CMP-008", NO, {"event_flags": 0xBD}, {}, {"event_flags": 0xBF}, "vcpus.0.events.flags"),
    Row("CMP-009", NO, {"smm": True}, {"smm": False}, {"smm": True}, "vcpus.0.events.smi.smm"),
    Row(
        "CMP-010",
        NO,
        {"smm": True, "event_flags": 0x7D, "events_in_use": 0x48, "shadow": 0x30},
        {"smm_carriers": ()},
        {"smm_carriers": ("events_nibble",), "event_flags": 0x7F},
        "vcpus.0.events.interrupt.shadow",
    ),
    Row(
        "CMP-011",
        NO,
        {"msrs": (0x10, 0x1B, 0x9E, 0xC0000103)},
        {},
        {"msrs_unlisted": (0x1B, 0xC0000103)},
        "vcpus.0.msrs",
    ),
    Row("CMP-012", NO, has((7, 0), ebx=1 | 1 << 5), {}, has((7, 0), ebx=1 | 1 << 5), "vcpus.0.cpuid2"),
    Row("CMP-013", LOSS, both(AS_INTEL), {}, both(AS_INTEL), "vcpus.0.cpuid2"),
    Row("CMP-014", NO, {"xcr0": 0x27}, {}, {"xcr0_mask": 0x27}, "vcpus.0.xcrs"),
    Row("CMP-015", NO, {"xsave_bytes": 8192, "xsave_used_bytes": 4160}, {}, {"xsave_bytes": 8192}, "vcpus.0.xsave"),
    Row(
        "CMP-016",
        NO,
        {"tsc_khz": 1_000_000},
        {"tsc_khz_min": 2_000_000, "tsc_khz_max": 2_000_000, "tsc_scaling": False},
        {"tsc_khz_min": 1},
        "vcpus.0.tsc_khz",
    ),
    # CPUID
    Row("CMP-101", NO, has((7, 0), edx=1 << 26), {}, has((7, 0), edx=1 << 26)),
    Row("CMP-102", NO, has((7, 1), eax=1 << 4), {}, has((7, 1), eax=1 << 4)),
    Row("CMP-103", LOSS, has((7, 0), ebx=1), has((7, 0), ebx=1 | 1 << 13), {"cpuid": {}}),
    Row("CMP-104", LOSS, has((0x80000021, 0), ecx=2), {}, has((0x80000021, 0), ecx=6)),
    Row("CMP-105", LOSS, {}, has((1, 0), ebx=4 << 8), {"cpuid": {}}),
    Row(
        "CMP-106", LOSS, has((4, 0), eax=0x121, ebx=63), has((4, 0), eax=0x121, ebx=127), has((4, 0), eax=0x122, ebx=63)
    ),
    Row(
        "CMP-107",
        LOSS,
        has((0x8000001D, 0), eax=0x121, ebx=63),
        has((0x8000001D, 0), eax=0x121, ebx=127),
        has((0x8000001D, 0), eax=0x122, ebx=63),
    ),
    Row("CMP-108", NO, has((6, 0), eax=4), {}, has((6, 0), eax=4)),
    Row("CMP-109", NO, both(PMU), both({(0xA, 0): {"eax": 0x07300202, "edx": 0x603}}), both(PMU)),
    Row("CMP-110", NO, both(PMU), both({(0xA, 0): {"eax": 0x07300402, "edx": 0x603, "ebx": 4}}), both(PMU)),
    Row(
        "CMP-111",
        NO,
        both({(0x80000022, 0): {"eax": 0, "ebx": 6}}),
        both({(0x80000022, 0): {"ebx": 4}}),
        both({(0x80000022, 0): {"ebx": 8}}),
    ),
    Row("CMP-112", NO, has((0xD, 1), eax=3), has((0xD, 1), eax=1), has((0xD, 1), eax=7)),
    Row("CMP-113", NO, both(PT), both({**PT, (0x14, 1): {"eax": 0x20001}}), both({**PT, (0x14, 1): {"eax": 0x60003}})),
    Row("CMP-114", NO, both(PT), both({**PT, (0x14, 0): {"eax": 1, "ebx": 1, "ecx": 1 << 31 | 7}}), both(PT)),
    Row("CMP-115", NO, both(AMX), both({**AMX, (0x1D, 1): {"eax": 0x8002000, "ecx": 16}}), both(AMX)),
    Row("CMP-116", NO, both(AMX), both({**AMX, (0x1E, 0): {"ebx": 0x4008}}), both(AMX)),
    Row(
        "CMP-117",
        NO,
        both({(7, 1): {"edx": 1 << 19}, (0x24, 0): {"ebx": 2}}),
        both({(7, 1): {"edx": 1 << 19}, (0x24, 0): {"ebx": 1}}),
        both({(7, 1): {"edx": 1 << 19}, (0x24, 0): {"ebx": 3}}),
    ),
    Row(
        "CMP-118",
        NO,
        both({(7, 0): {"ebx": 5}, (0x12, 0): {"eax": 3}}),
        has((7, 0), ebx=5),
        both({(7, 0): {"ebx": 5}, (0x12, 0): {"eax": 3}}),
        also={"CMP-119"},
    ),
    Row("CMP-119", LOSS, both({(7, 0): {"ebx": 5}}), both({(7, 0): {"ebx": 5}}), {"guest": {}}),
    Row(
        "CMP-120",
        NO,
        both({(7, 0): {"ecx": 1 << 23}, (0x19, 0): {"ebx": 1}}),
        both({(7, 0): {"ecx": 1 << 23}}),
        both({(7, 0): {"ecx": 1 << 23}, (0x19, 0): {"ebx": 1}}),
    ),
    Row(
        "CMP-121",
        NO,
        both({(7, 0): {"edx": 1 << 19}, (0x1C, 0): {"eax": 0xFF}}),
        both({(7, 0): {"edx": 1 << 19}, (0x1C, 0): {"eax": 0xF}}),
        both({(7, 0): {"edx": 1 << 19}, (0x1C, 0): {"eax": 0xFF}}),
    ),
    Row("CMP-122", NO, has((0x10, 0), ebx=2), {}, has((0x10, 0), ebx=2)),
    Row(
        "CMP-123",
        LOSS,
        has((1, 0), ecx=1 << 26 | 1 << 21 | 1 << 3),
        {},
        {"kvm_capabilities": {"KVM_CAP_X86_DISABLE_EXITS": 1}},
    ),
    Row("CMP-124", NO, has((0x80000007, 0), edx=1 << 8), {}, has((0x80000007, 0), edx=1 << 8)),
    Row("CMP-125", NO, has((0x80000008, 0), ebx=1 << 12), {}, has((0x80000008, 0), ebx=1 << 12)),
    Row("CMP-126", NO, has((0x80000021, 0), eax=4), {}, has((0x80000021, 0), eax=4)),
    Row("CMP-127", NO, has((0x80000008, 0), eax=48 << 8 | 46), {}, has((0x80000008, 0), eax=48 << 8 | 52)),
    Row("CMP-128", NO, has((0x80000008, 0), eax=57 << 8 | 40), {}, has((0x80000008, 0), eax=57 << 8 | 40)),
    Row("CMP-129", NO, both(SVM), both({**SVM, (0x8000000A, 0): {"eax": 1, "ebx": 64, "edx": 3}}), both(SVM)),
    Row("CMP-130", NO, has((0x8000001F, 0), eax=1), {}, has((0x8000001F, 0), eax=3)),
    Row(
        "CMP-131",
        NO,
        has((0x8000001F, 0), eax=2, ebx=51),
        has((0x8000001F, 0), eax=2, ebx=47),
        has((0x8000001F, 0), eax=2, ebx=51),
    ),
    Row(
        "CMP-132",
        NO,
        both({(0x80000001, 0): {"ecx": 1 | 1 << 10}, (0x8000001B, 0): {"eax": 3}}),
        both({(0x80000001, 0): {"ecx": 1 | 1 << 10}, (0x8000001B, 0): {"eax": 1}}),
        both({(0x80000001, 0): {"ecx": 1 | 1 << 10}, (0x8000001B, 0): {"eax": 3}}),
    ),
    Row("CMP-133", NO, has((0xC0000001, 0), edx=4), {}, has((0xC0000001, 0), edx=4)),
    Row("CMP-134", LOSS, both(PMU), both({**PMU, (1, 0): {"eax": 0xA20F00 + 0x100}}), both(PMU)),
    Row(
        "CMP-135",
        NO,
        both({(0x40000000, 0): KVM_SIGNATURE, (0x40000001, 0): {"eax": 1 << 7 | 1 << 15}}),
        both({(0x40000000, 0): KVM_SIGNATURE, (0x40000001, 0): {"eax": 9}}),
        both({(0x40000000, 0): KVM_SIGNATURE, (0x40000001, 0): {"eax": 0x89}}),
    ),
    Row("CMP-136", NO, both(KVM_LEAVES), {}, both(KVM_LEAVES)),
    Row(
        "CMP-137",
        NO,
        both({**KVM_LEAVES, (0x40000001, 0): {"eax": 1 << 16}}),
        both(KVM_LEAVES),
        {"kvm_capabilities": {"KVM_CAP_EXIT_HYPERCALL": 1 << 12}},
    ),
    Row("CMP-138", NO, both({(0x40000000, 0): HYPERV_SIGNATURE, (0x40000003, 0): {"eax": 2}}), {}, {"guest": {}}),
    Row("CMP-139", LOSS, has((0x23, 0), eax=3), {}, has((0x23, 0), eax=3)),
    Row("CMP-140", NO, both({(0x40000000, 0): XEN_SIGNATURE}), {}, {"kvm_capabilities": {"KVM_CAP_XEN_HVM": 1}}),
    # values of MSRs
    Row("CMP-201", NO, {"values": {0x179: 0x1000140}}, {"mce_banks": 32}, {"mce_banks": 64}),
    Row("CMP-202", NO, {"values": {0x10A: 1 << 7}}, {}, {"features": {0x10A: 1 << 7}}),
    Row("CMP-203", LOSS, {"values": {0x10A: 1}}, {"features": {0x10A: 0}}, {"features": {0x10A: 0x29}}),
    Row("CMP-204", LOSS, {"values": {0x10A: 0}}, {"features": {0x10A: 4}}, {"features": {0x10A: 0}}),
    Row("CMP-205", NO, {"values": {0x345: 5}}, {"features": {0x345: 6}}, {"features": {0x345: 5}}),
    Row("CMP-206", NO, {"values": {0x345: 1 << 13}}, {"features": {0x345: 0}}, {"features": {0x345: 1 << 13}}),
    Row("CMP-207", NO, {"values": {0xC0011029: 2}}, {"features": {0xC0011029: 0}}, {"features": {0xC0011029: 2}}),
    Row("CMP-208", NO, {"values": {0xDA0: 1 << 11}}, {}, has((0xD, 1), ecx=1 << 11)),
    Row("CMP-209", NO, {"values": {0x1C4: 1 << 18}}, {}, {"cpuid": {(0xD, 18): {"eax": 8192, "ebx": 2816, "ecx": 6}}}),
    Row("CMP-210", NO, {"values": {0x48: 1}}, {}, has((0x80000008, 0), ebx=1 << 14)),
    Row("CMP-211", NO, {"values": {0x122: 3}}, {"features": {0x10A: 0}}, {"features": {0x10A: 1 << 7}}),
    Row("CMP-212", NO, {"values": {0x3A: 5}}, {}, both(VMX)),
    Row("CMP-213", NO, {"values": {0xC0010131: 1}}, {}, {"guest": {"values": {0xC0010131: 0}}}),
    Row(
        "CMP-220",
        NO,
        both(VMX, values={0x480: BASIC}),
        both(VMX, features={0x480: BASIC + 1}),
        both(VMX, features={0x480: BASIC}),
    ),
    Row(
        "CMP-221",
        NO,
        both(VMX, values={0x481: 0x3F_0000_0016}),
        both(VMX, features={0x481: 0x1F_0000_0016}),
        both(VMX, features={0x481: 0x7F_0000_0016}),
    ),
    Row(
        "CMP-222",
        NO,
        both(VMX, values={0x485: 0x40}),
        both(VMX, features={0x485: 0x80}),
        both(VMX, features={0x485: 0xC0}),
    ),
    Row(
        "CMP-223",
        NO,
        both(VMX, values={0x486: 0x80000021}),
        both(VMX, features={0x486: 0x80000031}),
        both(VMX, features={0x486: 0x80000021}),
    ),
    Row(
        "CMP-224",
        NO,
        both(VMX, values={0x48C: 0xF0106334141}),
        both(VMX, features={0x48C: 0x106334141}),
        both(VMX, features={0x48C: 0xF0106334141}),
    ),
    # registers
    Row("CMP-230", NO, {"cr4": 1 << 5 | 1 << 21}, {}, has((7, 0), ebx=1 | 1 << 20), "vcpus.0.sregs.cr4"),
    Row(
        "CMP-231",
        NO,
        {"efer": 0x1500, "nested": NestedNeeds(format=1, flags=0x100, state_bytes=128, active=False)},
        {},
        has((0x80000001, 0), ecx=5),
        "vcpus.0.sregs.efer",
    ),
    Row(
        "CMP-232",
        NO,
        {"cr3_high": 1 << 12},
        {},
        {"cpuid": {(0x80000008, 0): {"eax": 48 << 8 | 48}}},
        "vcpus.0.sregs.cr3",
    ),
    # XSAVE
    Row("CMP-301", NO, has((0xD, 0), eax=0x207), {}, {"xcr0_mask": 0x207}),
    Row("CMP-302", NO, has((0xD, 1), ecx=1 << 11), {}, has((0xD, 1), ecx=1 << 11)),
    Row("CMP-303", NO, {}, has((0xD, 2), eax=512), {"cpuid": {}}),
    Row(
        "CMP-304",
        NO,
        both(WIDE),
        both({**WIDE, (0xD, 9): {"eax": 8, "ebx": 2688}}, xcr0_mask=0x207),
        both(WIDE, xcr0_mask=0x207),
    ),
    Row("CMP-305", NO, {}, has((0xD, 2), ecx=2), {"cpuid": {}}),
    Row(
        "CMP-306",
        NO,
        both({(0xD, 0): {"eax": 0x40007}}),
        both({(0xD, 18): {"eax": 8192, "ebx": 2816, "ecx": 6}}, xcr0_mask=0x40007),
        {"xcr0_guest_permitted": 0x40007},
    ),
    Row("CMP-307", NO, {"mxcsr": 0x21F80}, {"mxcsr_mask": 0xFFFF}, {"mxcsr_mask": 0x2FFFF}),
    Row("CMP-308", NO, {"xcomp_bv": 1 << 63}, {}, {"guest": {"xcomp_bv": 0}}),
    # time
    Row(
        "CMP-401",
        LOSS,
        {"tsc_khz": 3_000_000},
        {"tsc_khz_min": 2_000_000, "tsc_khz_max": 2_000_000, "tsc_scaling": False},
        {"tsc_khz_max": 4_000_000, "tsc_scaling": True},
    ),
    Row("CMP-402", LOSS, {"tsc_khz": 0}, {}, {"guest": {"tsc_khz": 2_000_000}}),
    Row(
        "CMP-403",
        LOSS,
        has((0x15, 0), eax=2, ebx=100, ecx=24_000_000),
        {},
        {"guest": {"cpuid": {(0x15, 0): {"eax": 2, "ebx": 100, "ecx": 40_000_000}}}},
    ),
    Row(
        "CMP-404",
        LOSS,
        {"msr_lists": ((0x1B,),)},
        {},
        {"guest": {"msr_lists": ((0x1B,),), "sections": ("tsc_offset",)}},
    ),
    Row("CMP-405", LOSS, {}, {"clock_flags": 2}, {"clock_flags": 6 | 8}),
    Row("CMP-406", LOSS, both(KVM_LEAVES, clock_flags=None), both(KVM_LEAVES), {"guest": both(KVM_LEAVES)}),
    # events
    Row("CMP-501", NO, {"events_in_use": 1}, {"event_flags": 0x3E}, {"event_flags": 0x3F}),
    Row("CMP-502", NO, {"event_flags": 0x3F, "events_in_use": 2}, {"event_flags": 0x3D}, {"event_flags": 0x3F}),
    Row("CMP-503", NO, {"shadow": 3, "events_in_use": 4}, {"event_flags": 0x3B}, {"event_flags": 0x3F}),
    Row("CMP-504", NO, {"smm": True, "events_in_use": 8}, {"event_flags": 0x37}, {"event_flags": 0x3F}),
    Row("CMP-505", NO, {"events_in_use": 0x10}, {"event_flags": 0x2F}, {"event_flags": 0x3F}),
    Row("CMP-506", NO, {"events_in_use": 0x20}, {"event_flags": 0x1F}, {"event_flags": 0x3F}),
    Row(
        "CMP-507", OTHER_FORM, {"shadow": 3, "events_in_use": 4}, {"vendor": "GenuineIntel"}, {"vendor": "AuthenticAMD"}
    ),
    Row("CMP-508", OTHER_FORM, {"shadow": 2, "events_in_use": 4}, {}, {"vendor": "GenuineIntel"}),
    Row("CMP-509", LOSS, {"error_code": 0x80000007}, {"vendor": "GenuineIntel"}, {"vendor": "AuthenticAMD"}),
    Row("CMP-510", NO, {"mp_state": 2, "smi_pending": True}, {}, {"kernel_release": "6.17.1"}),
    Row("CMP-511", NO, {"mp_state": 9}, {"kernel_release": "5.10.0"}, {"kernel_release": "5.12.0"}),
    # SMM
    Row("CMP-601", NO, {"smi_pending": True, "memory": SlotNeeds()}, {"smm": False}, {"smm": True}),
    Row(
        "CMP-602",
        LOSS,
        {"smm": True, "shadow_in_smram": True, "stream_version": None},
        {"smm_carriers": ()},
        {"guest": {"smm": True, "event_flags": 0x3D}, "smm_carriers": ("smram",)},
    ),
    Row("CMP-603", LOSS, {}, {"smm": False}, {"guest": {"memory": SlotNeeds()}}, "memory.slots"),
    Row(
        "CMP-604",
        LOSS,
        {"smm": True, **has((0x80000001, 0), edx=1 << 11 | 1 << 20)},
        {"kernel_release": "6.1.192"},
        {"kernel_release": "6.2.0"},
    ),
    # nested
    Row(
        "CMP-701",
        NO,
        NESTED,
        {"nested": NestedSupport(vmx=True, state_bytes=8320)},
        {"nested": NestedSupport(svm=True, state_bytes=4224)},
    ),
    Row(
        "CMP-702",
        NO,
        NESTED,
        {"nested": NestedSupport(svm=True, state_bytes=128)},
        {"nested": NestedSupport(svm=True, state_bytes=4224)},
    ),
    Row(
        "CMP-703",
        NO,
        {**NESTED, "nested": NestedNeeds(format=0, flags=5, state_bytes=4224, active=True)},
        {"nested": NestedSupport(vmx=True, state_bytes=8320)},
        {"nested": NestedSupport(vmx=True, state_bytes=8320, evmcs=True)},
    ),
    Row(
        "CMP-704",
        NO,
        {**NESTED, "nested": NestedNeeds(format=0, flags=9, state_bytes=4224, active=True)},
        {"kernel_release": "5.4.0", "nested": NestedSupport(vmx=True, state_bytes=8320)},
        {"kernel_release": "5.6.0"},
    ),
    Row(
        "CMP-705",
        LOSS,
        {**NESTED, "nested": NestedNeeds(format=0, flags=1, state_bytes=4224, active=True, vmx_flags=1)},
        {"kernel_release": "5.7.0", "nested": NestedSupport(vmx=True, state_bytes=8320)},
        {"kernel_release": "5.8.0"},
    ),
    Row("CMP-706", LOSS, {"efer": 0x1500}, has((0x80000001, 0), ecx=5), {"guest": {"efer": 0x500}}),
    Row(
        "CMP-707",
        LOSS,
        {**NESTED, "nested": NestedNeeds(format=1, flags=0x101, state_bytes=4224, active=True, gpat=True)},
        {},
        {"kernel_release": "7.3.4"},
    ),
    # local APIC
    Row("CMP-801", NO, {"mp_state": 3}, {"lapic": LapicSupport(in_kernel=False)}, {"lapic": LapicSupport()}),
    Row(
        "CMP-802",
        NO,
        has((1, 0), ecx=1 << 26 | 1 << 21 | 1 << 24),
        {"lapic": LapicSupport()},
        {"lapic": LapicSupport(tsc_deadline=True)},
    ),
    Row("CMP-803", NO, {"timer_mode": 2}, {"lapic": LapicSupport()}, {"lapic": LapicSupport(tsc_deadline=True)}),
    Row(
        "CMP-804",
        NO,
        {**has((1, 0), ecx=1 << 26), "apic_base": 0xFEE00D00},
        has((1, 0), ecx=1 << 26),
        has((1, 0), ecx=1 << 26 | 1 << 21),
    ),
    Row("CMP-805", NO, {"apic_id": 300}, {"lapic": LapicSupport()}, {"lapic": LapicSupport(x2apic_32bit_ids=True)}),
    Row("CMP-806", NO, {"apic_id": 200}, {"max_vcpu_id": 200}, {"max_vcpu_id": 201}),
    Row("CMP-807", NO, {"apic_bus_cycle_ns": 40}, {}, {"lapic": LapicSupport(bus_cycle_settable=True)}),
    # memory
    Row(
        "CMP-901",
        NO,
        {"memory": SlotNeeds(slots=600, highest_slot=599)},
        {"memory": MemorySupport(slots=509, address_spaces=2, readonly=True)},
        {"memory": MemorySupport(slots=600, address_spaces=2, readonly=True)},
    ),
    Row(
        "CMP-902",
        NO,
        {},
        {"memory": MemorySupport(slots=509, address_spaces=1, readonly=True)},
        {"memory": MemorySupport(slots=509, address_spaces=2, readonly=True)},
    ),
    Row(
        "CMP-903",
        NO,
        {"memory": SlotNeeds(slots=1, readonly=True)},
        {"memory": MemorySupport(slots=509, address_spaces=2, readonly=False)},
        {"memory": MemorySupport(slots=509, address_spaces=2, readonly=True)},
    ),
    Row(
        "CMP-904",
        NO,
        {"memory": SlotNeeds(slots=1, end=1 << 41)},
        {},
        {"cpuid": {(0x80000008, 0): {"eax": 48 << 8 | 42}}},
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.rule)
def test_a_pair_that_does_not_fit_is_found_by_exactly_its_rule(row, make_machine, make_host):
    report = check_compat(make_machine(row.guest), make_host(row.host))
    assert {finding.rule for finding in report.findings} - row.also == {row.rule}
    assert report.verdict is row.verdict
    assert row.where is None or {finding.where for finding in report.findings} == {row.where}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.rule)
def test_the_mended_pair_fits(row, make_machine, make_host):
    cure = dict(row.cure)
    guest = cure.pop("guest", row.guest)
    report = check_compat(make_machine(guest), make_host({**row.host, **cure}))
    assert {finding.rule for finding in report.findings} <= row.also


def test_every_rule_has_an_example_and_says_all_that_an_operator_asks():
    ids = [rule.id for rule in COMPAT_RULES]
    assert ids == sorted(set(ids))
    assert set(ids) == {row.rule for row in ROWS}
    assert len(ids) >= 60
    for rule in COMPAT_RULES:
        assert all((rule.text, rule.why, rule.hint, rule.source)), rule.id
        assert rule.severity in Severity


def test_the_base_pair_is_exact(make_machine, make_host):
    assert check_compat(make_machine({}), make_host({})).findings == ()
