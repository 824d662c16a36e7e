"""The view of kvm_msrs: registers by name, those with named bits decoded."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..layout import U32, U64
from ..model import Model
from ..names.bits import REGISTERS
from ..names.msrs import MsrClass, msr_name, msr_number, msr_row
from ..uapi.msrs import MSRS_MAX_ENTRIES, KvmMsrEntry, KvmMsrs
from .parts import Bits, encode_bits


class MsrView(Model):
    """One entry of the list."""

    name: str
    """The kernel's name, or the number in hex."""
    value: U64 | None = None
    """None where `bits` has it."""
    bits: Bits | None = None
    reserved: U32 = 0

    @classmethod
    def of(cls, entry: KvmMsrEntry) -> MsrView:
        """Return the view of an entry."""
        row = msr_row(entry.index)
        named = row.bits if row else None
        return cls.model_construct(
            name=msr_name(entry.index),
            value=None if named else entry.data,
            bits=REGISTERS[named].decode(entry.data) if named else None,
            reserved=entry.reserved,
        )

    @property
    def number(self) -> int:
        """Return the register's number.

        Raises:
            FieldError: no register has this name.
        """
        return msr_number(self.name)

    @property
    def msr_class(self) -> MsrClass | None:
        """Return what the register is for, None for one that the table does not have."""
        row = msr_row(self.number)
        return row.msr_class if row else None

    def to_struct(self) -> KvmMsrEntry:
        """Return the entry.

        Raises:
            FieldError: no register has this name, or it has no such bits.
        """
        data = self.value
        if data is None:
            row = msr_row(self.number)
            data = encode_bits(self.bits or {}, row.bits if row else None)
        return KvmMsrEntry(index=self.number, reserved=self.reserved, data=data)


class MsrsView(Model):
    """The list in its order; a register may stand in it twice, as hostile input may have it."""

    entries: Annotated[tuple[MsrView, ...], Field(max_length=MSRS_MAX_ENTRIES)]
    pad: U32 = 0

    @classmethod
    def of(cls, msrs: KvmMsrs) -> MsrsView:
        """Return the view of a list."""
        return cls.model_construct(entries=tuple(MsrView.of(entry) for entry in msrs.entries), pad=msrs.pad)

    def to_struct(self) -> KvmMsrs:
        """Return the list.

        Raises:
            FieldError: a name is unknown, or bits are given where there are none.
        """
        entries = tuple(entry.to_struct() for entry in self.entries)
        return KvmMsrs(nmsrs=len(entries), pad=self.pad, entries=entries)
