import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migsvc.transport.pages import PROBES, WORDS, all_pages, are_zero, pages_of_bitmap, runs_of, select
from schemas.memory import MemoryMap

PAGE = 4096


def memory(pages, *, hole=None):
    """A map that shows every page, or all but those of `hole`."""
    pieces = [(0, pages)] if hole is None else [(0, hole[0]), (hole[1], pages - hole[1])]
    slots = [
        {
            "as_id": 0,
            "slot": n,
            "gpa": first * PAGE,
            "size_bytes": count * PAGE,
            "flags": 0,
            "backing_offset_bytes": first * PAGE,
        }
        for n, (first, count) in enumerate(pieces)
    ]
    return MemoryMap(slots=slots, ram_bytes=pages * PAGE)


def bitmap_of(pages, count):
    bits = np.zeros((count + 63) // 64 * 64, np.uint8)
    bits[sorted(pages)] = 1
    return np.packbits(bits, bitorder="little").tobytes()


@given(st.sets(st.integers(0, 299)))
def test_a_bitmap_gives_its_pages_and_runs_give_them_back(pages):
    found = pages_of_bitmap(bitmap_of(pages, 300), memory(300))
    assert found.tolist() == sorted(pages)
    runs = runs_of(found)
    assert [page for first, count in runs for page in range(first, first + count)] == sorted(pages)
    assert all(runs[n][0] + runs[n][1] < runs[n + 1][0] for n in range(len(runs) - 1))
    assert all(type(value) is int for run in runs for value in run)


def test_bits_beyond_the_backing_and_pages_that_no_slot_shows_are_left_out():
    assert pages_of_bitmap(b"\xff" * 8, memory(10)).tolist() == list(range(10))
    assert pages_of_bitmap(b"\xff" * 8, memory(10, hole=(3, 6))).tolist() == [0, 1, 2, 6, 7, 8, 9]
    assert all_pages(memory(10, hole=(3, 6))).tolist() == [0, 1, 2, 6, 7, 8, 9]


def test_a_bitmap_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="1 bytes for 10 pages"):
        pages_of_bitmap(b"\xff", memory(10))


@pytest.mark.parametrize("byte", [0, 1, 7, 8 * PROBES[1], 8 * PROBES[1] + 9, PAGE - 1])
def test_one_byte_anywhere_makes_a_page_travel(byte):
    ram = bytearray(9 * PAGE)
    ram[4 * PAGE + byte] = 1
    for pages in (np.arange(9), np.array([1, 4, 8]), np.array([4])):
        zero = are_zero(ram, pages)
        assert [page for page, empty in zip(pages.tolist(), zero.tolist(), strict=True) if not empty] == [4]


@settings(max_examples=30)
@given(st.sets(st.integers(0, 63)), st.sets(st.integers(0, 63)), st.integers(0, WORDS - 1))
def test_a_selection_holds_each_page_once_and_knows_the_zeros(asked, written, word):
    ram = bytearray(64 * PAGE)
    for page in written:
        ram[page * PAGE + 8 * word] = 0x80
    found = select(ram, np.array(sorted(asked), np.int64))
    expand = [
        [page for first, count in runs for page in range(first, first + count)] for runs in (found.data, found.zero)
    ]
    assert expand == [sorted(asked & written), sorted(asked - written)]
    assert (found.data_pages, found.zero_pages) == (len(asked & written), len(asked - written))


def test_more_than_one_block_is_looked_at():
    pages = 10_000
    ram = bytearray(pages * PAGE)
    for page in (0, 4095, 4096, 9999):
        ram[page * PAGE + 100] = 1
    found = select(ram, np.arange(pages))
    assert found.data == [(0, 1), (4095, 2), (9999, 1)]
    assert found.zero_pages == pages - 4
