"""migsvc_tsc_khz: the guest's TSC frequency. Ours: the kernel passes it as a plain argument, not as a struct."""

from __future__ import annotations

from typing import ClassVar

from ..layout import U32, CStruct


class MigsvcTscKhz(CStruct):
    """What KVM_GET_TSC_KHZ returns and KVM_SET_TSC_KHZ takes, as four bytes.

    Source: Linux 6.12 Documentation/virt/kvm/api.rst 4.55.
    """

    C_NAME: ClassVar[str | None] = "migsvc_tsc_khz"
    SIZE: ClassVar[int] = 4

    tsc_khz: U32
