"""migsvc_tsc_offset: guest TSC minus host TSC. Ours: the kernel passes it behind a device attribute."""

from __future__ import annotations

from typing import ClassVar

from ..layout import S64, CStruct

KVM_VCPU_TSC_CTRL = 0
"""The group of vCPU device attributes."""
KVM_VCPU_TSC_OFFSET = 0
"""The attribute in it."""


class MigsvcTscOffset(CStruct):
    """The attribute KVM_VCPU_TSC_OFFSET of group KVM_VCPU_TSC_CTRL, as eight bytes; in ticks of the guest's TSC.

    It means something beside the clock section that was read with it: the destination adds the time that passed and
    takes off the difference of the two hosts' TSCs. The kernel's type is u64, the meaning is signed.
    Source: Linux 6.12 Documentation/virt/kvm/devices/vcpu.rst 4.1; kvm_arch_tsc_set_attr.
    """

    C_NAME: ClassVar[str | None] = "migsvc_tsc_offset"
    SIZE: ClassVar[int] = 8

    tsc_offset: S64
