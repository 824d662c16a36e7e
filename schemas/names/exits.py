"""What the exit reasons of kvm_run mean."""

from __future__ import annotations

EXIT_REASONS: dict[int, tuple[str, str]] = {
    0: ("KVM_EXIT_UNKNOWN", "hardware exit that KVM does not know"),
    1: ("KVM_EXIT_EXCEPTION", "unused on x86"),
    2: ("KVM_EXIT_IO", "port I/O to complete"),
    3: ("KVM_EXIT_HYPERCALL", "hypercall for userspace"),
    4: ("KVM_EXIT_DEBUG", "guest-debug event"),
    5: ("KVM_EXIT_HLT", "HLT without an in-kernel local APIC"),
    6: ("KVM_EXIT_MMIO", "memory-mapped I/O to complete"),
    7: ("KVM_EXIT_IRQ_WINDOW_OPEN", "an interrupt can be injected"),
    8: ("KVM_EXIT_SHUTDOWN", "triple fault"),
    9: ("KVM_EXIT_FAIL_ENTRY", "VM entry failed: inconsistent state"),
    10: ("KVM_EXIT_INTR", "a signal"),
    11: ("KVM_EXIT_SET_TPR", "TPR changed"),
    12: ("KVM_EXIT_TPR_ACCESS", "TPR access to report"),
    16: ("KVM_EXIT_NMI", "host NMI"),
    17: ("KVM_EXIT_INTERNAL_ERROR", "KVM cannot go on: emulation failure and the like"),
    18: ("KVM_EXIT_OSI", "PowerPC"),
    24: ("KVM_EXIT_SYSTEM_EVENT", "shutdown, reset or crash"),
    26: ("KVM_EXIT_IOAPIC_EOI", "EOI for a userspace I/O APIC"),
    27: ("KVM_EXIT_HYPERV", "Hyper-V SynIC or hypercall"),
    29: ("KVM_EXIT_X86_RDMSR", "RDMSR for userspace"),
    30: ("KVM_EXIT_X86_WRMSR", "WRMSR for userspace"),
    31: ("KVM_EXIT_DIRTY_RING_FULL", "dirty ring is full"),
    32: ("KVM_EXIT_AP_RESET_HOLD", "SEV-ES AP reset hold"),
    33: ("KVM_EXIT_X86_BUS_LOCK", "bus lock"),
    34: ("KVM_EXIT_XEN", "Xen hypercall"),
    37: ("KVM_EXIT_NOTIFY", "no event window for too long"),
    39: ("KVM_EXIT_MEMORY_FAULT", "guest memory that is not there or not private"),
}
"""Number -> the kernel's name and what it means, those of x86 and of old headers.

Source: Linux 6.12 include/uapi/linux/kvm.h; api.rst 5.
"""


def exit_reason_name(number: int) -> str:
    """Return the kernel's name, or the number if it has none."""
    known = EXIT_REASONS.get(number)
    return known[0] if known else str(number)
