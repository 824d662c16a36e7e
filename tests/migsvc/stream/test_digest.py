"""The memory digest: computed behind the rounds, it equals the one computed at once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migsvc.stream import MemoryDigest, machine_digest
from migsvc.stream.records import DIGEST_CHUNK_BYTES as CHUNK

SIZE = 3 * CHUNK + 8192


def at_once(ram):
    digest = MemoryDigest(len(ram))
    digest.update(ram)
    return digest.root()


@settings(max_examples=25, deadline=None)
@given(writes=st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(0, 255), st.booleans()), max_size=12))
def test_digest_behind_the_rounds_equals_the_digest_at_once(writes):
    ram, behind = bytearray(SIZE), MemoryDigest(SIZE)
    for offset, value, round_ends in writes:
        ram[offset] = value
        behind.mark(offset & ~4095, 4096)
        if round_ends:
            behind.update(ram)
    behind.update(ram)
    assert behind.root() == at_once(ram)


def test_zeroed_memory_needs_no_hashing():
    assert MemoryDigest(SIZE, zeroed=True).root() == at_once(bytes(SIZE))
    assert MemoryDigest(SIZE, zeroed=True).stale_chunks == 0


def test_only_chunks_written_again_are_hashed_again():
    digest = MemoryDigest(SIZE)
    assert digest.stale_chunks == 4
    assert digest.update(bytes(SIZE), max_chunks=3) == 1
    digest.update(bytes(SIZE))
    digest.mark(CHUNK - 4096, 8192)
    assert digest.stale_chunks == 2


def test_digest_of_stale_memory_is_refused():
    digest = MemoryDigest(SIZE)
    with pytest.raises(RuntimeError, match="stale"):
        digest.root()


def test_one_octet_anywhere_changes_the_root():
    roots = {at_once(bytes(SIZE))}
    for offset in (0, CHUNK - 1, CHUNK, SIZE - 1):
        ram = bytearray(SIZE)
        ram[offset] = 1
        roots.add(at_once(ram))
    assert len(roots) == 5


def test_every_section_and_the_memory_map_are_in_the_root(smith, make_smith):
    memory = bytes(32)
    base = machine_digest(smith.memory, memory, smith.vm, smith.vcpus)
    changed = {name: (raw[:-1] + bytes([raw[-1] ^ 1])) for name, raw in smith.vcpus[0].items()}
    for name in changed:
        vcpu = {**smith.vcpus[0], name: changed[name]}
        assert machine_digest(smith.memory, memory, smith.vm, [vcpu]).state != base.state
    assert machine_digest(make_smith(pages=8).memory, memory, smith.vm, smith.vcpus).root != base.root
    assert machine_digest(smith.memory, bytes([1]) + bytes(31), smith.vm, smith.vcpus).root != base.root
    assert machine_digest(smith.memory, memory, {}, [smith.vm, *smith.vcpus]).state != base.state
