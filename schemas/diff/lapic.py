"""The local APIC: registers by name, vectors that came and went, timer and LVTs by their bits."""

from __future__ import annotations

from ..areas import VECTOR_SETS, VECTOR_SLOT_BYTES
from ..names.apic import APIC_REGISTERS, VECTOR_BANKS
from ..names.bits import REGISTERS
from ..paths import Parts
from ..uapi.lapic import KvmLapicState
from .change import Found
from .compare import compare_bytes, say_bits, special
from .words import listed

_BANKED = {f"{name}{n}" for name in VECTOR_SETS for n in range(VECTOR_BANKS)}
_REGISTER_BYTES = 4


@special(KvmLapicState)
def lapic(found: Found, parts: Parts, old: KvmLapicState, new: KvmLapicState) -> None:
    """Tell registers in the order of the page, each set of vectors where it begins, then reserved bytes."""
    told = bytearray(old.regs)
    for row in APIC_REGISTERS:
        before, after = old.register(row.offset), new.register(row.offset)
        told[row.offset : row.offset + _REGISTER_BYTES] = after.to_bytes(_REGISTER_BYTES, "little")
        if row.name in _BANKED:
            if row.name.endswith("0"):
                _vectors(found, (*parts, row.name[:-1]), _bank(old, row.offset), _bank(new, row.offset))
        elif before != after and row.bits is not None:
            say_bits(found, (*parts, row.name), before, after, REGISTERS[row.bits], _REGISTER_BYTES)
        elif before != after:
            found.say((*parts, row.name), f"{before:#x} -> {after:#x}", before, after)
    compare_bytes(found, (*parts, "regs"), bytes(told), new.regs)


def _bank(state: KvmLapicState, offset: int) -> int:
    """Return a set of vectors as one number of 256 bits."""
    return sum(state.register(offset + VECTOR_SLOT_BYTES * n) << 32 * n for n in range(VECTOR_BANKS))


def _vectors(found: Found, parts: Parts, old: int, new: int) -> None:
    come, gone = _bits(new & ~old), _bits(old & ~new)
    texts = [f"{word} {listed(map(hex, some))}" for word, some in (("added", come), ("removed", gone)) if some]
    if texts:
        found.say(parts, "vectors " + ", ".join(texts), list(map(hex, _bits(old))), list(map(hex, _bits(new))))


def _bits(value: int) -> list[int]:
    return [bit for bit in range(32 * VECTOR_BANKS) if value >> bit & 1]
