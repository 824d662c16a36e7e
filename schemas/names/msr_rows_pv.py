"""The rows of paravirtual registers: KVM's own and Hyper-V's."""

from __future__ import annotations

from .msr_rows import MsrClass as C
from .msr_rows import MsrRow, group
from .msr_rows import RestorePhase as P

_PARA = "Linux 6.12 arch/x86/include/uapi/asm/kvm_para.h; Documentation/virt/kvm/x86/msr.rst"
_TLFS = "Linux 6.12 arch/x86/include/asm/hyperv-tlfs.h; Hyper-V TLFS"

_KVM = (
    *group(
        C.KVM, P.MSRS, _PARA,
        (0x11, "MSR_KVM_WALL_CLOCK"), (0x12, "MSR_KVM_SYSTEM_TIME", "kvm_system_time"),
        (0x4B564D00, "MSR_KVM_WALL_CLOCK_NEW"), (0x4B564D01, "MSR_KVM_SYSTEM_TIME_NEW", "kvm_system_time"),
        (0x4B564D06, "MSR_KVM_ASYNC_PF_INT"), (0x4B564D02, "MSR_KVM_ASYNC_PF_EN", "kvm_async_pf_en"),
        (0x4B564D03, "MSR_KVM_STEAL_TIME", "kvm_steal_time"), (0x4B564D04, "MSR_KVM_PV_EOI_EN", "kvm_enabled"),
        (0x4B564D05, "MSR_KVM_POLL_CONTROL", "kvm_poll_control"),
        (0x4B564D08, "MSR_KVM_MIGRATION_CONTROL", "kvm_migration_control"),
    ),
    *group(C.KVM, P.NEVER, f"{_PARA}; an acknowledgement, reads as 0", (0x4B564D07, "MSR_KVM_ASYNC_PF_ACK")),
)  # fmt: skip

_HYPERV = (
    # HYPERCALL is ignored while GUEST_OS_ID is 0, so the latter is written first.
    *group(C.HYPERV, P.FEATURES, _TLFS, (0x40000000, "HV_X64_MSR_GUEST_OS_ID")),
    *group(
        C.HYPERV, P.MSRS, _TLFS,
        (0x40000001, "HV_X64_MSR_HYPERCALL", "hv_hypercall"), (0x40000002, "HV_X64_MSR_VP_INDEX"),
        (0x40000021, "HV_X64_MSR_REFERENCE_TSC", "hv_page"), (0x40000070, "HV_X64_MSR_EOI"),
        (0x40000071, "HV_X64_MSR_ICR"), (0x40000072, "HV_X64_MSR_TPR"),
        (0x40000073, "HV_X64_MSR_VP_ASSIST_PAGE", "hv_page"),
        (0x40000080, "HV_X64_MSR_SCONTROL", "hv_enable"), (0x40000082, "HV_X64_MSR_SIEFP", "hv_page"),
        (0x40000083, "HV_X64_MSR_SIMP", "hv_page"), (0x40000090, "HV_X64_MSR_SINT{n}", "hv_sint", 16),
        (0x400000F1, "HV_X64_MSR_SYNDBG_CONTROL"), (0x400000F2, "HV_X64_MSR_SYNDBG_STATUS"),
        (0x400000F3, "HV_X64_MSR_SYNDBG_SEND_BUFFER"), (0x400000F4, "HV_X64_MSR_SYNDBG_RECV_BUFFER"),
        (0x400000F5, "HV_X64_MSR_SYNDBG_PENDING_BUFFER"), (0x400000FF, "HV_X64_MSR_SYNDBG_OPTIONS"),
        (0x40000100, "HV_X64_MSR_CRASH_P{n}", None, 5), (0x40000105, "HV_X64_MSR_CRASH_CTL"),
        (0x40000106, "HV_X64_MSR_REENLIGHTENMENT_CONTROL"), (0x40000107, "HV_X64_MSR_TSC_EMULATION_CONTROL"),
        (0x40000108, "HV_X64_MSR_TSC_EMULATION_STATUS"), (0x40000118, "HV_X64_MSR_TSC_INVARIANT_CONTROL"),
    ),
    # COUNT starts a timer that CONFIG set up; both count in the reference time.
    *group(
        C.HYPERV, P.ENABLE, _TLFS,
        (0x400000B0, "HV_X64_MSR_STIMER{n}_CONFIG", "hv_stimer_config", 4, 2),
        (0x400000B1, "HV_X64_MSR_STIMER{n}_COUNT", None, 4, 2),
    ),
    *group(C.TIME, P.MSRS, _TLFS, (0x40000010, "HV_X64_MSR_VP_RUNTIME")),
    *group(C.TIME, P.NEVER, f"{_TLFS}; derived from kvm_clock_data", (0x40000020, "HV_X64_MSR_TIME_REF_COUNT")),
    *group(
        C.HYPERV, P.NEVER, f"{_TLFS}; read-only or a command",
        (0x40000003, "HV_X64_MSR_RESET"), (0x40000022, "HV_X64_MSR_TSC_FREQUENCY"),
        (0x40000023, "HV_X64_MSR_APIC_FREQUENCY"), (0x40000081, "HV_X64_MSR_SVERSION"), (0x40000084, "HV_X64_MSR_EOM"),
        (0x400000F0, "HV_X64_MSR_GUEST_IDLE"),
    ),
)  # fmt: skip

PV_MSRS: tuple[MsrRow, ...] = (*_KVM, *_HYPERV)
