"""The numbers of the KVM user API that the state needs: ioctls, capabilities, address spaces.

Source: linux/kvm.h and asm/kvm.h; the layout probe of the tests compares every one with the installed headers.
"""

from __future__ import annotations

from enum import IntEnum


class KvmIoctl(IntEnum):
    """ioctl requests that read or write a section of state (x86-64 encoding)."""

    KVM_GET_REGS = 0x8090AE81
    KVM_SET_REGS = 0x4090AE82
    KVM_GET_SREGS = 0x8138AE83
    KVM_SET_SREGS = 0x4138AE84
    KVM_GET_SREGS2 = 0x8140AECC
    KVM_SET_SREGS2 = 0x4140AECD
    KVM_GET_VCPU_EVENTS = 0x8040AE9F
    KVM_SET_VCPU_EVENTS = 0x4040AEA0
    KVM_GET_MP_STATE = 0x8004AE98
    KVM_SET_MP_STATE = 0x4004AE99
    KVM_GET_DEBUGREGS = 0x8080AEA1
    KVM_SET_DEBUGREGS = 0x4080AEA2
    KVM_GET_XCRS = 0x8188AEA6
    KVM_SET_XCRS = 0x4188AEA7
    KVM_GET_XSAVE = 0x9000AEA4
    KVM_SET_XSAVE = 0x5000AEA5
    KVM_GET_XSAVE2 = 0x9000AECF
    KVM_GET_MSRS = 0xC008AE88
    KVM_SET_MSRS = 0x4008AE89
    KVM_GET_LAPIC = 0x8400AE8E
    KVM_SET_LAPIC = 0x4400AE8F
    KVM_GET_CPUID2 = 0xC008AE91
    KVM_SET_CPUID2 = 0x4008AE90
    KVM_GET_TSC_KHZ = 0x0000AEA3
    KVM_SET_TSC_KHZ = 0x0000AEA2
    KVM_GET_NESTED_STATE = 0xC080AEBE
    KVM_SET_NESTED_STATE = 0x4080AEBF
    KVM_GET_CLOCK = 0x8030AE7C
    KVM_SET_CLOCK = 0x4030AE7B
    KVM_GET_PIT2 = 0x8070AE9F
    KVM_SET_PIT2 = 0x4070AEA0
    KVM_GET_IRQCHIP = 0xC208AE62
    KVM_SET_IRQCHIP = 0x8208AE63


class KvmCap(IntEnum):
    """Capabilities (KVM_CHECK_EXTENSION) that say whether a section or a flag is available."""

    KVM_CAP_IRQCHIP = 0
    KVM_CAP_EXT_CPUID = 7
    KVM_CAP_MP_STATE = 14
    KVM_CAP_PIT2 = 33
    KVM_CAP_PIT_STATE2 = 35
    KVM_CAP_ADJUST_CLOCK = 39
    KVM_CAP_VCPU_EVENTS = 41
    # Never reported although the shadow works: do not gate on it. Linux 6.12, 7.3 kvm_vm_ioctl_check_extension.
    KVM_CAP_INTR_SHADOW = 49
    KVM_CAP_DEBUGREGS = 50
    KVM_CAP_XSAVE = 55
    KVM_CAP_XCRS = 56
    KVM_CAP_GET_TSC_KHZ = 61
    KVM_CAP_X86_SMM = 117
    KVM_CAP_MULTI_ADDRESS_SPACE = 118
    KVM_CAP_NESTED_STATE = 157
    KVM_CAP_EXCEPTION_PAYLOAD = 164
    KVM_CAP_SREGS2 = 200
    KVM_CAP_XSAVE2 = 208
    KVM_CAP_X86_TRIPLE_FAULT_EVENT = 218
