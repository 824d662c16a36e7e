"""Dirty bitmaps and rings in KVM's form."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.dirty_bitmap import (
    MAX_PAGES,
    bitmap_bytes,
    clear_ranges,
    decode,
    decode_runs,
    encode,
    harvest,
    merge_slots,
)
from schemas.errors import SchemaError
from schemas.memory import PAGE_BYTES, MemoryMap, MemorySlot
from schemas.uapi.dirty_log import KvmDirtyGfn

PAGE = PAGE_BYTES
DIRTY, RESET = 1, 2


def slot(as_id=0, number=0, pages=100, gpa=0, backing=0):
    return MemorySlot(
        as_id=as_id, slot=number, gpa=gpa * PAGE, size_bytes=pages * PAGE, backing_offset_bytes=backing * PAGE
    )


@pytest.mark.parametrize(("pages", "size"), [(0, 0), (1, 8), (64, 8), (65, 16), (128, 16), (1 << 20, 1 << 17)])
def test_a_bitmap_is_whole_words_of_64_bits(pages, size):
    assert bitmap_bytes(pages) == len(encode([], pages)) == size


@pytest.mark.parametrize("pages", [-1, MAX_PAGES + 1, 1 << 70])
def test_a_bitmap_beyond_all_ram_is_refused(pages):
    with pytest.raises(ValueError, match="pages, expected"):
        bitmap_bytes(pages)


def test_bit_i_is_page_i():
    assert encode([0, 9, 64], 100) == b"\x01\x02" + bytes(6) + b"\x01" + bytes(7)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 300).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, max(n - 1, 0))))))
def test_pages_survive_the_bitmap(case):
    pages, dirty = case
    dirty = dirty if pages else set()
    bitmap = encode(dirty, pages)
    assert decode(bitmap, pages) == sorted(dirty)
    runs = list(decode_runs(bitmap, pages))
    assert [page for start, end in runs for page in range(start, end)] == sorted(dirty)
    assert all(a[1] < b[0] for a, b in pairwise(runs))


@pytest.mark.parametrize("page", [-1, 100])
def test_a_page_that_is_not_there_is_refused(page):
    with pytest.raises(ValueError, match="of 100"):
        encode([page], 100)


@pytest.mark.parametrize(
    ("bitmap", "message"),
    [(bytes(8), "8 bytes, expected 16"), (bytes(24), "24 bytes"), (bytes(15) + b"\x01", "bit 120 is set")],
)
def test_a_bitmap_that_does_not_fit_the_slot_is_refused_before_anything_is_read(bitmap, message):
    for use in (decode, decode_runs):
        with pytest.raises(SchemaError, match=message):
            use(bitmap, 100)
    with pytest.raises(SchemaError, match=message):
        clear_ranges(slot(), bitmap)


def test_slots_are_merged_into_pages_of_the_backing_and_shared_ones_once():
    memory = MemoryMap(slots=(slot(0, 0, 70), slot(0, 1, 5, gpa=200, backing=70), slot(1, 0, 70)), ram_bytes=75 * PAGE)
    merged = merge_slots(memory, {(0, 0): encode([3, 69], 70), (1, 0): encode([3, 4], 70), (0, 1): encode([0, 4], 5)})
    assert decode(merged, 75) == [3, 4, 69, 70, 74]
    assert decode(merge_slots(memory, {}), 75) == []


def test_bitmaps_of_unknown_slots_and_of_the_wrong_length_are_all_reported():
    memory = MemoryMap(slots=(slot(),), ram_bytes=100 * PAGE)
    with pytest.raises(SchemaError) as caught:
        merge_slots(memory, {(1, 0): bytes(16), (0, 0): bytes(8)})
    assert [problem.where for problem in caught.value.problems] == [
        "slot 0 of address space 1",
        "slot 0 of address space 0: dirty_bitmap",
    ]


def test_clear_ranges_are_aligned_to_64_pages_and_cover_every_dirty_one():
    held = slot(1, 3, pages=300)
    dirty = [0, 70, 130, 299]
    ranges = list(clear_ranges(held, encode(dirty, 300)))
    assert [(r.slot, r.first_page, r.num_pages) for r, _ in ranges] == [(0x10003, 0, 192), (0x10003, 256, 44)]
    assert all(r.first_page % 64 == 0 for r, _ in ranges)
    covered = [r.first_page + page for r, piece in ranges for page in decode(piece, r.num_pages)]
    assert covered == dirty
    assert list(clear_ranges(held, encode([], 300))) == []


def test_a_ring_is_harvested_in_order_up_to_the_first_entry_that_is_not_filled():
    memory = MemoryMap(slots=(slot(), slot(1, 2, 10)), ram_bytes=100 * PAGE)
    entries = [
        KvmDirtyGfn(flags=DIRTY, slot=0, offset=7),
        KvmDirtyGfn(flags=DIRTY, slot=0x10002, offset=9),
        KvmDirtyGfn(flags=DIRTY, slot=0, offset=2),
        KvmDirtyGfn(flags=0, slot=0, offset=0),
        KvmDirtyGfn(flags=DIRTY, slot=0, offset=50),
    ]
    assert harvest(entries, memory) == ({(0, 0): [7, 2], (1, 2): [9]}, 3)
    assert harvest([KvmDirtyGfn(flags=DIRTY | RESET, slot=0, offset=1)], memory) == ({}, 0)


@pytest.mark.parametrize(("word", "offset"), [(0, 100), (1, 0), (0x10000, 0), (0, 1 << 63)])
def test_a_ring_entry_of_a_page_that_no_slot_has_is_refused(word, offset):
    memory = MemoryMap(slots=(slot(),), ram_bytes=100 * PAGE)
    with pytest.raises(SchemaError, match=r"dirty_ring\[0\]"):
        harvest([KvmDirtyGfn(flags=DIRTY, slot=word, offset=offset)], memory)
