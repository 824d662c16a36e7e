import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from migsvc.errors import CancelledError, InputError, PeerError
from migsvc.protocol import (
    Accept,
    Disconnected,
    Hello,
    MigrationConnection,
    Offer,
    RemoteProtocolError,
    Role,
    RoundAck,
    Welcome,
)
from migsvc.stream import (
    Config,
    MachineMemory,
    MemoryBody,
    RoundEnd,
    StreamHeader,
    StreamWriter,
    config_map,
    memory_batches,
    zero_batches,
)
from migsvc.transport.bandwidth import TokenBucket
from migsvc.transport.pages import select
from migsvc.transport.tcp import Channel, Listener, format_address, parse_address
from schemas.memory import MemoryMap


@pytest.fixture
def pair():
    listener = Listener("127.0.0.1")
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(listener.accept)
        here = Channel.connect(listener.address, idle_timeout_s=5)
        there = accepted.result(5)
    with here, there:
        yield here, there
    listener.close()


def hello():
    return Hello(
        protocol_version=1,
        stream_version=1,
        schema_version=1,
        migration_id="m-1",
        vm_id="vm-1",
        vm_name="web",
        epoch=1,
        source_host="north",
        token=None,
    )


def test_a_vector_of_buffers_arrives_whole_and_in_order(pair):
    here, there = pair
    big = np.arange(3 << 20, dtype=np.uint32).tobytes()
    buffers = [b"head", memoryview(big), bytearray(b"tail"), b""] + [bytes([n % 256]) for n in range(2000)]
    wanted = b"".join(buffers)

    def read():
        return there._receive_exactly(len(wanted), None)

    with ThreadPoolExecutor(1) as pool:
        got = pool.submit(read)
        here.send(*buffers)
        assert got.result(20) == wanted
    assert here.bytes_sent == there.bytes_received == len(wanted)


def test_a_conversation_crosses_the_wire(pair):
    here, there = pair
    source, destination = MigrationConnection(Role.SOURCE), MigrationConnection(Role.DESTINATION)
    assert not there.readable()
    here.send(source.send(hello()))
    assert there.readable(5)
    assert there.receive(destination) == hello()
    here.close()
    assert isinstance(there.receive(destination), Disconnected)
    assert there.receive(destination) is None


def test_a_reset_connection_is_a_disconnection(pair):
    here, there = pair
    there._peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    there.close()
    assert isinstance(here.receive(MigrationConnection(Role.SOURCE)), Disconnected)
    with pytest.raises(PeerError, match="is lost"):
        here.send(bytes(64 << 20))


def test_garbage_is_the_peers_mistake(pair):
    here, there = pair
    here.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(64))
    with pytest.raises(RemoteProtocolError):
        there.receive(MigrationConnection(Role.DESTINATION))


def test_half_a_frame_and_the_end_is_a_disconnection(pair):
    here, there = pair
    here.send(MigrationConnection(Role.SOURCE).send(hello())[:-1])
    here.close()
    assert isinstance(there.receive(MigrationConnection(Role.DESTINATION)), Disconnected)


def test_silence_is_given_up_after_its_time(pair):
    here, _there = pair
    begin = time.monotonic()
    with pytest.raises(PeerError, match="silent"):
        here.receive(MigrationConnection(Role.SOURCE), timeout_s=0.1)
    assert 0.05 < time.monotonic() - begin < 3


def test_a_peer_that_dribbles_cannot_stretch_the_time_of_one_event(pair):
    here, there = pair
    frame = MigrationConnection(Role.SOURCE).send(hello())
    stop = threading.Event()

    def dribble():
        for byte in frame:
            if stop.wait(0.02):
                return
            there.send(bytes([byte]))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(dribble)
        with pytest.raises(PeerError, match="silent"):
            here.receive(MigrationConnection(Role.DESTINATION), timeout_s=0.3)
        stop.set()


def test_an_abort_ends_a_waiting_receive_and_a_blocked_send(pair):
    here, there = pair
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(here.receive, MigrationConnection(Role.SOURCE))
        blocked = pool.submit(here.send, bytes(64 << 20))
        time.sleep(0.1)
        begin = time.monotonic()
        here.abort("told to")
        for future in (waiting, blocked):
            with pytest.raises(CancelledError, match="told to"):
                future.result(5)
        assert time.monotonic() - begin < 1
    there.close()


def test_an_abort_ends_a_wait_for_bandwidth(pair):
    here, _there = pair
    here.limit_bandwidth(65536)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(here.send, bytes(2 << 20))
        time.sleep(0.1)
        here.abort()
        with pytest.raises(CancelledError):
            sending.result(1)


def test_a_bandwidth_bound_holds(pair):
    here, there = pair
    here.limit_bandwidth(10 << 20)
    begin = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        got = pool.submit(there._receive_exactly, 4 << 20, None)
        here.send(bytes(4 << 20))
        got.result(5)
    assert 0.3 < time.monotonic() - begin < 2  # 0.35 s: 4 MiB at 10 MiB/s, less the burst of 50 ms


def test_the_bucket_pays_back_what_was_taken_ahead():
    now = [0]
    bucket = TokenBucket(1000, lambda: now[0])
    assert bucket.take(50) == 0
    assert bucket.take(100) == pytest.approx(0.1)
    now[0] += 100_000_000
    assert bucket.take(0) == 0
    now[0] += 10**12
    assert bucket.take(1050) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="lets nothing through"):
        TokenBucket(0, lambda: 0)


def test_pages_are_refused_where_none_are_taken(pair):
    _here, there = pair
    connection = MigrationConnection(Role.DESTINATION)
    connection.expect = lambda: MemoryBody(((0, 4096),), 4096)
    with pytest.raises(PeerError, match="where none are taken"):
        there.receive(connection)


def test_nobody_there_is_a_peer_error():
    listener = Listener("127.0.0.1")
    address = listener.address
    listener.close()
    with pytest.raises(PeerError, match=f"cannot connect to {address}"):
        Channel.connect(address, timeout_s=2)


def test_a_taken_port_is_explained():
    listener = Listener("127.0.0.1")
    with pytest.raises(PeerError, match="cannot listen on 127"):
        Listener("127.0.0.1", listener.port)
    listener.close()


def test_closing_the_listener_ends_the_accepting_thread():
    listener = Listener("127.0.0.1")
    with ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(listener.accept)
        time.sleep(0.05)
        listener.close()
        assert accepting.result(5) is None


@pytest.mark.parametrize("address", [("127.0.0.1", 80), ("::1", 7700), ("host.example", 65535)])
def test_addresses_go_there_and_back(address):
    assert parse_address(format_address(*address)) == address


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":80", "host:0", "host:65536", "host:x", "host:-1", "h:" + "9" * 99]
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(InputError, match="HOST:PORT"):
        parse_address(text)


def conversation(here, there, config, ram, backing, rounds):
    """Let two threads take a conversation up to the last round; return what the destination was given."""
    source, destination = MigrationConnection(Role.SOURCE), MigrationConnection(Role.DESTINATION)
    memory = MachineMemory(destination.reader, lambda _config: backing)

    def send():
        here.send(source.send(hello()))
        here.receive(source)
        here.send(source.send(Offer(config_map(config), {})))
        here.receive(source)
        writer = StreamWriter(StreamHeader(bytes(16), 1, 1))
        here.send(source.send_stream(writer.header()), source.send_stream(writer.config(config)))
        for pages in rounds:
            chosen = select(ram, pages)
            for batch in zero_batches(writer.extents, chosen.zero):
                here.send(source.send_stream(writer.zero(batch)))
            for batch in memory_batches(writer.extents, chosen.data):
                head, body = writer.memory(batch, ram)
                here.send(source.send_stream(head), body)
            here.send(source.send_stream(writer.round_end()))
            acknowledged = here.receive(source)
        return acknowledged

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        there.receive(destination)
        there.send(destination.send(Welcome(1, "id", "south", {})))
        there.receive(destination)
        there.send(destination.send(Accept()))
        taken = []
        while len(taken) < len(rounds):
            event = there.receive(destination, memory)
            record = getattr(event, "record", None)
            memory.take(record)
            if isinstance(record, RoundEnd):
                taken.append(record)
                there.send(destination.send(RoundAck(record.round)))
        assert sending.result(20) == RoundAck(len(rounds))
    return taken


def test_rounds_of_pages_go_straight_from_one_backing_to_the_other(pair):
    here, there = pair
    pages = 3000
    slot = {"as_id": 0, "slot": 0, "gpa": 0, "size_bytes": pages * 4096, "flags": 0, "backing_offset_bytes": 0}
    config = Config(
        vm_id="vm-1",
        vm_name="web",
        backend="emulator",
        guest=None,
        epoch=1,
        source_host="north",
        schema_version=1,
        memory=MemoryMap(slots=[slot], ram_bytes=pages * 4096),
        vcpus=1,
    )
    ram, backing = bytearray(pages * 4096), bytearray(pages * 4096)
    words = np.frombuffer(ram, np.uint64).reshape(pages, 512)
    words[::3] = np.random.default_rng(1).integers(1, 1 << 63, (1000, 512), np.uint64)
    taken = conversation(here, there, config, memoryview(ram), backing, [np.arange(pages), np.array([0, 1, 3, 2999])])
    assert backing == ram
    assert [(end.pages, end.zero_pages) for end in taken] == [(1000, 2000), (2, 2)]
    assert here.bytes_sent == there.bytes_received > 1000 * 4096
