"""The view of kvm_cpuid2: features by name, and vendor, model and brand of the processor."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field

from ..errors import FieldError, Problem
from ..layout import U32
from ..model import Model
from ..names.cpuid import FEATURE_WORDS, VENDORS, FeatureWord, Register, feature_word
from ..uapi.cpuid2 import KVM_MAX_CPUID_ENTRIES, KvmCpuid2, KvmCpuidEntry2

_REGISTERS: tuple[Register, ...] = ("eax", "ebx", "ecx", "edx")
_BRAND_LEAVES = (0x80000002, 0x80000003, 0x80000004)


class FeatureSet(Model):
    """A register whose bits are features: the names of those set, and the bits that have none."""

    features: tuple[str, ...]
    other: U32 = 0


class CpuidEntryView(Model):
    """One leaf or subleaf."""

    function: U32
    index: U32
    flags: U32
    eax: U32 | FeatureSet
    ebx: U32 | FeatureSet
    ecx: U32 | FeatureSet
    edx: U32 | FeatureSet
    padding: Annotated[tuple[U32, ...], Field(min_length=3, max_length=3)] = (0, 0, 0)

    @classmethod
    def of(cls, entry: KvmCpuidEntry2) -> CpuidEntryView:
        """Return the view of an entry."""
        return cls.model_construct(
            function=entry.function,
            index=entry.index,
            flags=entry.flags,
            eax=_decoded(entry, "eax"),
            ebx=_decoded(entry, "ebx"),
            ecx=_decoded(entry, "ecx"),
            edx=_decoded(entry, "edx"),
            padding=entry.padding,
        )

    def to_struct(self) -> KvmCpuidEntry2:
        """Return the entry.

        Raises:
            FieldError: a feature is not one of this register.
        """
        values = {name: self._encoded(name) for name in _REGISTERS}
        return KvmCpuidEntry2(
            function=self.function, index=self.index, flags=self.flags, padding=self.padding, **values
        )

    def _encoded(self, name: Register) -> int:
        held: int | FeatureSet = getattr(self, name)
        if isinstance(held, int):
            return held
        word = feature_word(self.function, self.index, name)
        bits = {feature: bit for bit, feature in word.names.items()} if word else {}
        unknown = [feature for feature in held.features if feature not in bits]
        if unknown:
            where = f"cpuid2 {self.function:#x}.{self.index} {name}"
            raise FieldError([Problem(where=where, message=f"no feature {feature[:64]!r} here") for feature in unknown])
        return held.other | sum(1 << bits[feature] for feature in set(held.features))


def _decoded(entry: KvmCpuidEntry2, name: Register) -> int | FeatureSet:
    value: int = getattr(entry, name)
    word = feature_word(entry.function, entry.index, name)
    if word is None:
        return value
    named = sum(1 << bit for bit in word.names)
    return FeatureSet.model_construct(features=tuple(word.features(value & named)), other=value & ~named)


class CpuModel(NamedTuple):
    """Which processor CPUID names: display family and model, as the manuals and /proc/cpuinfo count them."""

    vendor: str
    family: int
    model: int
    stepping: int
    brand: str

    def __str__(self) -> str:
        """Return one line for people."""
        text = f"{self.vendor} family {self.family:#x} model {self.model:#x} stepping {self.stepping}"
        return f"{text}, {self.brand}" if self.brand else text


class CpuidView(Model):
    """All entries in their order."""

    entries: Annotated[tuple[CpuidEntryView, ...], Field(max_length=KVM_MAX_CPUID_ENTRIES)]
    padding: U32 = 0

    @classmethod
    def of(cls, cpuid: KvmCpuid2) -> CpuidView:
        """Return the view of a list of entries."""
        return cls.model_construct(entries=tuple(map(CpuidEntryView.of, cpuid.entries)), padding=cpuid.padding)

    def to_struct(self) -> KvmCpuid2:
        """Return the list.

        Raises:
            FieldError: a feature is not one of its register.
        """
        entries = tuple(entry.to_struct() for entry in self.entries)
        return KvmCpuid2(nent=len(entries), padding=self.padding, entries=entries)


def features_of(cpuid: KvmCpuid2) -> list[tuple[FeatureWord, int]]:
    """Return each feature word that CPUID has a leaf for, with its value, in the order of the table."""
    found = []
    for word in FEATURE_WORDS:
        entry = cpuid.leaf(word.function, word.subleaf)
        if entry is not None:
            found.append((word, getattr(entry, word.register)))
    return found


def cpu_model(cpuid: KvmCpuid2) -> CpuModel | None:
    """Return which processor CPUID names, or None without leaves 0 and 1.

    Source: SDM vol. 2A CPUID leaf 1; APM vol. 3 E.3.2.
    """
    first = cpuid.leaf(1)
    vendor = cpuid.vendor
    if first is None or vendor is None:
        return None
    eax = first.eax
    family, model = eax >> 8 & 15, eax >> 4 & 15
    if family in (6, 15):
        model |= eax >> 12 & 0xF0
    if family == 15:
        family += eax >> 20 & 0xFF
    return CpuModel(VENDORS.get(vendor, printable(vendor)), family, model, eax & 15, _brand(cpuid))


def printable(text: str) -> str:
    """Return the text with everything that a terminal would act on replaced by "?"."""
    return "".join(c if c.isprintable() and c.isascii() else "?" for c in text)


def _brand(cpuid: KvmCpuid2) -> str:
    raw = b""
    for function in _BRAND_LEAVES:
        entry = cpuid.leaf(function)
        if entry is not None:
            raw += b"".join(getattr(entry, name).to_bytes(4, "little") for name in _REGISTERS)
    return " ".join(printable(raw.split(b"\0")[0].decode("ascii", "replace")).split())
