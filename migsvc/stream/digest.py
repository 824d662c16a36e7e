"""Digests of a machine: of its memory, of its state, and of both.

The memory digest is kept per chunk of 1 MiB, so that it can be computed behind the pre-copy rounds and only chunks
that were written again are hashed in the downtime. xxh3-128 of a chunk finds damage and mistakes; the roots are
SHA-256. Neither protects against a peer that forges both the memory and its digest.

As a source uses it::

    digest = MemoryDigest(config.memory.ram_bytes)      # every chunk is stale
    digest.mark(offset, size)                           # for each run of the dirty bitmap just fetched
    digest.update(ram)                                  # behind the round; the vCPU may be running
    digest.mark(...); digest.update(ram); digest.root() # after the pause: only what was written since
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence

import xxhash

from schemas.memory import MemoryMap
from schemas.state import sections_digest

from .checksum import Buffer
from .records import DIGEST_ALGORITHM, DIGEST_CHUNK_BYTES, Digest, Sections, Span

_U64 = struct.Struct("<Q")
_SLOT = struct.Struct("<IIQQIQ")


class MemoryDigest:
    """The digest of a backing of `ram_bytes` octets, chunk by chunk."""

    def __init__(self, ram_bytes: int, *, zeroed: bool = False) -> None:
        """Begin with every chunk stale, or, when the backing is known to hold only zeros, with none."""
        self.ram_bytes = ram_bytes
        self._count = -(-ram_bytes // DIGEST_CHUNK_BYTES)
        self._digests = [b""] * self._count
        self._stale = set(range(self._count))
        if zeroed and self._count:
            self._digests = [_ZERO_CHUNK] * self._count
            tail = ram_bytes % DIGEST_CHUNK_BYTES
            if tail:
                self._digests[-1] = xxhash.xxh3_128_digest(bytes(tail))
            self._stale = set()

    @property
    def stale_chunks(self) -> int:
        """How many chunks the next `update` will hash."""
        return len(self._stale)

    def mark(self, offset: int, size: int) -> None:
        """Note that [offset, offset + size) of the backing may have changed."""
        if size > 0:
            self._stale.update(range(offset // DIGEST_CHUNK_BYTES, -(-(offset + size) // DIGEST_CHUNK_BYTES)))

    def mark_spans(self, spans: Iterable[Span]) -> None:
        """Note several spans, e.g. those of a Memory or Zero record."""
        for offset, size in spans:
            self.mark(offset, size)

    def update(self, ram: Buffer, max_chunks: int | None = None) -> int:
        """Hash the stale chunks, or the first `max_chunks` of them; return how many remain stale.

        A write that comes after its chunk was hashed must be marked again: the dirty log reports it.
        """
        view = memoryview(ram).cast("B")
        for index in sorted(self._stale)[:max_chunks]:
            start = index * DIGEST_CHUNK_BYTES
            self._digests[index] = xxhash.xxh3_128_digest(view[start : min(start + DIGEST_CHUNK_BYTES, self.ram_bytes)])
            self._stale.discard(index)
        return len(self._stale)

    def root(self) -> bytes:
        """Return the memory digest, 32 octets.

        Raises:
            RuntimeError: chunks are stale; the digest would be of an older memory.
        """
        if self._stale:
            raise RuntimeError(f"{len(self._stale)} chunks are stale; call update() first")
        found = hashlib.sha256(b"migsvc memory 1\0" + _U64.pack(self.ram_bytes))
        found.update(b"".join(self._digests))
        return found.digest()


_ZERO_CHUNK = xxhash.xxh3_128_digest(bytes(DIGEST_CHUNK_BYTES))


def memory_map_octets(memory: MemoryMap) -> bytes:
    """Return the memory map as octets for hashing: ram_bytes, then each slot in order of (as_id, gpa)."""
    parts = [_U64.pack(memory.ram_bytes)]
    parts += [
        _SLOT.pack(s.as_id, s.slot, s.gpa, s.size_bytes, s.flags, s.backing_offset_bytes)
        for s in sorted(memory.slots, key=lambda s: (s.as_id, s.gpa))
    ]
    return b"".join(parts)


class StateDigest:
    """The digest of the sections of a machine: add the VM's, then each vCPU's in ascending order."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._hash = hashlib.sha256(b"migsvc state 1\0")

    def add(self, sections: Sections) -> None:
        """Add the VM's sections, or the next vCPU's."""
        self._hash.update(sections_digest(dict(sections)))

    def value(self) -> bytes:
        """Return the state digest so far, 32 octets."""
        return self._hash.copy().digest()


def root_digest(memory: MemoryMap, state_digest: bytes, memory_digest: bytes) -> bytes:
    """Return the digest of the whole machine, 32 octets: what two hosts compare before a handover."""
    return hashlib.sha256(b"migsvc root 1\0" + memory_map_octets(memory) + state_digest + memory_digest).digest()


def machine_digest(memory: MemoryMap, memory_digest: bytes, vm: Sections, vcpus: Sequence[Sections]) -> Digest:
    """Return the DIGEST record of a paused machine whose memory digest is known."""
    state = StateDigest()
    for sections in (vm, *vcpus):
        state.add(sections)
    return Digest(state.value(), memory_digest, root_digest(memory, state.value(), memory_digest), DIGEST_ALGORITHM)
