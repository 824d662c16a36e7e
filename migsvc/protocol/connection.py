"""One end of a migration connection: events to octets, octets to events. No socket, no clock, no catalogue.

Sending is two verbs, receiving is the pull form of the stream reader, so that pages go straight into guest RAM. A
blocking driver of the source::

    connection = MigrationConnection(Role.SOURCE)
    sock.sendall(connection.send(Hello(...)))
    welcome = next_event()                                       # see below
    sock.sendall(connection.send(Offer(config_map(config), summary)))
    accept = next_event()
    writer = StreamWriter(StreamHeader(...))
    sock.sendall(connection.send_stream(writer.header()))
    sock.sendall(connection.send_stream(writer.config(config)))
    for batch in memory_batches(writer.extents, runs):
        head, pages = writer.memory(batch, ram)
        send_vector(sock, [connection.send_stream(head), pages]) # the head carries all that the connection looks at
    sock.sendall(connection.send_stream(writer.round_end()))
    ack = next_event()                                           # wait, or go on: acks may come later
    ...                                                          # state records, DIGEST, END, each by send_stream
    sock.sendall(connection.send(Prepare(rounds, writer.sent_digest.root)))
    prepared = next_event()
    # the commit point: one durable transaction of the service, then
    sock.sendall(connection.send(Commit(prepared.epoch)))
    running = next_event()

and of receiving, on either side (a source never sees a MemoryBody)::

    def next_event():
        while (event := connection.next_event()) is None:
            want = connection.expect()
            if want is None:
                raise ...                                        # the conversation is over: see connection.state
            if isinstance(want, MemoryBody):
                count = sock.recvmsg_into(want.buffers(memory.ram))[0]
                connection.filled(memory.ram, count) if count else connection.disconnected()
            else:
                data = receive_exactly(sock, want.size)          # fewer octets: the peer has closed
                connection.fill(data) if len(data) == want.size else connection.disconnected()
        return event

A destination makes `memory = MachineMemory(connection.reader, allocate)` once, and gives it the record of every
StreamBegan, StreamRecord and StreamEnded before it asks for the next event.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Generator
from typing import NoReturn

from migsvc.stream import (
    Buffer,
    Config,
    Digest,
    End,
    MemoryBody,
    Need,
    Record,
    RoundEnd,
    StreamError,
    StreamHeader,
    StreamReader,
    Want,
)
from migsvc.stream.checksum import crc32c
from migsvc.stream.framing import RecordHeader
from migsvc.stream.records import CONTROL_BIT, FILE_HEADER_BYTES, MAGIC, RECORD_HEADER_BYTES, RecordType

from .agreement import Agreement
from .errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from .events import SENDER, Disconnected, Event, Received, StreamBegan, StreamEnded, StreamRecord
from .frames import decode_event, encode_event, event_class, require_crc
from .transitions import TERMINAL, Role, State, next_state

SKIP_PIECE_BYTES = 64 << 10
"""Unknown optional frames pass through in pieces of this size."""

_TYPE = struct.Struct("<I")
_ROUND = struct.Struct("<I")


class MigrationConnection:
    """One end of one connection."""

    def __init__(self, role: Role) -> None:
        """Begin before the first octet in either direction."""
        self.role = role
        self.state = State.IDLE
        self.reader = StreamReader()
        self._agreement = Agreement()
        self._sent = 0
        self._received = 0
        self._events: deque[Received] = deque()
        self._error: RemoteProtocolError | None = None
        self._machine = self._run()
        self._want: Want = next(self._machine)

    def send(self, event: Event) -> bytes:
        """Return the frame of an event, to be sent next.

        Raises:
            LocalProtocolError: PRO-010 it may not be sent now or not by this side, PRO-005 or PRO-006 it cannot be
                encoded, or it contradicts what was said before; the connection is unchanged.
        """
        self._require_alive()
        if SENDER[type(event)] is not self.role.side:
            raise LocalProtocolError("PRO-010", f"{type(event).__name__} is not sent by the {self.role.side.value}")
        state = self._next(type(event), LocalProtocolError)
        self._agreement.require(event, LocalProtocolError)
        frame = encode_event(event, self._sent)
        self._agreement.note(event)
        self._sent += 1
        self.state = state
        return frame

    def send_stream(self, record: bytes) -> bytes:
        """Take note of the file header or of a record of the stream and return it, to be sent next.

        Of MEMORY only the head is needed here; the pages follow it on the wire.

        Raises:
            LocalProtocolError: PRO-011, the stream may not be sent now.
        """
        self._require_alive()
        number = _TYPE.unpack_from(record)[0]
        began, ended = record.startswith(MAGIC), number == RecordType.END
        event = StreamBegan if began else StreamEnded if ended else StreamRecord
        if self.role is not Role.SOURCE:
            raise LocalProtocolError("PRO-011", "Only a source sends a stream")
        self.state = self._next(event, LocalProtocolError, "PRO-011")
        if number == RecordType.ROUND_END and not began:
            self._agreement.note_round(_ROUND.unpack_from(record, RECORD_HEADER_BYTES)[0])
        return record

    def expect(self) -> Want | None:
        """Return what is wanted next from the peer; None when the conversation is over.

        Raises:
            RemoteProtocolError: the peer broke a rule before; the same error again.
        """
        if self._error is not None:
            raise self._error
        return None if self.state in TERMINAL else self._want

    def fill(self, data: Buffer) -> None:
        """Give the octets of a Need.

        Raises:
            RemoteProtocolError: they break a rule; the connection is unusable.
            LocalProtocolError: PRO-020, it is not their turn, or they are more or fewer than wanted.
        """
        want = self.expect()
        if not isinstance(want, Need) or len(data) != want.size:
            raise LocalProtocolError("PRO-020", f"fill() of {len(data)} octets, but the connection wants {want}")
        self._advance(bytes(data))

    def filled(self, ram: Buffer, count: int) -> None:
        """Tell that the first `count` octets of a MemoryBody are in `ram`, the whole backing.

        Raises:
            RemoteProtocolError: they break a rule; the connection is unusable.
            LocalProtocolError: PRO-020, it is not their turn, or they are more than wanted.
        """
        want = self.expect()
        if not isinstance(want, MemoryBody) or not 1 <= count <= want.size:
            raise LocalProtocolError("PRO-020", f"filled() of {count} octets, but the connection wants {want}")
        try:
            self.reader.filled(ram, count)
        except StreamError as error:
            self._broken(error)
        self._advance(b"")

    def next_event(self) -> Received | None:
        """Return the next event of the peer, None when more octets are needed."""
        return self._events.popleft() if self._events else None

    def disconnected(self) -> None:
        """Tell that the connection is gone, whoever closed it; `Disconnected` is the last event."""
        if self.state not in TERMINAL:
            self.state = self._next(Disconnected, LocalProtocolError)
            self._events.append(Disconnected())

    def _require_alive(self) -> None:
        if self._error is not None:
            raise LocalProtocolError("PRO-010", "The peer broke the protocol; close the connection") from self._error

    def _next(self, event: type, blame: type[ProtocolError], rule: str = "PRO-010") -> State:
        state = next_state(self.role, self.state, event)
        if state is None:
            raise blame(rule, f"{event.__name__} may not come in state {self.state} of the {self.role.value}")
        return state

    def _advance(self, data: bytes) -> None:
        try:
            self._want = self._machine.send(data)
        except (StreamError, RemoteProtocolError) as error:
            self._broken(error)

    def _broken(self, error: StreamError | RemoteProtocolError) -> NoReturn:
        """Remember the peer's mistake: to this end it is as if the connection had been lost."""
        if isinstance(error, StreamError):
            found = RemoteProtocolError(error.rule, f"{error.detail} (at {error.where()})", hint=error.hint)
            found.__cause__ = error
        else:
            found = error
        self._error = found
        self.disconnected()
        raise found

    def _run(self) -> Generator[Want, bytes, None]:
        while True:
            raw = yield Need(RECORD_HEADER_BYTES)
            if raw.startswith(MAGIC):
                rest = yield Need(FILE_HEADER_BYTES - RECORD_HEADER_BYTES)
                self._require_stream(StreamBegan)
                yield from self._stream(raw + rest)
                continue
            header = RecordHeader.parse(raw)
            if header.type & CONTROL_BIT:
                yield from self._frame(header)
            else:
                self._require_stream(StreamEnded if header.type == RecordType.END else StreamRecord)
                yield from self._stream(raw)

    def _require_stream(self, event: type) -> None:
        if self.role is not Role.DESTINATION:
            raise RemoteProtocolError("PRO-011", f"Octets of a stream came to a {self.role.value}")
        self._next(event, RemoteProtocolError, "PRO-011")

    def _stream(self, first: bytes) -> Generator[Want, bytes, None]:
        """Pass one record, or the file header, through the reader; MemoryBody goes past `fill` by `filled`."""
        self.reader.fill(first)
        while not self.reader.at_boundary:
            want = self.reader.expect()
            if want is None:
                break
            data = yield want
            if isinstance(want, Need):
                self.reader.fill(data)
        for record in self.reader.records():
            self._take_record(record)

    def _take_record(self, record: Record) -> None:
        match record:
            case StreamHeader():
                self._take(StreamBegan(record))
                return
            case End():
                self._take(StreamEnded(record))
                return
            case Config():
                self._agreement.require_config(record, RemoteProtocolError)
            case RoundEnd():
                self._agreement.note_round(record.round)
            case Digest():
                self._agreement.note_digest(record)
        self._take(StreamRecord(record))

    def _frame(self, header: RecordHeader) -> Generator[Want, bytes, None]:
        if header.sequence != self._received:
            raise RemoteProtocolError("PRO-002", f"Frame number {header.sequence} where {self._received} was due")
        self._received += 1
        cls = event_class(header)
        if cls is None:
            yield from self._skip(header)
            return
        body = (yield Need(header.body_length)) if header.body_length else b""
        event = decode_event(cls, header, body)
        if SENDER[cls] is self.role.side:
            raise RemoteProtocolError("PRO-010", f"{cls.__name__} is not sent by the peer of a {self.role.value}")
        self._next(cls, RemoteProtocolError)
        self._agreement.require(event, RemoteProtocolError)
        self._agreement.note(event)
        self._take(event)

    def _take(self, event: Received) -> None:
        self.state = self._next(type(event), RemoteProtocolError)
        self._events.append(event)

    def _skip(self, header: RecordHeader) -> Generator[Want, bytes, None]:
        """Pass an optional frame that this version does not know: PRO-004."""
        crc, left = 0, header.body_length
        while left:
            piece = yield Need(min(left, SKIP_PIECE_BYTES))
            crc, left = crc32c(piece, crc), left - len(piece)
        require_crc(header, crc)
