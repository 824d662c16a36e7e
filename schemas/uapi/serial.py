"""migsvc_serial: a 16550 serial port. Ours: KVM has no serial port."""

from __future__ import annotations

from typing import Annotated, ClassVar

from ..layout import U8, U16, U64, CBytes, CStruct

RX_FIFO_BYTES = 16


class MigsvcSerial(CStruct):
    """The registers of the port, its receive FIFO, and how many bytes the guest has ever sent.

    `tx_bytes` numbers the console output across migrations, so that a reader sees neither a gap nor a repetition.
    Source: National Semiconductor PC16550D data sheet, section 8.
    """

    C_NAME: ClassVar[str | None] = "migsvc_serial"
    SIZE: ClassVar[int] = 40

    ier: U8
    iir: U8
    fcr: U8
    lcr: U8
    mcr: U8
    lsr: U8
    msr: U8
    scr: U8
    divisor: U16
    thri_pending: U8
    rx_len: U8
    pad: Annotated[bytes, CBytes(4)] = bytes(4)
    rx_fifo: Annotated[bytes, CBytes(RX_FIFO_BYTES)]
    tx_bytes: U64
