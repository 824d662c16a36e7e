import pytest

from emulator.config import MIB, SLOT_READONLY, SlotConfig, ram_slots
from emulator.memory import GuestMemory

SMRAM = 0x30000


@pytest.fixture
def memory():
    return GuestMemory(ram_slots(MIB, SMRAM, 0x10000), bytearray(MIB + 0x10000))


class Page:
    """A device page that remembers what was done to it."""

    def __init__(self):
        self.seen = []

    def mmio_read(self, offset, size):
        self.seen.append(("read", offset, size))
        return 0x55

    def mmio_write(self, offset, size, value):
        self.seen.append(("write", offset, size, value))


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("gpa", [0, 1, 0xFFD, 0xFFF, 0x2FFFC])
def test_what_is_written_is_read_at_any_alignment(memory, gpa, size):
    value = int.from_bytes(bytes(range(1, size + 1)), "little")
    memory.write(0, gpa, size, value)
    assert memory.read(0, gpa, size) == value
    assert memory.read_bytes(0, gpa, size) == value.to_bytes(size, "little")


def test_the_two_address_spaces_share_ram_but_not_smram(memory):
    memory.write(0, 0x1000, 4, 0x11111111)
    memory.write(0, SMRAM, 4, 0x22222222)
    memory.write(1, SMRAM, 4, 0x33333333)
    assert memory.read(1, 0x1000, 4) == 0x11111111
    assert memory.read(0, SMRAM, 4) == 0x22222222
    assert memory.read(1, SMRAM, 4) == 0x33333333


def test_an_access_across_the_edge_of_smram_touches_both_backings(memory):
    memory.write(1, SMRAM - 2, 4, 0xAABBCCDD)
    assert memory.read(0, SMRAM - 2, 4) == 0x0000CCDD
    assert memory.read(1, SMRAM - 2, 4) == 0xAABBCCDD


def test_holes_read_all_ones_and_drop_writes(memory):
    before = bytes(memory.ram)
    memory.write(0, 16 * MIB, 8, 0)
    assert memory.read(0, 16 * MIB, 8) == (1 << 64) - 1
    assert memory.read_bytes(0, 16 * MIB, 3) == b"\xff\xff\xff"
    assert memory.read(0, MIB - 2, 4) == 0xFFFF0000
    assert bytes(memory.ram) == before


def test_a_read_only_slot_ignores_writes_but_takes_an_image():
    memory = GuestMemory([SlotConfig(0, 0, 0, 0x2000, SLOT_READONLY, 0)], bytearray(0x2000))
    memory.load_image(0, 0xFFE, b"\x01\x02\x03\x04")
    memory.write(0, 0xFFE, 4, 0)
    memory.write_bytes(0, 0xFFE, bytes(4))
    assert memory.read(0, 0xFFE, 4) == 0x04030201
    assert memory.page_offset(0, 0x1000) == 0x1000
    assert memory.writable_page_offset(0, 0x1000) == -1


def test_a_device_page_hides_ram_and_gets_the_offset(memory):
    page = Page()
    memory.write(0, 0x5000, 4, 0x1234)
    memory.map_mmio(0x5000, page)
    memory.write(1, 0x5010, 4, 7)
    assert memory.read(0, 0x5004, 1) == 0x55
    assert page.seen == [("write", 0x10, 4, 7), ("read", 4, 1)]
    assert memory.page_offset(0, 0x5123) == -1
    memory.unmap_mmio(0x5000)
    assert memory.read(0, 0x5000, 4) == 0x1234


def test_every_write_marks_its_pages_dirty(memory):
    memory.write(0, 0x1FFE, 4, 0)
    memory.write(1, SMRAM + 0x8000, 1, 0)
    memory.write_bytes(0, 0x7FFF, b"\0\0")
    pages = {1, 2, 7, 8, (MIB + 0x8000) // 4096}
    assert {page for page, flag in enumerate(memory.dirty) if flag} == pages
    bitmap = int.from_bytes(memory.fetch_dirty(clear=False), "little")
    assert {page for page in range(memory.page_count) if bitmap >> page & 1} == pages


def test_clearing_the_log_bumps_the_generation(memory):
    memory.write(0, 0, 1, 1)
    generation = memory.generation
    assert any(memory.fetch_dirty(clear=True))
    assert not any(memory.fetch_dirty(clear=True))
    assert memory.generation > generation


def test_the_log_of_a_slot_has_kvms_form(memory):
    memory.write(1, SMRAM + 0x2000, 1, 1)
    memory.write(0, 0x41000, 1, 1)
    smram, above = (row for row in memory.slots if row.as_id == 1 and row.gpa in (SMRAM, SMRAM + 0x10000))
    assert memory.dirty_log(1, smram.slot, clear=False) == (1 << 2).to_bytes(8, "little")
    log = memory.dirty_log(1, above.slot, clear=True)
    assert len(log) % 8 == 0
    assert int.from_bytes(log, "little") == 1 << 1
    assert memory.dirty[0x41] == 0
    with pytest.raises(KeyError):
        memory.dirty_log(1, 77, clear=False)


def test_a_write_to_a_page_with_decoded_code_is_reported(memory):
    told = []
    memory.on_code_write = told.append
    memory.code_pages[3] = 1
    memory.write(0, 0x2000, 4, 0)
    assert told == []
    memory.write(1, 0x2FFF, 2, 0)
    assert told == [3]


def test_ram_above_the_device_hole_is_mapped_from_4_gib():
    slots = ram_slots(4 << 30)
    assert [(s.as_id, s.gpa, s.size_bytes, s.backing_offset_bytes) for s in slots] == [
        (0, 0, 3 << 30, 0),
        (0, 4 << 30, 1 << 30, 3 << 30),
        (1, 0, 3 << 30, 0),
        (1, 4 << 30, 1 << 30, 3 << 30),
    ]


@pytest.mark.parametrize(
    "slots",
    [
        [SlotConfig(0, 0, 0, 0x2000, 0, 0), SlotConfig(0, 1, 0x1000, 0x1000, 0, 0)],
        [SlotConfig(0, 0, 0x800, 0x1000, 0, 0)],
        [SlotConfig(0, 0, 0, 0x1000, 0, 0x2000)],
        [SlotConfig(0, 0, 0, 0, 0, 0)],
        [SlotConfig(2, 0, 0, 0x1000, 0, 0)],
    ],
    ids=["overlap", "unaligned", "outside the backing", "empty", "address space 2"],
)
def test_impossible_slots_are_refused(slots):
    with pytest.raises(ValueError, match="slot"):
        GuestMemory(slots, bytearray(0x2000))


def test_an_image_that_misses_ram_is_refused(memory):
    with pytest.raises(ValueError, match="no RAM behind it"):
        memory.load_image(0, MIB - 2, b"abcd")
