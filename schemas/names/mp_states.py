"""What the numbers of kvm_mp_state mean."""

from __future__ import annotations

MP_STATES: dict[int, tuple[str, str]] = {
    0: ("KVM_MP_STATE_RUNNABLE", "runs"),
    1: ("KVM_MP_STATE_UNINITIALIZED", "waits for INIT"),
    2: ("KVM_MP_STATE_INIT_RECEIVED", "has seen INIT, waits for SIPI"),
    3: ("KVM_MP_STATE_HALTED", "in HLT, waits for an interrupt"),
    4: ("KVM_MP_STATE_SIPI_RECEIVED", "has seen SIPI, about to start"),
    5: ("KVM_MP_STATE_STOPPED", "s390, arm64: not of x86"),
    6: ("KVM_MP_STATE_CHECK_STOP", "s390: not of x86"),
    7: ("KVM_MP_STATE_OPERATING", "s390: not of x86"),
    8: ("KVM_MP_STATE_LOAD", "s390: not of x86"),
    9: ("KVM_MP_STATE_AP_RESET_HOLD", "SEV-ES: waits for its first SIPI"),
    10: ("KVM_MP_STATE_SUSPENDED", "arm64: not of x86"),
}
"""Number -> the kernel's name and what it means. Source: Linux 6.12 include/uapi/linux/kvm.h; api.rst 4.38."""


def mp_state_name(number: int) -> str:
    """Return the kernel's name, or the number in hex if it has none."""
    known = MP_STATES.get(number)
    return known[0] if known else hex(number)
