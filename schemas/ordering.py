"""SAVE_ORDER and RESTORE_ORDER: in which order a machine's state is read and written, each step with its reason.

A step is a section, or one of the pseudo-steps below, which a driver knows. `after` names what stands before a step
always, `after_if` what stands before it under a condition of the vCPU. The order of the rows is one that keeps every
edge outside SMM; `save_order` and `restore_order` give the one for a given vCPU, `check_order` judges any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from .errors import Finding, Severity
from .state import VcpuState, VmState
from .uapi import VCPU_SECTIONS, VM_SECTIONS

COMPLETE_IO = "complete_io"
"""Pseudo-step: KVM_RUN with immediate_exit, so that no I/O, MMIO or MSR exit is half done."""
MSRS_TSC_DEADLINE = "msrs.tsc_deadline"
"""Pseudo-step: MSR 0x6E0 of the section msrs, apart from the rest."""
RESUME = "resume"

UNKNOWN_STEP, REPEATED_STEP = "ORD-001", "ORD-002"
"""Findings of `check_order` on the list itself; those on an edge have the id of their row."""


class Condition(StrEnum):
    """What an edge may depend on."""

    IN_SMM = "in_smm"
    """events.smi.smm is set."""
    OUTSIDE_SMM = "outside_smm"


class OrderStep(NamedTuple):
    """One step; `after` names the steps that must be before it, `reason` says what breaks otherwise."""

    rule: str
    name: str
    after: tuple[str, ...]
    reason: str
    source: str
    after_if: tuple[tuple[Condition, tuple[str, ...]], ...] = ()

    def resolved(self, conditions: frozenset[Condition]) -> OrderStep:
        """Return the step with the edges of these conditions among `after`, and no conditional ones."""
        more = tuple(name for condition, names in self.after_if if condition in conditions for name in names)
        return self._replace(after=self.after + more, after_if=())


SAVE_ORDER: tuple[OrderStep, ...] = (
    OrderStep(
        "ORD-101", COMPLETE_IO, (), "a pending operation is not part of the saved state",
        "api.rst 5: immediate_exit, KVM_EXIT_IO",
    ),
    OrderStep(
        "ORD-102", "mp_state", (COMPLETE_IO,),
        "KVM_GET_MP_STATE runs a latched INIT or SIPI, which resets registers: it comes before all of them",
        "Linux 6.12 kvm_arch_vcpu_ioctl_get_mpstate",
    ),
    OrderStep(
        "ORD-103", "regs", (COMPLETE_IO, "mp_state"), "INIT and SIPI change RIP", "Linux 6.12 kvm_apic_accept_events"
    ),
    OrderStep("ORD-104", "xsave", ("mp_state",), "INIT resets part of it", "Linux 6.12 kvm_vcpu_reset"),
    OrderStep("ORD-105", "fpu", ("mp_state",), "it shows the registers of xsave", "Linux 6.12 kvm_vcpu_reset"),
    OrderStep("ORD-106", "xcrs", ("mp_state",), "INIT resets it", "Linux 6.12 kvm_vcpu_reset"),
    OrderStep(
        "ORD-107", "sregs", ("mp_state",),
        "SIPI changes CS; without the payload capability this GET delivers a payload to CR2",
        "Linux 6.12 regs.c __get_sregs",
    ),
    OrderStep("ORD-108", "sregs2", ("mp_state",), "as sregs", "Linux 6.12 regs.c __get_sregs2"),
    OrderStep(
        "ORD-109", "debugregs", ("mp_state",), "without the payload capability this GET delivers a payload to DR6",
        "Linux 6.12 kvm_vcpu_ioctl_x86_get_debugregs",
    ),
    OrderStep("ORD-110", "cpuid2", (), "does not change", "Linux 6.12 kvm_vcpu_ioctl_get_cpuid2"),
    OrderStep("ORD-111", "tsc_khz", (), "does not change", "api.rst 4.56"),
    OrderStep("ORD-112", "lapic", ("mp_state",), "INIT resets it", "Linux 6.12 kvm_lapic_reset"),
    OrderStep(
        "ORD-113", "nested_state", (COMPLETE_IO, "mp_state"), "INIT takes the vCPU out of L2",
        "Linux 6.12 kvm_apic_accept_events kvm_check_nested_events; kvm_vcpu_reset kvm_leave_nested",
    ),
    OrderStep(
        "ORD-114", "clock", (COMPLETE_IO,), "the guest's time goes on until its vCPUs stand", "api.rst 4.29"
    ),
    OrderStep(
        "ORD-115", "tsc_offset", ("clock",), "it is used with the clock and the host TSC of the same moment",
        "Linux 6.12 Documentation/virt/kvm/devices/vcpu.rst 4.1",
    ),
    OrderStep("ORD-116", "msrs", ("mp_state",), "INIT resets some; the TSC runs on: read late", "Linux 6.12 msr_io"),
    OrderStep(
        "ORD-117", "events",
        (
            "mp_state", "regs", "xsave", "fpu", "xcrs", "sregs", "sregs2", "debugregs", "lapic", "nested_state", "msrs",
        ),
        "read before MP_STATE it would hold a latched INIT that the other sections have been through already",
        "Linux 6.12 kvm_vcpu_ioctl_x86_get_vcpu_events",
    ),
    OrderStep("ORD-118", "pic_master", (COMPLETE_IO,), "a port access half done changes it", "Linux 6.12 i8259.c"),
    OrderStep("ORD-119", "pic_slave", (COMPLETE_IO,), "a port access half done changes it", "Linux 6.12 i8259.c"),
    OrderStep(
        "ORD-120", "ioapic", (COMPLETE_IO,), "a memory access half done changes it", "Linux 6.12 ioapic.c"
    ),
    OrderStep("ORD-121", "pit2", (COMPLETE_IO,), "a port access half done changes it", "Linux 6.12 i8254.c"),
    OrderStep(
        "ORD-122", "dirty_log", (COMPLETE_IO, "mp_state"),
        "completing an input, or leaving L2 for an INIT, writes guest memory: the last log is read behind both",
        "Linux 6.12 complete_emulated_pio; vmx/nested.c nested_vmx_store_msr",
    ),
)  # fmt: skip

RESTORE_ORDER: tuple[OrderStep, ...] = (
    OrderStep(
        "ORD-201", "memory_slots", (), "the steps behind it read guest memory, and slots come with their contents",
        "api.rst 4.35",
    ),
    OrderStep(
        "ORD-202", "cpuid2", (),
        "it decides which register bits, MSRs and XSAVE components are valid, and the SMRAM map",
        "Linux 6.12 kvm_set_cpuid; changes after the first run are refused since 5.16",
    ),
    OrderStep("ORD-203", "tsc_khz", ("cpuid2",), "deadlines and the TSC count in it", "api.rst 4.55"),
    OrderStep(
        "ORD-204", "sregs", ("cpuid2", "memory_slots"),
        "CR4 and EFER are checked against CPUID, PAE paging reads its PDPTRs from memory; "
        "write interrupt_bitmap as zero, the events carry the interrupt",
        "Linux 6.12 regs.c kvm_is_valid_sregs, __set_sregs load_pdptrs",
    ),
    OrderStep(
        "ORD-205", "sregs2", ("cpuid2", "sregs"), "in place of sregs where the kernel has it: PDPTRs", "Linux 5.14"
    ),
    OrderStep(
        "ORD-206", "regs", ("sregs", "sregs2"), "SREGS at the reset vector wakes the vCPU",
        "Linux 6.12 regs.c __set_sregs",
    ),
    OrderStep("ORD-207", "xcrs", ("cpuid2",), "XCR0 is checked against CPUID", "Linux 6.12 __kvm_set_xcr"),
    OrderStep(
        "ORD-208", "fpu", (), "it writes registers that xsave writes too", "Linux 6.12 kvm_arch_vcpu_ioctl_set_fpu"
    ),
    OrderStep(
        "ORD-209", "xsave", ("cpuid2", "xcrs", "fpu"),
        "dynamic components need their permission; it has MXCSR and XSTATE_BV, which fpu lacks: it comes last",
        "Linux 6.12 kvm_vcpu_ioctl_x86_set_xsave",
    ),
    OrderStep(
        "ORD-210", "lapic", ("sregs", "sregs2"),
        "apic_base decides between xAPIC and x2APIC form, and CR8 is TPR's upper half",
        "Linux 6.12 lapic.c kvm_apic_set_state",
    ),
    OrderStep(
        "ORD-211", "msrs", ("memory_slots", "cpuid2", "sregs", "sregs2", "lapic", "tsc_khz"),
        "KVM_SET_LAPIC restarts the timer; MSRs are checked against CPUID, and kvmclock's maps its page; "
        "the TSC before its deadline",
        "Linux 6.12 msr_io, kvm_apic_set_state, kvm_write_system_time",
    ),
    OrderStep("ORD-212", "debugregs", (), "independent", "api.rst 4.34"),
    OrderStep(
        "ORD-213", "nested_state", ("memory_slots", "cpuid2", "sregs", "sregs2", "msrs"),
        "EFER.SVME, IA32_FEATURE_CONTROL and the VMX capability MSRs decide what is accepted; in SMM its "
        "smm.flags are, only after the events have entered SMM, and entering SMM leaves nested mode",
        "Linux 6.12 vmx_set_nested_state, svm_set_nested_state, kvm_smm_changed",
        ((Condition.IN_SMM, ("events",)),),
    ),
    OrderStep(
        "ORD-214", "events", ("regs", "sregs", "sregs2", "lapic", "msrs", "debugregs"),
        "SET_REGS clears a pending exception, SREGS queues the bitmap's interrupt, SMBASE must be there for RSM; "
        "outside SMM the shadow and the NMI mask go to the current VMCS or VMCB, which must be L2's already",
        "Linux 6.12 __set_regs, __set_sregs, kvm_vcpu_ioctl_x86_set_vcpu_events",
        ((Condition.OUTSIDE_SMM, ("nested_state",)),),
    ),
    OrderStep(
        "ORD-215", "mp_state", ("lapic", "events"),
        "other states than RUNNABLE need the local APIC; until 6.17 SMM and INIT_RECEIVED exclude each other",
        "Linux 6.12 kvm_arch_vcpu_ioctl_set_mpstate",
    ),
    OrderStep("ORD-216", "clock", ("msrs",), "guests hang if it jumps after they run", "Cloud Hypervisor PR 7932"),
    OrderStep(
        "ORD-217", "tsc_offset", ("msrs", "tsc_khz", "clock"),
        "writing the TSC by its MSR replaces it; it is computed from the clock of the new host",
        "Linux 6.12 Documentation/virt/kvm/devices/vcpu.rst 4.1, kvm_synchronize_tsc",
    ),
    OrderStep(
        "ORD-218", MSRS_TSC_DEADLINE, ("lapic", "msrs", "tsc_offset"),
        "dropped without an error unless the local APIC is in deadline mode; it is compared with the TSC",
        "Linux 6.12 kvm_set_lapic_tscdeadline_msr; Firecracker issue 4099",
    ),
    OrderStep("ORD-219", "pic_master", ("lapic",), "its output reaches LINT0", "Linux 6.12 i8259.c"),
    OrderStep("ORD-220", "pic_slave", ("pic_master",), "it cascades into the master", "Linux 6.12 i8259.c"),
    OrderStep(
        "ORD-221", "ioapic", ("lapic",),
        "its waiting pins are injected at once into local APICs, which KVM_SET_LAPIC would overwrite",
        "Linux 6.12 ioapic.c kvm_set_ioapic kvm_ioapic_inject_all",
    ),
    OrderStep(
        "ORD-222", "pit2", ("pic_master", "pic_slave", "ioapic"), "a tick raises IRQ 0 at once", "Linux 6.12 i8254.c"
    ),
    OrderStep(
        "ORD-223", RESUME,
        (
            "memory_slots", "mp_state", "nested_state", "events", MSRS_TSC_DEADLINE, "tsc_offset", "clock",
            "pic_master", "pic_slave", "ioapic", "pit2", "xsave", "debugregs",
        ),
        "a vCPU runs when everything is there",
        "ours",
    ),
)  # fmt: skip


def conditions_of(vcpu: VcpuState) -> frozenset[Condition]:
    """Return the conditions that hold for a vCPU."""
    return frozenset({Condition.IN_SMM if vcpu.events.smi.smm else Condition.OUTSIDE_SMM})


def save_order(vcpu: VcpuState, vm: VmState | None = None) -> tuple[OrderStep, ...]:
    """Return the steps in which this vCPU, and the VM if it is given, would be read; see `restore_order`."""
    return _arranged(SAVE_ORDER, vcpu, vm)


def restore_order(vcpu: VcpuState, vm: VmState | None = None) -> tuple[OrderStep, ...]:
    """Return the steps in which this vCPU, and the VM if it is given, are written.

    Sections that are not there are left out; conditional edges are resolved, so that `check_order` may be asked about
    another list with these rows.
    """
    return _arranged(RESTORE_ORDER, vcpu, vm)


def check_order(names: Sequence[str], rows: Iterable[OrderStep]) -> list[Finding]:
    """Return what is wrong with the order of steps; empty if it keeps every edge of the rows.

    Steps that are missing are no fault: whether a section must be there is not a question of order. Edges under a
    condition are judged only where the rows are those of `save_order` or `restore_order`.
    """
    known = {row.name: row for row in rows}
    findings = [
        _finding(UNKNOWN_STEP, name, "no such step", f"known: {', '.join(known)}")
        for name in dict.fromkeys(names)
        if name not in known
    ]
    findings += [
        _finding(REPEATED_STEP, name, f"stands {count} times in the order", "read or write it once")
        for name, count in Counter(names).items()
        if count > 1 and name in known
    ]
    last = {name: place for place, name in enumerate(names)}
    findings += [
        _finding(row.rule, row.name, f"stands before {earlier}: {row.reason}", f"move it behind {earlier}", row.source)
        for row in known.values()
        if row.name in last
        for earlier in row.after
        if last.get(earlier, -1) > last[row.name]
    ]
    return findings


def _finding(rule: str, where: str, message: str, hint: str, source: str = "") -> Finding:
    return Finding(rule=rule, severity=Severity.ERROR, where=where, message=message, hint=hint, source=source)


def _arranged(rows: Iterable[OrderStep], vcpu: VcpuState, vm: VmState | None) -> tuple[OrderStep, ...]:
    """Return the rows that apply, each as early as its edges and its place in the table allow."""
    absent = {name for name in VCPU_SECTIONS if getattr(vcpu, name) is None}
    if vm is not None:
        absent |= {name for name in VM_SECTIONS if getattr(vm, name) is None}
    conditions = conditions_of(vcpu)
    waiting = [row.resolved(conditions) for row in rows if row.name not in absent]
    done: list[OrderStep] = []
    while waiting:
        names = {row.name for row in waiting}
        ready = next(row for row in waiting if not names.intersection(row.after))
        waiting.remove(ready)
        done.append(ready)
    return tuple(done)
