"""kvm_fpu: x87 and SSE registers without the XSAVE header."""

from __future__ import annotations

from typing import Annotated, ClassVar

from ..layout import U8, U16, U32, U64, CBytes, CStruct


class KvmFpu(CStruct):
    """struct kvm_fpu.

    A subset of `xsave`, for kernels and monitors that use it. `fpr` holds ST0 to ST7 and `xmm` XMM0 to XMM15, 16 bytes
    each; `ftwx` is the abridged tag word. KVM neither fills nor reads `mxcsr`: it travels in `xsave` only.
    Source: Linux 6.12 arch/x86/include/uapi/asm/kvm.h; kvm_arch_vcpu_ioctl_get_fpu, kvm_arch_vcpu_ioctl_set_fpu.
    """

    C_NAME: ClassVar[str | None] = "kvm_fpu"
    SIZE: ClassVar[int] = 416

    fpr: Annotated[bytes, CBytes(128)]
    fcw: U16
    fsw: U16
    ftwx: U8
    pad1: U8 = 0
    last_opcode: U16
    last_ip: U64
    last_dp: U64
    xmm: Annotated[bytes, CBytes(256)]
    mxcsr: U32
    pad2: U32 = 0

    def st(self, number: int) -> bytes:
        """Return register ST`number` as its 10 bytes; the 6 behind them are padding.

        Raises:
            ValueError: there are ST0 to ST7.
        """
        if not 0 <= number < 8:
            raise ValueError(f"ST{number}: there are ST0 to ST7")
        return self.fpr[16 * number : 16 * number + 10]
