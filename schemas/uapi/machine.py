"""migsvc_machine: virtual time and the debug-exit port. Ours."""

from __future__ import annotations

from typing import Annotated, ClassVar

from ..layout import U8, U32, U64, CBytes, CStruct


class MigsvcMachine(CStruct):
    """How far the machine has run; `now_ns` is virtual time since its creation."""

    C_NAME: ClassVar[str | None] = "migsvc_machine"
    SIZE: ClassVar[int] = 24

    now_ns: U64
    retired_instructions: U64
    ns_per_instruction: U32
    debug_exit_done: U8
    debug_exit_code: U8
    pad: Annotated[bytes, CBytes(2)] = bytes(2)
