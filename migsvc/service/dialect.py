"""What two hosts can say to each other: the schema version, and where the shadow put aside by an SMI travels.

A host keeps its VMs in the highest version. At its boundary, on a connection or in a file, the state is turned into
what the other side reads, and what that loses is told. Nothing here decides whether a loss is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from migsvc.config import Settings
from migsvc.errors import PeerError
from migsvc.stream.records import Sections
from schemas.compat import HostProfile
from schemas.memory import MemoryMap
from schemas.shadow import SVM_VENDORS, VMX_VENDORS, SmmCarrier, SmramWrite, best_carrier
from schemas.state import MachineSections
from schemas.versions import SCHEMA_VERSION, SUPPORTED_SCHEMA_VERSIONS, version_row
from schemas.versions.converters import Converted, convert_version, highest_common, to_carrier

_CARRIERS: Mapping[str, tuple[SmmCarrier, ...]] = {
    "all": tuple(SmmCarrier),
    "smram": (SmmCarrier.SMRAM,),
    "none": (),
}
"""Setting `smm_carriers` -> those of the backend's carriers that the host speaks."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one host reads. `carrier` is where it looks for a shadow put aside, None: nowhere, as Linux before 6.2."""

    schema_version: int
    carrier: SmmCarrier | None
    vendor: str | None = None


class RamView:
    """Guest RAM by address: what conversions read of SMRAM, and write to it."""

    def __init__(self, memory: MemoryMap, ram: memoryview) -> None:
        """Look at `ram`, the backing of the map's `ram_bytes`."""
        self._map = memory
        self._ram = ram

    def offset(self, as_id: int, gpa: int) -> int:
        """Return the backing offset of an address.

        Raises:
            LookupError: no memory slot holds it.
        """
        offset = self._map.translate(as_id, gpa)
        if offset is None:
            raise LookupError(f"no memory slot of address space {as_id} holds {gpa:#x}")
        return offset

    def read(self, as_id: int, gpa: int, size: int) -> bytes:
        """Return bytes of guest memory.

        Raises:
            LookupError: a byte of them belongs to no memory slot.
        """
        return bytes(self._ram[self.offset(as_id, at)] for at in range(gpa, gpa + size))

    def apply(self, writes: tuple[SmramWrite, ...]) -> list[int]:
        """Put what a conversion wants written into memory; return the backing offset of every byte."""
        done = []
        for write in writes:
            for at, byte in enumerate(write.data):
                done.append(self.offset(write.as_id, write.gpa + at))
                self._ram[done[-1]] = byte
        return done


def spoken_versions(settings: Settings) -> tuple[int, ...]:
    """Return the schema versions that this host speaks, ascending."""
    return tuple(version for version in SUPPORTED_SCHEMA_VERSIONS if version <= settings.schema_version)


def within(profile: HostProfile, settings: Settings) -> HostProfile:
    """Return a backend's profile within the limits of a host's settings."""
    row = version_row(settings.schema_version)
    carriers = [c for c in profile.smm_carriers if c in _CARRIERS[settings.smm_carriers]]
    nibble = row.smm_nibble and SmmCarrier.EVENTS_NIBBLE in carriers
    return profile.model_copy(
        update={
            "max_ram_bytes": min(profile.max_ram_bytes, settings.max_ram_bytes),
            "schema_versions": spoken_versions(settings),
            "smm_carriers": tuple(c for c in carriers if nibble or c is not SmmCarrier.EVENTS_NIBBLE),
            "event_flags": profile.event_flags & (row.event_flags if nibble else version_row(1).event_flags),
            "vcpu_sections": tuple(name for name in profile.vcpu_sections if name in row.vcpu_sections),
            "vm_sections": tuple(name for name in profile.vm_sections if name in row.vm_sections),
        }
    )


def own_dialect(profile: HostProfile) -> Dialect:
    """Return what this host itself reads and writes to files; `profile` is its own."""
    version = max(profile.schema_versions)
    return Dialect(version, best_carrier(profile.smm_carriers, profile.event_flags, version))


def agree(spoken: tuple[int, ...], peer: str, profile: Mapping[str, Any]) -> Dialect:
    """Return what to say to a peer: the highest version that both speak, and the best carrier that it has.

    `profile` is what the peer says of itself; members that a later release has added are passed over.

    Raises:
        PeerError: there is no common version, or the profile is none.
    """
    versions, carriers = _listed(profile, "schema_versions"), _listed(profile, "smm_carriers")
    flags, vendor = profile.get("event_flags"), profile.get("vendor")
    if not versions or not all(isinstance(version, int) for version in versions) or not isinstance(flags, int):
        raise PeerError(f"{peer} does not say which schema versions it speaks", hint="is it a migsvc agent?")
    version = highest_common(spoken, versions)
    if version is None:
        raise PeerError(
            f"{peer} speaks schema versions {', '.join(map(str, versions[:16]))}, "
            f"this host {', '.join(map(str, spoken))}",
            hint="bring the older host up to date",
        )
    known = [carrier for carrier in SmmCarrier if carrier in carriers]
    return Dialect(version, best_carrier(known, flags, version), vendor if isinstance(vendor, str) else None)


def _listed(profile: Mapping[str, Any], name: str) -> list[Any]:
    value = profile.get(name)
    return list(value) if isinstance(value, list | tuple) else []


def to_dialect(vm: Sections, vcpus: Sequence[Sections], dialect: Dialect, memory: RamView | None) -> Converted:
    """Return what this host saved in the words of another; the very sections where they are the same.

    Raises:
        SchemaError: the sections are no machine.
    """
    sections = MachineSections(dict(vm), [dict(vcpu) for vcpu in vcpus])
    vendor = dialect.vendor if dialect.vendor in VMX_VENDORS | SVM_VENDORS else None
    version, carrier = dialect.schema_version, dialect.carrier
    if version < SCHEMA_VERSION:
        return convert_version(
            sections, source=SCHEMA_VERSION, target=version, memory=memory, carrier=carrier, vendor=vendor
        )
    if carrier is SmmCarrier.EVENTS_NIBBLE and vendor is None:
        return Converted(sections, version)
    return to_carrier(sections, version, carrier, memory, vendor)


def from_version(vm: Sections, vcpus: Sequence[Sections], version: int, own: Dialect, memory: RamView) -> Converted:
    """Return what another host wrote in the version in which VMs are kept here.

    SMRAM is looked at only by a host that does so when a guest leaves SMM.

    Raises:
        SchemaError: the sections are no machine.
    """
    sections = MachineSections(dict(vm), [dict(vcpu) for vcpu in vcpus])
    at_hand = None if own.carrier is None else memory
    if version < SCHEMA_VERSION:
        return convert_version(sections, source=version, target=SCHEMA_VERSION, memory=at_hand)
    if at_hand is None:
        return Converted(sections, version)
    return to_carrier(sections, version, SmmCarrier.EVENTS_NIBBLE, at_hand)
