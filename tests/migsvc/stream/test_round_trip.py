"""What is written is what is read, for any machine."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migsvc.stream import (
    BodyError,
    Config,
    End,
    Memory,
    MemoryDigest,
    RoundEnd,
    StreamHeader,
    StreamUsageError,
    StreamWriter,
    VcpuSections,
    VmSections,
    config_map,
    machine_digest,
    memory_batches,
    parse_config_map,
    read_machine,
    write_machine,
)
from migsvc.stream.memory import Extents
from migsvc.stream.records import StreamFlag
from schemas.memory import MemoryMap, MemorySlot

PAGE = 4096


@st.composite
def memory_maps(draw):
    """Slots that cut the backing into pieces at odd addresses, and aliases in the SMM address space."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    slots, offset, gpa = [], 0, 0
    for number, pages in enumerate(sizes):
        gpa += draw(st.integers(0, 3)) * PAGE
        space = draw(st.sampled_from([0, 0, 1]))
        slots.append(
            MemorySlot(as_id=space, slot=number, gpa=gpa, size_bytes=pages * PAGE, backing_offset_bytes=offset)
        )
        if draw(st.booleans()):
            slots.append(
                MemorySlot(
                    as_id=1 - space, slot=100 + number, gpa=gpa, size_bytes=pages * PAGE, backing_offset_bytes=offset
                )
            )
        gpa, offset = gpa + pages * PAGE, offset + pages * PAGE
    order = draw(st.permutations(slots))
    return MemoryMap(slots=tuple(order), ram_bytes=offset)


@settings(max_examples=60, deadline=None)
@given(memory_map=memory_maps(), data=st.data())
def test_snapshot_of_any_memory_map_comes_back(smith, memory_map, data):
    pages = memory_map.ram_bytes // PAGE
    filled = sorted(data.draw(st.sets(st.integers(0, pages - 1))))
    ram = bytearray(memory_map.ram_bytes)
    for page in filled:
        ram[page * PAGE : page * PAGE + 2] = (page + 1).to_bytes(2, "little")
    config = Config("id", "name", "emulator", "ticker64", 2, "alpha", 1, memory_map, 1, {"cpu_model": "x86-64"})
    stream = b"".join(write_machine(smith.header, config, ram, [(p, 1) for p in filled], smith.vm, smith.vcpus))
    got = bytearray(memory_map.ram_bytes)
    records = list(read_machine(io.BytesIO(stream).readinto, lambda _: got))
    assert got == ram
    assert config in records
    assert smith.verify(stream).clean


def test_records_come_back_as_they_were_written(smith):
    records = smith.read(smith.snapshot())
    header, config, memory, round_end, vm, vcpu, digest, end = records
    assert header == StreamHeader(smith.header.stream_id, smith.header.created_unix_ns, 1, flags=StreamFlag.SNAPSHOT)
    assert config == smith.config
    assert memory == Memory(0, ((PAGE, 2),), ((PAGE, 2 * PAGE),))
    assert round_end == RoundEnd(1, 2, 0)
    assert vm == VmSections(smith.vm)
    assert vcpu == VcpuSections(0, smith.vcpus[0])
    memory_digest = MemoryDigest(len(smith.ram))
    memory_digest.update(smith.ram)
    assert digest == machine_digest(smith.memory, memory_digest.root(), smith.vm, smith.vcpus)
    assert end == End(6, end.headers_crc32c)


def test_many_vcpus_travel_in_order(make_smith):
    smith = make_smith(vcpus=5)
    records = smith.read(smith.snapshot())
    assert [r.index for r in records if isinstance(r, VcpuSections)] == [0, 1, 2, 3, 4]
    assert [v["index"] for v in smith.verify(smith.snapshot()).summary["vcpus"]] == [0, 1, 2, 3, 4]


def test_an_empty_machine_is_a_stream(smith):
    stream = b"".join(write_machine(smith.header, smith.config, bytes(len(smith.ram)), [], smith.vm, smith.vcpus))
    assert bytes(smith.load(stream).memory.ram) == bytes(len(smith.ram))


def test_alias_travels_once_under_its_canonical_name(smith):
    assert [(e.as_id, e.offset, e.size) for e in Extents(smith.memory).pieces] == [(0, 0, len(smith.ram))]


@settings(max_examples=60, deadline=None)
@given(memory_map=memory_maps(), data=st.data())
def test_batches_hold_every_page_once_within_the_limits(memory_map, data):
    pages = memory_map.ram_bytes // PAGE
    chosen = sorted(data.draw(st.sets(st.integers(0, pages - 1))))
    extents = Extents(memory_map)
    found = []
    for batch in memory_batches(extents, [(p, 1) for p in chosen]):
        for run, (offset, size) in zip(batch.runs, batch.spans, strict=True):
            assert memory_map.translate(batch.as_id, run[0]) == offset
            found += range(offset // PAGE, (offset + size) // PAGE)
    assert found == chosen


def test_a_long_run_is_cut_into_records_of_a_mebibyte():
    memory = MemoryMap(
        slots=(MemorySlot(as_id=0, slot=0, gpa=0, size_bytes=1000 * PAGE, backing_offset_bytes=0),),
        ram_bytes=1000 * PAGE,
    )
    assert [b.pages for b in memory_batches(Extents(memory), [(0, 1000)])] == [256, 256, 256, 232]
    scattered = [(p, 1) for p in range(0, 1000, 2)]
    assert [len(b.runs) for b in memory_batches(Extents(memory), scattered)] == [256, 244]


@given(
    epoch=st.integers(0, 2**64 - 1),
    name=st.text(min_size=1, max_size=255),
    machine=st.dictionaries(st.text(min_size=1, max_size=20), st.integers(0, 2**64 - 1) | st.just("v"), max_size=8),
)
def test_config_comes_back_from_its_map(smith, epoch, name, machine):
    config = Config("id", name, "b", None, epoch, "h", 1, smith.memory, 1, machine)
    assert parse_config_map(config_map(config)) == config


def test_writer_refuses_sections_that_a_reader_would_refuse(smith):
    writer = StreamWriter(smith.header)
    writer.config(smith.config)
    with pytest.raises(BodyError, match="no_such"):
        writer.vm_state({"no_such": b""})


def test_writer_refuses_pages_out_of_order(smith):
    writer = StreamWriter(smith.header)
    writer.config(smith.config)
    (later,), (earlier,) = (tuple(memory_batches(writer.extents, [(page, 1)])) for page in (2, 1))
    writer.memory(later, smith.ram)
    with pytest.raises(StreamUsageError):
        writer.memory(earlier, smith.ram)


def test_pages_and_checksum_are_one_picture_while_the_guest_writes(smith):
    writer = StreamWriter(smith.header)
    writer.config(smith.config)
    ram = bytearray(smith.ram)
    (batch,) = memory_batches(writer.extents, [(1, 1)])
    _, pages = writer.memory(batch, ram)
    ram[PAGE] ^= 0xFF
    assert pages[:8] == b"page one"
