"""MemoryMap and KVM's memory regions: there and back; what a map cannot express is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import SchemaError
from schemas.memory import MAX_SLOTS, PAGE_BYTES, MemoryMap, MemorySlot
from schemas.memory_regions import USERSPACE_LIMIT, map_of, regions_of, slot_word
from schemas.uapi.memory_slots import KvmUserspaceMemoryRegion

PAGE = PAGE_BYTES
BASE = 0x7F00_0000_0000


def smm_map():
    """Return a map with a read-only slot and memory of SMM's own."""
    slots = (
        MemorySlot(as_id=0, slot=0, gpa=0, size_bytes=16 * PAGE, flags=1, backing_offset_bytes=0),
        MemorySlot(as_id=0, slot=1, gpa=1 << 32, size_bytes=PAGE, flags=2, backing_offset_bytes=16 * PAGE),
        MemorySlot(as_id=1, slot=0, gpa=0x30000, size_bytes=4 * PAGE, backing_offset_bytes=17 * PAGE),
    )
    return MemoryMap(slots=slots, ram_bytes=21 * PAGE)


def region(**changed):
    fields = {"slot": 0, "flags": 0, "guest_phys_addr": 0, "memory_size": PAGE, "userspace_addr": BASE}
    return KvmUserspaceMemoryRegion(**{**fields, **changed})


def test_regions_say_what_the_map_says_in_kvms_terms():
    regions = regions_of(smm_map(), BASE)
    assert [(r.slot, r.flags, r.guest_phys_addr, r.memory_size, r.userspace_addr) for r in regions] == [
        (0, 1, 0, 16 * PAGE, BASE),
        (1, 2, 1 << 32, PAGE, BASE + 16 * PAGE),
        (0x10000, 0, 0x30000, 4 * PAGE, BASE + 17 * PAGE),
    ]
    assert [(r.as_id, r.slot_id) for r in regions] == [(0, 0), (0, 1), (1, 0)]


def test_a_map_comes_back_from_its_regions_at_any_address():
    for base in (PAGE, BASE, USERSPACE_LIMIT - 21 * PAGE):
        assert map_of(regions_of(smm_map(), base), base, 21 * PAGE) == smm_map()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 20), st.integers(0, 30)), max_size=12))
def test_every_map_comes_back(pieces):
    slots, gpa = [], {0: 0, 1: 0}
    for number, (as_id, pages, offset) in enumerate(pieces):
        slots.append(
            MemorySlot(
                as_id=as_id, slot=number, gpa=gpa[as_id], size_bytes=pages * PAGE, backing_offset_bytes=offset * PAGE
            )
        )
        gpa[as_id] += pages * PAGE
    held = MemoryMap(slots=tuple(slots), ram_bytes=50 * PAGE)
    assert map_of(regions_of(held, BASE), BASE, 50 * PAGE) == held


@pytest.mark.parametrize("base", [0, 1, BASE + 1, USERSPACE_LIMIT, USERSPACE_LIMIT - 20 * PAGE, -PAGE])
def test_an_address_where_the_backing_cannot_be_is_refused(base):
    with pytest.raises(SchemaError, match="userspace_addr"):
        regions_of(smm_map(), base)


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"memory_size": 0}, r"regions\[0\].memory_size"),
        ({"userspace_addr": BASE - PAGE}, r"regions\[0\].userspace_addr"),
        ({"userspace_addr": BASE + 5 * PAGE}, r"regions\[0\].userspace_addr"),
        ({"userspace_addr": BASE + 4 * PAGE}, "backing ends behind"),
        ({"memory_size": 5 * PAGE}, "backing ends behind"),
        ({"memory_size": 1}, "not a multiple"),
        ({"guest_phys_addr": 5}, "not a multiple"),
        ({"flags": 4}, "flags"),
        ({"slot": 2 << 16}, "as_id"),
        ({"slot": 0x8000}, "slot"),
    ],
)
def test_a_region_that_a_map_cannot_express_is_refused(changed, where):
    with pytest.raises(SchemaError, match=where):
        map_of([region(**changed)], BASE, 4 * PAGE)


def test_regions_without_bound_are_refused():
    with pytest.raises(SchemaError, match=f"at most {MAX_SLOTS}"):
        map_of([region()] * (MAX_SLOTS + 1), BASE, 4 * PAGE)


@pytest.mark.parametrize(("as_id", "slot"), [(-1, 0), (0, -1), (0x10000, 0), (0, 0x10000)])
def test_a_slot_word_has_sixteen_bits_for_each_part(as_id, slot):
    with pytest.raises(ValueError, match="does not fit 16 bits"):
        slot_word(as_id, slot)
    assert slot_word(0xFFFF, 0xFFFF) == 0xFFFFFFFF
