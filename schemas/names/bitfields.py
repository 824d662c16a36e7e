"""A register as named fields: the lossless way between its value and what its bits are called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from ..errors import FieldError, Problem

RESERVED = "reserved"
"""Key of a decoded register under which the bits stand that no field names, in place (not shifted)."""


class BitField(NamedTuple):
    """Some adjoining bits of a register: `low` is the lowest, `values` gives words to numbers.

    `active_low`: the bit says something when it is 0 (DR6.RTM).
    """

    name: str
    low: int
    width: int = 1
    text: str = ""
    values: Mapping[int, str] | None = None
    active_low: bool = False

    @property
    def mask(self) -> int:
        """Return the bits of the field in place."""
        return ((1 << self.width) - 1) << self.low

    def get(self, value: int) -> int:
        """Return the field out of the register's value."""
        return value >> self.low & ((1 << self.width) - 1)

    def put(self, value: int, field: int) -> int:
        """Return the register's value with this field in it.

        Raises:
            FieldError: the number has more bits than the field.
        """
        if not 0 <= field < 1 << self.width:
            text = f"{field:#x} does not fit {self.width} bit{'s' if self.width > 1 else ''}"
            raise FieldError([Problem(where=self.name, message=text, hint=f"0 to {(1 << self.width) - 1:#x}")])
        return value & ~self.mask | field << self.low

    def word(self, field: int) -> str:
        """Return the number in words if it has one: "fixed", otherwise "5" or "0xfee00"."""
        if self.values is not None and field in self.values:
            return self.values[field]
        return str(field) if field < 16 else hex(field)


class RegisterBits:
    """The fields of one register, `width` bits wide; bits without a field are reserved.

    `ones` are reserved bits that the processor keeps at 1. `decode` and `encode` are inverse on every value that
    `width` bits can hold, reserved bits included.
    """

    def __init__(self, name: str, width: int, fields: tuple[BitField, ...], source: str, *, ones: int = 0) -> None:
        """Keep the fields, lowest bit first."""
        self.name = name
        self.width = width
        self.fields = tuple(sorted(fields, key=lambda field: field.low))
        self.source = source
        self.ones = ones

    def __repr__(self) -> str:
        return f"RegisterBits({self.name!r}, {self.width}, {len(self.fields)} fields)"

    @cached_property
    def named(self) -> int:
        """The mask of all bits that a field names."""
        mask = 0
        for field in self.fields:
            mask |= field.mask
        return mask

    @cached_property
    def _by_name(self) -> dict[str, BitField]:
        return {field.name.lower(): field for field in self.fields}

    def field(self, name: str) -> BitField:
        """Return the field of this name, in any case ("if" finds IF).

        Raises:
            FieldError: the register has no such field.
        """
        found = self._by_name.get(name.lower())
        if found is None:
            known = ", ".join(field.name for field in self.fields)
            raise FieldError([Problem(where=f"{self.name}.{name}", message="no such bits", hint=f"known: {known}")])
        return found

    def decode(self, value: int) -> dict[str, int]:
        """Return each field's number by name, and under "reserved" the bits that no field names.

        Raises:
            FieldError: the value does not fit the register.
        """
        self._fits(value)
        decoded = {field.name: field.get(value) for field in self.fields}
        decoded[RESERVED] = value & ~self.named
        return decoded

    def encode(self, fields: Mapping[str, int]) -> int:
        """Return the value that has these fields; a field left out is zero.

        Raises:
            FieldError: a name is unknown, a number does not fit, or "reserved" holds bits that have a name.
        """
        value = fields.get(RESERVED, 0)
        self._fits(value)
        if value & self.named:
            text = f"{value & self.named:#x} has a name and is not reserved"
            raise FieldError([Problem(where=f"{self.name}.{RESERVED}", message=text)])
        for name, number in fields.items():
            if name != RESERVED:
                value = self.field(name).put(value, number)
        return value

    def describe(self, value: int) -> str:
        """Return what the value says: "CF ZF IOPL=3 reserved=0x8000"; "-" if nothing.

        Bits that have to be 1 are left out while they are, and told as "cleared=0x2" if they are not.
        """
        return " ".join(self._words(value)) or "-"

    def _words(self, value: int) -> Iterator[str]:
        for field in self.fields:
            number = field.get(value)
            if field.values is not None and field.width > 1:
                if number or 0 in field.values:
                    yield f"{field.name}={field.word(number)}"
            elif bool(number) != field.active_low:
                yield field.name if field.width == 1 else f"{field.name}={field.word(number)}"
        reserved = value & ~self.named
        if reserved & ~self.ones:
            yield f"{RESERVED}={reserved & ~self.ones:#x}"
        if self.ones & ~reserved:
            yield f"cleared={self.ones & ~reserved:#x}"

    def _fits(self, value: int) -> None:
        if not 0 <= value < 1 << self.width:
            text = f"{value:#x} does not fit {self.width} bits"
            raise FieldError([Problem(where=self.name, message=text)])
