"""Two connections joined by a fake wire, and frames forged by hand."""

import importlib.util
import struct
import sys
from pathlib import Path

import google_crc32c
import msgpack
import pytest

from migsvc.protocol import (
    Accept,
    Commit,
    Hello,
    MigrationConnection,
    Offer,
    Prepare,
    Prepared,
    Role,
    Running,
    Welcome,
)
from migsvc.protocol.events import SENDER, Side
from migsvc.stream import (
    MachineMemory,
    MemoryDigest,
    Need,
    StreamHeader,
    StreamWriter,
    config_map,
    memory_batches,
)

CONTROL = 0x4000_0000


def load_smith():
    path = Path(__file__).parents[1] / "stream" / "conftest.py"
    spec = importlib.util.spec_from_file_location("protocol_stream_smith", path)
    kit = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = kit  # dataclasses look their module up by name
    spec.loader.exec_module(kit)
    return kit.StreamSmith()


SMITH = load_smith()
HELLO = Hello(1, 1, 1, "m-1", "vm-1", "web", 3, "alpha", "a token")
WELCOME = Welcome(1, "host-2", "beta", {"name": "beta"})


def frame(number, body, *, sequence=0, crc_more=0, length=None):
    """A frame by hand; `body` is a map, or octets as they are."""
    raw = body if isinstance(body, bytes) else msgpack.packb(body)
    crc = google_crc32c.value(raw) ^ crc_more
    head = struct.pack("<IIQIII", number, sequence, len(raw) if length is None else length, crc, 0, 0)
    return head + struct.pack("<I", google_crc32c.value(head)) + raw


class ConnectionPair:
    """A dialer and a listener; what one sends the other receives at once, and both states are kept in step."""

    def __init__(self, role=Role.SOURCE):
        self.dialer, self.listener = MigrationConnection(role), MigrationConnection(Role.DESTINATION)
        self.memory = MachineMemory(self.listener.reader, lambda config: bytearray(config.memory.ram_bytes))
        self.wire = b""

    def say(self, event, *, lost=False):
        """Send an event from the side that may; return what the other side received."""
        here, there = self.dialer, self.listener
        if SENDER[type(event)] is Side.LISTENER:
            here, there = there, here
        octets = here.send(event)
        return [] if lost else self.deliver(there, octets)

    def stream(self, octets, pages=b""):
        """Send a record of the stream."""
        self.wire += octets + pages
        return self.deliver(self.listener, self.dialer.send_stream(octets) + pages)

    def deliver(self, connection, octets):
        view, received = memoryview(octets), []
        while len(view):
            want = connection.expect()
            assert want is not None, "the conversation is over"
            if isinstance(want, Need):
                connection.fill(view[: want.size])
                view = view[want.size :]
            else:
                target = want.buffers(self.memory.ram)[0]
                count = min(len(target), len(view))
                target[:count] = view[:count]
                connection.filled(self.memory.ram, count)
                view = view[count:]
            while (event := connection.next_event()) is not None:
                if hasattr(event, "record"):
                    self.memory.take(event.record)
                received.append(event)
        return received

    # The phases of a migration, each up to the point where the next begins.

    def greet(self):
        self.say(HELLO)
        self.say(WELCOME)
        return self

    def offer(self):
        self.say(Offer(config_map(SMITH.config), {}))
        return self

    def accept(self):
        self.say(Accept())
        return self

    def begin(self):
        self.writer = StreamWriter(StreamHeader(bytes(16), 0, 1))
        self.stream(self.writer.header())
        self.stream(self.writer.config(SMITH.config))
        return self

    def round(self, runs=((1, 2),)):
        for batch in memory_batches(self.writer.extents, runs):
            self.stream(*self.writer.memory(batch, SMITH.ram))
        self.stream(self.writer.round_end())
        return self

    def finish(self):
        self.stream(self.writer.vm_state(SMITH.vm))
        self.stream(self.writer.vcpu_state(0, SMITH.vcpus[0]))
        digest = MemoryDigest(len(SMITH.ram))
        digest.update(SMITH.ram)
        self.stream(self.writer.digest(digest.root()))
        self.stream(self.writer.end())
        return self

    def prepare(self):
        self.say(Prepare(1, self.writer.sent_digest.root))
        return self

    def prepared(self):
        self.say(Prepared(self.listener.reader.digest.root, 4))
        return self

    def commit(self):
        self.say(Commit(4))
        return self

    def running(self):
        self.say(Running(4))
        return self

    PHASES = ("greet", "offer", "accept", "begin", "round", "finish", "prepare", "prepared", "commit", "running")

    def up_to(self, phase):
        """Go through all phases up to and with this one."""
        for name in self.PHASES[: self.PHASES.index(phase) + 1]:
            getattr(self, name)()
        return self


class Kit:
    """What the tests of the protocol share."""

    pair = ConnectionPair
    smith = SMITH
    hello = HELLO
    welcome = WELCOME
    frame = staticmethod(frame)
    control = CONTROL


@pytest.fixture(scope="session")
def kit():
    return Kit
