"""Between `MemoryMap` and the slots that KVM_SET_USER_MEMORY_REGION takes.

A map speaks of offsets in one backing of RAM; KVM speaks of addresses in the process that owns the VM. The address
where that process has mapped the backing is all that lies between the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .errors import Problem, SchemaError, parse_as
from .memory import MAX_SLOTS, PAGE_BYTES, MemoryMap
from .uapi.memory_slots import KvmUserspaceMemoryRegion

MAX_SLOT_ID = 0xFFFF
USERSPACE_LIMIT = 1 << 56
"""Addresses of user space are below it, with five levels of paging too. Source: SDM vol. 3A 4.5.1."""


def slot_word(as_id: int, slot: int) -> int:
    """Return the field `slot` of KVM's structs: the address space in bits 16 to 31, the number in bits 0 to 15.

    Raises:
        ValueError: a part does not fit its 16 bits.
    """
    if not (0 <= as_id <= 0xFFFF and 0 <= slot <= MAX_SLOT_ID):
        raise ValueError(f"slot {slot} of address space {as_id} does not fit 16 bits each")
    return as_id << 16 | slot


def regions_of(memory: MemoryMap, userspace_addr: int) -> tuple[KvmUserspaceMemoryRegion, ...]:
    """Return the slots in the order of the map, for a backing that is mapped at `userspace_addr`.

    Raises:
        SchemaError: the backing does not fit at that address, or the address is not page-aligned.

    Source: Linux 6.12 Documentation/virt/kvm/api.rst 4.35; virt/kvm/kvm_main.c __kvm_set_memory_region.
    """
    if userspace_addr % PAGE_BYTES or not 0 < userspace_addr <= USERSPACE_LIMIT - memory.ram_bytes:
        text = f"{userspace_addr:#x} is no page-aligned address with room for {memory.ram_bytes:#x} bytes"
        raise SchemaError([Problem(where="userspace_addr", message=text, hint="the address that mmap returned")])
    return tuple(
        KvmUserspaceMemoryRegion(
            slot=slot_word(slot.as_id, slot.slot),
            flags=slot.flags,
            guest_phys_addr=slot.gpa,
            memory_size=slot.size_bytes,
            userspace_addr=userspace_addr + slot.backing_offset_bytes,
        )
        for slot in memory.slots
    )


def map_of(regions: Sequence[KvmUserspaceMemoryRegion], userspace_addr: int, ram_bytes: int) -> MemoryMap:
    """Return the map of slots over a backing of `ram_bytes` that is mapped at `userspace_addr`.

    Regions of size 0 are deletions and have no place in a map.

    Raises:
        SchemaError: a region shows other memory than the backing, has a flag or an address space that a map has not, or
            the slots together are no legal map; every reason is listed.
    """
    if len(regions) > MAX_SLOTS:
        raise SchemaError([Problem(where="regions", message=f"{len(regions)} regions, at most {MAX_SLOTS}")])
    problems = list(_region_problems(regions, userspace_addr, ram_bytes))
    if problems:
        raise SchemaError(problems)
    slots = [
        {
            "as_id": region.as_id,
            "slot": region.slot_id,
            "gpa": region.guest_phys_addr,
            "size_bytes": region.memory_size,
            "flags": region.flags,
            "backing_offset_bytes": region.userspace_addr - userspace_addr,
        }
        for region in regions
    ]
    return parse_as(MemoryMap, {"slots": slots, "ram_bytes": ram_bytes})


def _region_problems(
    regions: Iterable[KvmUserspaceMemoryRegion], userspace_addr: int, ram_bytes: int
) -> Iterable[Problem]:
    """Say what of each region a map cannot express; what is wrong between slots is for the map itself."""
    for number, region in enumerate(regions):
        where = f"regions[{number}]"
        if region.memory_size == 0:
            yield Problem(where=f"{where}.memory_size", message="0 deletes a slot", hint="leave it out")
        if not userspace_addr <= region.userspace_addr <= userspace_addr + ram_bytes:
            text = f"{region.userspace_addr:#x} is outside the backing at {userspace_addr:#x}"
            yield Problem(where=f"{where}.userspace_addr", message=text, hint="one backing holds all RAM")
