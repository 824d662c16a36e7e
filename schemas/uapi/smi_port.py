"""migsvc_smi_port: the SMI command port 0xB2 and the one-shot SMI timer. Ours."""

from __future__ import annotations

from typing import Annotated, ClassVar

from ..layout import U8, U64, CBytes, CStruct


class MigsvcSmiPort(CStruct):
    """The bytes last written to the command and status ports, and the deadline of the timer in virtual ns."""

    C_NAME: ClassVar[str | None] = "migsvc_smi_port"
    SIZE: ClassVar[int] = 16

    command: U8
    status: U8
    timer_armed: U8
    pad: Annotated[bytes, CBytes(5)] = bytes(5)
    timer_deadline_ns: U64
