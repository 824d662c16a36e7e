"""The format of single-instruction vectors, checked.

A vector is an object: `form` (opcode, `.n` = reg field of ModRM), `name`, `init` and `final` with `regs` (16-bit
registers; in `final` those that changed) and `ram` ([linear address, byte] pairs), `exception` where one is taken
(`vector`). `flags_addr` beside it is not read: recordings round it down to an even address.
Source: SingleStepTests/80286, which these are repacked from.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..config import MIB
from ..registers import CS, DS, ES, RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP, SS

RAM_BYTES = 16 * MIB
MAX_RAM_ROWS = 1 << 20
REGISTERS = {"ax": RAX, "bx": RBX, "cx": RCX, "dx": RDX, "sp": RSP, "bp": RBP, "si": RSI, "di": RDI}
SEGMENTS = {"cs": CS, "ds": DS, "es": ES, "ss": SS}
NAMES = (*REGISTERS, *SEGMENTS, "ip", "flags")


class VectorError(ValueError):
    """Something that is no vector; the text says why."""


class Vector(NamedTuple):
    """One test: registers and memory before and after, and the exception that the hardware took, if any."""

    form: str
    name: str
    registers: Mapping[str, int]
    memory: Mapping[int, int]
    final_registers: Mapping[str, int]
    final_memory: Mapping[int, int]
    exception: int | None


def parse_vector(raw: Any) -> Vector:
    """Check one object.

    Raises:
        VectorError: a member is missing, of another kind, or out of bounds.
    """
    try:
        init, final, exception = raw["init"], raw["final"], raw.get("exception") or {}
        registers = _registers(init["regs"])
        if missing := [name for name in NAMES if name not in registers]:
            raise VectorError(f"init.regs lacks {', '.join(missing)}")
        number = exception.get("vector")
        if number is not None and not 0 <= int(number) <= 255:
            raise VectorError(f"exception.vector {number}")
        return Vector(
            str(raw["form"]), str(raw["name"]), registers, _memory(init["ram"]),
            _registers(final.get("regs", {})), _memory(final.get("ram", ())), number,
        )  # fmt: skip
    except VectorError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VectorError(f"{type(error).__name__}: {error}") from error


def _registers(raw: Mapping[str, int]) -> dict[str, int]:
    values = {name: int(value) for name, value in raw.items()}
    if wrong := [name for name, value in values.items() if name not in NAMES or not 0 <= value <= 0xFFFF]:
        raise VectorError(f"register {wrong[0][:32]!r} is unknown or has more than 16 bits")
    return values


def _memory(raw: Any) -> dict[int, int]:
    if len(raw) > MAX_RAM_ROWS:
        raise VectorError(f"{len(raw)} bytes of ram: at most {MAX_RAM_ROWS}")
    rows = {int(address): int(byte) for address, byte in raw}
    if any(not (0 <= address < RAM_BYTES and 0 <= byte <= 255) for address, byte in rows.items()):
        raise VectorError(f"ram: addresses below {RAM_BYTES:#x} and bytes are needed")
    return rows
