"""A small machine, its streams, and a smith that takes streams apart and forges damaged ones."""

import io
import struct
from dataclasses import dataclass, replace

import google_crc32c
import msgpack
import pytest

from migsvc.stream import (
    Config,
    MachineLoader,
    MemoryDigest,
    Record,
    StreamHeader,
    StreamWriter,
    memory_batches,
    read_machine,
    write_machine,
    zero_batches,
)
from migsvc.stream.verify import VerifyReport, verify_stream
from schemas.memory import MemoryMap, MemorySlot
from schemas.uapi import VCPU_SECTIONS
from schemas.versions import version_row

PAGE = 4096
CONFIG, MEMORY, ZERO, ROUND_END, VM_STATE, VCPU_STATE, DIGEST, END = range(1, 9)


@dataclass(frozen=True)
class Part:
    """One record: its type and its body."""

    type: int
    body: bytes


def crc(data: bytes) -> int:
    return google_crc32c.value(data)


FIRST = version_row(1)


class StreamSmith:
    """Everything that tests need to make, damage, read and verify streams of one small machine."""

    def __init__(self, pages: int = 4, vcpus: int = 1) -> None:
        self.pages = pages
        slots = tuple(
            MemorySlot(as_id=space, slot=0, gpa=0, size_bytes=pages * PAGE, backing_offset_bytes=0) for space in (0, 1)
        )
        self.memory = MemoryMap(slots=slots, ram_bytes=pages * PAGE)
        self.config = Config("vm-1", "web", "emulator", None, 3, "alpha", 1, self.memory, vcpus, {"tsc_khz": 1_000_000})
        self.header = StreamHeader(bytes(range(16)), 1_700_000_000_000_000_000, 1)
        self.vm = {"machine": bytes(range(16)) + bytes(8)}
        self.vcpus = [
            {name: bytes(VCPU_SECTIONS[name].model.SIZE) for name in FIRST.vcpu_sections} for _ in range(vcpus)
        ]
        self.ram = bytearray(pages * PAGE)
        self.ram[PAGE : PAGE + 8] = b"page one"
        self.ram[2 * PAGE : 2 * PAGE + 8] = b"page two"
        self.runs = [(1, 2)]

    def snapshot(self) -> bytes:
        return b"".join(write_machine(self.header, self.config, self.ram, self.runs, self.vm, self.vcpus))

    def migration(self) -> bytes:
        """Two rounds: all pages, then one page zeroed and one sent again."""
        writer = StreamWriter(self.header)
        old = bytearray(self.ram)
        old[3 * PAGE] = 7
        old[PAGE] = 9
        out = [writer.header(), writer.config(self.config)]
        for batch in memory_batches(writer.extents, [(1, 3)]):
            out += writer.memory(batch, old)
        out += [writer.zero(batch) for batch in zero_batches(writer.extents, [(0, 1)])]
        out.append(writer.round_end())
        for batch in memory_batches(writer.extents, [(1, 1)]):
            out += writer.memory(batch, self.ram)
        out += [writer.zero(batch) for batch in zero_batches(writer.extents, [(3, 1)])]
        out += [writer.round_end(), writer.vm_state(self.vm)]
        out += [writer.vcpu_state(i, sections) for i, sections in enumerate(self.vcpus)]
        digest = MemoryDigest(len(self.ram))
        digest.update(self.ram)
        return b"".join([*out, writer.digest(digest.root()), writer.end()])

    def split(self, stream: bytes) -> tuple[bytes, list[Part]]:
        parts, at = [], 64
        while at < len(stream):
            number, _, length = struct.unpack_from("<IIQ", stream, at)
            parts.append(Part(number, stream[at + 32 : at + 32 + length]))
            at += 32 + length
        return stream[:64], parts

    def join(self, header: bytes, parts: list[Part], *, fix_end: bool = True) -> bytes:
        """Put records together with right sequence numbers and CRCs; END is made right unless told otherwise."""
        out, headers = [header], 0
        for sequence, part in enumerate(parts):
            body = part.body
            if part.type == END and fix_end:
                body = struct.pack("<QII", sequence, headers, 0)
            head = self.record_header(part.type, sequence, len(body), crc(body))
            headers = google_crc32c.extend(headers, head)
            out += [head, body]
        return b"".join(out)

    def record_header(self, number: int, sequence: int, length: int, body_crc: int, reserved: int = 0) -> bytes:
        raw = struct.pack("<IIQIII", number, sequence, length, body_crc, reserved, 0)
        return raw + struct.pack("<I", crc(raw))

    def file_header(self, **over: object) -> bytes:
        raw = bytearray(self.snapshot()[:64])
        fields = {"magic": (0, "8s"), "version": (8, "H"), "octets": (10, "H"), "schema": (12, "H"), "flags": (14, "H")}
        for name, value in over.items():
            offset, code = fields[name]
            struct.pack_into("<" + code, raw, offset, value)
        raw[60:] = struct.pack("<I", crc(bytes(raw[:60])))
        return bytes(raw)

    def edit(self, stream: bytes, index: int, body: bytes, number: int | None = None) -> bytes:
        """Replace the body (and type) of one record; everything around it stays right."""
        header, parts = self.split(stream)
        parts[index] = Part(parts[index].type if number is None else number, body)
        return self.join(header, parts)

    def edit_config(self, **over: object) -> bytes:
        stream = self.snapshot()
        value = msgpack.unpackb(self.split(stream)[1][0].body)
        value.update(over)
        return self.edit(stream, 0, msgpack.packb(value))

    def index(self, stream: bytes, number: int) -> int:
        return [part.type for part in self.split(stream)[1]].index(number)

    def read(self, stream: bytes) -> list[Record]:
        return list(read_machine(io.BytesIO(stream).readinto, lambda config: bytearray(config.memory.ram_bytes)))

    def load(self, stream: bytes) -> MachineLoader:
        loader = MachineLoader(lambda config: bytearray(config.memory.ram_bytes))
        loader.feed(stream)
        loader.close()
        return loader

    def verify(self, stream: bytes, **options: int) -> VerifyReport:
        return verify_stream(io.BytesIO(stream).read, **options)

    def with_config(self, **over: object) -> "StreamSmith":
        made = StreamSmith(self.pages, len(self.vcpus))
        made.config = replace(made.config, **over)
        return made


@pytest.fixture(scope="session")
def smith() -> StreamSmith:
    return StreamSmith()


@pytest.fixture(scope="session")
def make_smith() -> type[StreamSmith]:
    return StreamSmith
