"""SAVE_ORDER and RESTORE_ORDER: in which order a vCPU's state is read and written, each edge with its reason.

A step is a section, or one of the pseudo-steps below, which a driver knows. Every name in `after` stands before its
row; a test holds the lists to it.
"""

from __future__ import annotations

from typing import NamedTuple

COMPLETE_IO = "complete_io"
"""Pseudo-step: KVM_RUN with immediate_exit, so that no I/O, MMIO or MSR exit is half done."""
MSRS_TSC_DEADLINE = "msrs.tsc_deadline"
"""Pseudo-step: MSR 0x6E0 of the section msrs, apart from the rest."""
RESUME = "resume"


class OrderStep(NamedTuple):
    """One step; `after` names the steps that must be before it, `reason` says what breaks otherwise."""

    name: str
    after: tuple[str, ...]
    reason: str
    source: str


SAVE_ORDER: tuple[OrderStep, ...] = (
    OrderStep(
        COMPLETE_IO, (), "a pending operation is not part of the saved state", "api.rst 5: immediate_exit, KVM_EXIT_IO"
    ),
    OrderStep(
        "mp_state", (COMPLETE_IO,),
        "KVM_GET_MP_STATE runs a latched INIT or SIPI, which resets registers: it comes before all of them",
        "Linux 6.12 kvm_arch_vcpu_ioctl_get_mpstate",
    ),
    OrderStep("regs", (COMPLETE_IO, "mp_state"), "INIT and SIPI change RIP", "Linux 6.12 kvm_apic_accept_events"),
    OrderStep("xsave", ("mp_state",), "INIT resets part of it", "Linux 6.12 kvm_vcpu_reset"),
    OrderStep("xcrs", ("mp_state",), "INIT resets it", "Linux 6.12 kvm_vcpu_reset"),
    OrderStep(
        "sregs", ("mp_state",), "SIPI changes CS; without the payload capability this GET delivers a payload to CR2",
        "Linux 6.12 regs.c __get_sregs",
    ),
    OrderStep("sregs2", ("mp_state",), "as sregs", "Linux 6.12 regs.c __get_sregs2"),
    OrderStep(
        "debugregs", ("mp_state",), "without the payload capability this GET delivers a payload to DR6",
        "Linux 6.12 kvm_vcpu_ioctl_x86_get_debugregs",
    ),
    OrderStep("cpuid2", (), "does not change", "Linux 6.12 kvm_vcpu_ioctl_get_cpuid2"),
    OrderStep("tsc_khz", (), "does not change", "api.rst 4.56"),
    OrderStep("lapic", ("mp_state",), "INIT resets it", "Linux 6.12 kvm_lapic_reset"),
    OrderStep("msrs", ("mp_state",), "the TSC runs on: read late", "Linux 6.12 msr_io"),
    OrderStep(
        "events",
        ("mp_state", "regs", "xsave", "xcrs", "sregs", "sregs2", "debugregs", "lapic", "msrs"),
        "read before MP_STATE it would hold a latched INIT that the other sections have been through already",
        "Linux 6.12 kvm_vcpu_ioctl_x86_get_vcpu_events",
    ),
)  # fmt: skip

RESTORE_ORDER: tuple[OrderStep, ...] = (
    OrderStep(
        "cpuid2", (), "it decides which register bits, MSRs and XSAVE components are valid, and the SMRAM map",
        "Linux 6.12 kvm_set_cpuid; changes after the first run are refused since 5.16",
    ),
    OrderStep("tsc_khz", ("cpuid2",), "deadlines and the TSC count in it", "api.rst 4.55"),
    OrderStep(
        "sregs", ("cpuid2",),
        "CR4 and EFER are checked against CPUID; write interrupt_bitmap as zero, the events carry the interrupt",
        "Linux 6.12 regs.c kvm_is_valid_sregs",
    ),
    OrderStep("sregs2", ("cpuid2", "sregs"), "in place of sregs where the kernel has it: PDPTRs", "Linux 5.14"),
    OrderStep("regs", ("sregs", "sregs2"), "SREGS at the reset vector wakes the vCPU", "Linux 6.12 regs.c __set_sregs"),
    OrderStep("xcrs", ("cpuid2",), "XCR0 is checked against CPUID", "Linux 6.12 __kvm_set_xcr"),
    OrderStep("xsave", ("cpuid2", "xcrs"), "dynamic components need their permission", "Linux 6.12 …_set_xsave"),
    OrderStep(
        "lapic", ("sregs", "sregs2"), "apic_base decides between xAPIC and x2APIC form, and CR8 is TPR's upper half",
        "Linux 6.12 lapic.c kvm_apic_set_state",
    ),
    OrderStep(
        "msrs", ("cpuid2", "sregs", "sregs2", "lapic", "tsc_khz"),
        "KVM_SET_LAPIC restarts the timer; MSRs are checked against CPUID; the TSC before its deadline",
        "Linux 6.12 msr_io, kvm_apic_set_state",
    ),
    OrderStep("debugregs", (), "independent", "api.rst 4.34"),
    OrderStep(
        "events", ("regs", "sregs", "sregs2", "lapic", "msrs", "debugregs"),
        "SET_REGS clears a pending exception, SREGS queues the bitmap's interrupt, SMBASE must be there for RSM",
        "Linux 6.12 __set_regs, __set_sregs, kvm_vcpu_ioctl_x86_set_vcpu_events",
    ),
    OrderStep(
        "mp_state", ("lapic", "events"),
        "other states than RUNNABLE need the local APIC; until 6.17 SMM and INIT_RECEIVED exclude each other",
        "Linux 6.12 kvm_arch_vcpu_ioctl_set_mpstate",
    ),
    OrderStep(
        MSRS_TSC_DEADLINE, ("lapic", "msrs"), "dropped without an error unless the local APIC is in deadline mode",
        "Linux 6.12 kvm_set_lapic_tscdeadline_msr; Firecracker issue 4099",
    ),
    OrderStep("clock", ("msrs",), "guests hang if it jumps after they run", "Cloud Hypervisor PR 7932"),
    OrderStep("pic_master", ("lapic",), "its output reaches LINT0", "Linux 6.12 i8259.c"),
    OrderStep("pic_slave", ("pic_master",), "it cascades into the master", "Linux 6.12 i8259.c"),
    OrderStep("pit2", ("pic_master", "pic_slave"), "a tick raises IRQ 0 at once", "Linux 6.12 i8254.c"),
    OrderStep(
        RESUME,
        ("mp_state", MSRS_TSC_DEADLINE, "clock", "pic_master", "pic_slave", "pit2", "xsave", "debugregs"),
        "a vCPU runs when everything is there",
        "ours",
    ),
)  # fmt: skip
