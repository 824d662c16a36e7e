"""MemoryMap: what it refuses, and which address stands for each byte of the backing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.errors import FieldError, parse_as
from schemas.memory import MAX_SLOTS, PAGE_BYTES, Extent, MemoryMap, MemorySlot

PAGE = PAGE_BYTES


def slot(as_id=0, number=0, gpa=0, pages=16, backing=0, flags=0):
    return MemorySlot(
        as_id=as_id, slot=number, gpa=gpa, size_bytes=pages * PAGE, flags=flags, backing_offset_bytes=backing
    )


def test_smm_sees_the_same_bytes_through_its_own_slot():
    both = MemoryMap(slots=(slot(0), slot(1)), ram_bytes=16 * PAGE)
    assert both.translate(1, 0x1234) == both.translate(0, 0x1234) == 0x1234
    assert both.extents() == (Extent(0, 0, 0, 16 * PAGE),)


def test_a_private_smm_page_is_a_piece_of_its_own():
    # SMM sees other memory at 0x8000 than everybody else.
    smm = (slot(1, 0, 0, 8), slot(1, 1, 8 * PAGE, 1, 16 * PAGE), slot(1, 2, 9 * PAGE, 7, 9 * PAGE))
    split = MemoryMap(slots=(slot(0), *smm), ram_bytes=17 * PAGE)
    assert split.translate(0, 8 * PAGE) == 8 * PAGE
    assert split.translate(1, 8 * PAGE) == 16 * PAGE
    assert split.extents() == (Extent(0, 0, 0, 16 * PAGE), Extent(1, 8 * PAGE, 16 * PAGE, PAGE))


def test_holes_translate_to_nothing():
    held = MemoryMap(slots=(slot(0, gpa=PAGE, pages=1),), ram_bytes=PAGE)
    assert [held.translate(0, gpa) for gpa in (0, PAGE - 1, PAGE, 2 * PAGE - 1, 2 * PAGE)] == [
        None,
        None,
        0,
        4095,
        None,
    ]
    assert held.translate(1, PAGE) is None


def test_the_lowest_address_stands_for_an_alias_within_one_address_space():
    held = MemoryMap(slots=(slot(0, 0, 64 * PAGE, 4), slot(0, 1, 0, 4)), ram_bytes=4 * PAGE)
    assert held.extents() == (Extent(0, 0, 0, 4 * PAGE),)


BROKEN = {
    "gpa 0x1 is not a multiple": {"slots": (slot(gpa=1),)},
    "size_bytes 0x0|size_bytes is 0": {"slots": (slot(pages=0),)},
    "backing_offset_bytes 0x10 is not a multiple": {"slots": (slot(backing=0x10),)},
    "its backing ends behind ram_bytes": {"slots": (slot(backing=PAGE),)},
    "above the 52 bits": {"slots": (slot(gpa=(1 << 52) - PAGE),)},
    "used twice": {"slots": (slot(), slot(gpa=16 * PAGE))},
    "overlap at 0xf000": {"slots": (slot(), slot(number=1, gpa=15 * PAGE))},
    "ram_bytes 0x1 must be a multiple": {"slots": (), "ram_bytes": 1},
    "ram_bytes 0x0 must be a multiple": {"slots": (), "ram_bytes": 0},
    "ram_bytes 0x1000001000 must be": {"slots": (), "ram_bytes": (64 << 30) + PAGE},
}


@pytest.mark.parametrize("message", BROKEN)
def test_an_impossible_map_is_refused(message):
    with pytest.raises(ValidationError, match=message):
        MemoryMap(**{"ram_bytes": 16 * PAGE, **BROKEN[message]})


def test_all_problems_of_a_map_are_reported_together():
    with pytest.raises(FieldError) as caught:
        parse_as(MemoryMap, {"slots": [slot(gpa=1).model_dump(), slot(pages=0, number=1).model_dump()], "ram_bytes": 3})
    for text in ("gpa 0x1", "size_bytes is 0", "ram_bytes 0x3"):
        assert text in str(caught.value)


def test_the_number_of_slots_is_bounded():
    slots = [slot(0, i, i * PAGE, 1).model_dump() for i in range(MAX_SLOTS + 1)]
    with pytest.raises(FieldError, match="at most 512"):
        parse_as(MemoryMap, {"slots": slots, "ram_bytes": PAGE})


def test_a_map_survives_json():
    held = MemoryMap(slots=(slot(0), slot(1, flags=2)), ram_bytes=1 << 20)
    assert MemoryMap.model_validate_json(held.model_dump_json()) == held


@st.composite
def maps(draw):
    slots = []
    for as_id in (0, 1):
        gpa = 0
        for number in range(draw(st.integers(0, 4))):
            gpa += draw(st.integers(0, 3)) * PAGE
            pages = draw(st.integers(1, 6))
            slots.append(slot(as_id, number, gpa, pages, draw(st.integers(0, 16 - pages)) * PAGE))
            gpa += pages * PAGE
    return MemoryMap(slots=tuple(draw(st.permutations(slots))), ram_bytes=16 * PAGE)


@settings(max_examples=200, deadline=None)
@given(maps())
def test_extents_cover_each_visible_backing_page_exactly_once_by_its_lowest_address(held):
    lowest: dict[int, tuple[int, int]] = {}
    for part in held.slots:
        for page in range(part.size_bytes // PAGE):
            offset = part.backing_offset_bytes + page * PAGE
            address = (part.as_id, part.gpa + page * PAGE)
            lowest[offset] = min(lowest.get(offset, address), address)
    covered: dict[int, tuple[int, int]] = {}
    for piece in held.extents():
        for page in range(piece.size_bytes // PAGE):
            offset = piece.backing_offset_bytes + page * PAGE
            assert offset not in covered
            covered[offset] = (piece.as_id, piece.gpa + page * PAGE)
            assert held.translate(piece.as_id, piece.gpa + page * PAGE) == offset
    assert covered == lowest
    assert list(held.extents()) == sorted(held.extents())
