"""kvm_xsave: x87, SSE, AVX and further register state in the standard XSAVE format."""

from __future__ import annotations

from typing import Annotated, ClassVar

from ..layout import CBytes, CFlexBytes, CStruct

XSAVE_MAX_BYTES = 64 * 1024
"""AMX needs 11 008 bytes, the largest area that exists; 64 KiB leaves room and bounds hostile input."""


class KvmXsave(CStruct):
    """struct kvm_xsave: 4096 bytes, and as many more as KVM_CAP_XSAVE2 says (Linux 5.17).

    Components above offset 576 lie where CPUID leaf 0xD of the saving host says; they are carried, never moved.
    Source: Linux 6.12 arch/x86/include/uapi/asm/kvm.h; SDM vol. 1 13.4 XSAVE Area.
    """

    C_NAME: ClassVar[str | None] = "kvm_xsave"
    SIZE: ClassVar[int] = 4096

    region: Annotated[bytes, CBytes(4096)]
    extra: Annotated[bytes, CFlexBytes(XSAVE_MAX_BYTES - 4096, granule=4)] = b""

    def _le(self, offset: int, size: int) -> int:
        return int.from_bytes(self.region[offset : offset + size], "little")

    @property
    def mxcsr(self) -> int:
        """Return MXCSR; it travels only here (KVM_GET_FPU does not fill it)."""
        return self._le(24, 4)

    @property
    def mxcsr_mask(self) -> int:
        """Return the mask of MXCSR bits that the saving CPU has; 0 stands for 0xFFBF."""
        return self._le(28, 4)

    @property
    def xstate_bv(self) -> int:
        """Return the bitmap of components that are not in their initial state."""
        return self._le(512, 8)

    @property
    def xcomp_bv(self) -> int:
        """Return XCOMP_BV; nonzero means the compacted form, which KVM_SET_XSAVE refuses."""
        return self._le(520, 8)
