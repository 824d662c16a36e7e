"""The pull form: what a driver must give, what it must not, and how little memory it takes."""

import tracemalloc

import pytest

from migsvc.stream import MachineLoader, MachineMemory, MemoryBody, Need, StreamReader, StreamUsageError

PAGE = 4096


def test_pages_go_straight_into_guest_ram_in_pieces_of_any_size(smith):
    stream, at = smith.migration(), 0
    reader = StreamReader()
    memory = MachineMemory(reader, lambda config: bytearray(config.memory.ram_bytes))
    piece = 1
    while (want := reader.expect()) is not None:
        if isinstance(want, Need):
            reader.fill(stream[at : at + want.size])
            at += want.size
        else:
            target = want.buffers(memory.ram)[0]
            count = min(len(target), piece)
            target[:count] = stream[at : at + count]
            reader.filled(memory.ram, count)
            at, piece = at + count, piece * 2 + 1
        for record in reader.records():
            memory.take(record)
    assert reader.ended
    assert at == len(stream)
    assert bytes(memory.ram) == bytes(smith.ram)


def reader_at_pages(smith):
    stream, at = smith.snapshot(), 0
    reader = StreamReader()
    while isinstance(want := reader.expect(), Need):
        reader.fill(stream[at : at + want.size])
        at += want.size
    assert isinstance(want, MemoryBody)
    return reader, want


def test_reader_refuses_more_or_fewer_octets_than_it_wants(smith):
    reader = StreamReader()
    for data in (b"", bytes(63), bytes(65)):
        with pytest.raises(StreamUsageError):
            reader.fill(data)
    with pytest.raises(StreamUsageError):
        reader.filled(bytearray(64), 64)
    reader, want = reader_at_pages(smith)
    ram = bytearray(len(smith.ram))
    with pytest.raises(StreamUsageError):
        reader.fill(bytes(want.size))
    with pytest.raises(StreamUsageError):
        reader.filled(ram, want.size + 1)
    with pytest.raises(StreamUsageError):
        reader.put(ram, b"")


def test_backing_of_the_wrong_size_is_refused(smith):
    with pytest.raises(StreamUsageError, match="allocate"):
        MachineLoader(lambda config: bytearray(4096)).feed(smith.snapshot())
    with pytest.raises(StreamUsageError, match="writable"):
        MachineLoader(lambda config: bytes(config.memory.ram_bytes)).feed(smith.snapshot())


def test_header_is_judged_before_its_body_is_awaited(smith):
    # A length of 2^60 octets must not make the reader ask for them.
    reader = StreamReader()
    reader.fill(smith.snapshot()[:64])
    with pytest.raises(ValueError, match="STR-014"):
        reader.fill(smith.record_header(1, 0, 1 << 60, 0))


def peak_of(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_loader_and_verifier_hold_little_besides_guest_ram(make_smith):
    smith = make_smith(pages=8192)  # 32 MiB
    smith.ram[:] = b"\x5a" * len(smith.ram)
    smith.runs = [(0, 8192)]
    stream = smith.snapshot()
    ram = bytearray(len(smith.ram))

    def load():
        loader = MachineLoader(lambda config: ram)
        for at in range(0, len(stream), 65536):
            loader.feed(memoryview(stream)[at : at + 65536])
        loader.close()

    assert peak_of(load) < 4 << 20
    assert ram == smith.ram

    assert peak_of(lambda: smith.verify(stream)) < 8 << 20


def test_verifier_says_so_when_memory_goes_over_its_budget(make_smith):
    smith = make_smith(pages=1024)
    smith.ram[:] = b"\x5a" * len(smith.ram)
    smith.runs = [(0, 1024)]
    whole = smith.snapshot()
    assert smith.verify(whole, memory_budget_bytes=2 << 20).ok  # pages of a snapshot ascend
    as_migration = smith.file_header(flags=0) + whole[64:]
    assert not smith.verify(as_migration, memory_budget_bytes=2 << 20).ok
    assert smith.verify(as_migration, memory_budget_bytes=8 << 20).ok


def test_long_optional_record_passes_in_small_pieces(smith):
    reader = StreamReader()
    header, parts = smith.split(smith.snapshot())
    parts.insert(1, type(parts[0])(0x8000_0055, bytes(1 << 20)))
    stream = smith.join(header, parts)
    largest, at = 0, 0
    while at < 64 + 64 + len(parts[0].body) + (1 << 20):
        want = reader.expect()
        largest = max(largest, want.size)
        reader.fill(stream[at : at + want.size])
        at += want.size
    assert largest <= 64 << 10
