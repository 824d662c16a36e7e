"""One debugger at one machine: its commands, its breakpoints, and how the machine stops."""

from collections.abc import Callable

from ..breakpoints import DebuggerStop
from ..config import PAGE_BYTES
from ..exceptions import UnsupportedInstruction
from ..machine import Machine, StopReason
from ..registers import MASK64
from ..trace import linear_rip, peek, physical_of
from .packets import INTERRUPT, MAX_PACKET_BYTES, PacketReader, frame
from .registers import I386, X86_64, description, read_register, write_register

SIGINT, SIGILL, SIGTRAP, SIGABRT = 2, 4, 5, 6
MAX_BREAKPOINTS = 4096
SUPPORTED = b"PacketSize=%x;qXfer:features:read+;vContSupported+;QStartNoAckMode+;swbreak+" % MAX_PACKET_BYTES
_OK, _UNKNOWN, _BAD, _NO_MEMORY, _REFUSED = b"OK", b"", b"E16", b"E0e", b"E01"
_FIXED = {
    b"vCont?": b"vCont;c;C;s;S", b"qAttached": b"1", b"qC": b"QC1", b"qfThreadInfo": b"m1", b"qsThreadInfo": b"l",
    b"qTStatus": b"", b"qSymbol::": b"OK",
}  # fmt: skip


class GdbSession:
    """Commands are answered while the machine stands; while `running`, `run` must be called.

    `ended` is set when the debugger leaves: "detached" or "killed".
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._reader = PacketReader()
        self._registers = X86_64 if machine.cpu.model.long_mode else I386
        self._stop = b"T05thread:1;"
        self._breakpoints: set[int] = set()
        self.running = False
        self._single = self._first = False
        self.ended: str | None = None
        self._commands: dict[bytes, Callable[[bytes], bytes | None]] = {
            b"?": lambda _rest: self._stop,
            b"g": self._read_all,
            b"G": self._write_all,
            b"p": self._read_one,
            b"P": self._write_one,
            b"m": self._read_memory,
            b"M": self._write_memory,
            b"c": lambda rest: self._resume(rest, False),
            b"s": lambda rest: self._resume(rest, True),
            b"Z": lambda rest: self._breakpoint(rest, True),
            b"z": lambda rest: self._breakpoint(rest, False),
            b"H": lambda _rest: _OK,
            b"T": lambda _rest: _OK,
            b"D": lambda _rest: self._leave("detached"),
            b"k": lambda _rest: self._leave("killed"),
            b"v": self._verbose,
            b"q": self._query,
            b"Q": self._set,
        }

    def feed(self, data: bytes) -> bytes:
        """Take octets from the debugger; return what to send to it."""
        packets, answers = self._reader.feed(data)
        out = bytearray(answers)
        for packet in packets:
            if packet == INTERRUPT:
                out += self._stopped(SIGINT) if self.running else b""
            elif not self.running:
                out += self._answer(packet)
        return bytes(out)

    def run(self, steps: int) -> bytes:
        """Run up to `steps` steps; return the stop reply if the machine has stopped for the debugger."""
        breakpoints = self._machine.cpu.breakpoints
        try:
            if self._first:
                # A breakpoint that the debugger stands on is passed, others are met: an interrupt may be due.
                self._first = False
                self._arm(self._breakpoints - {linear_rip(self._machine.cpu.state)})
                reason = self._machine.run(1).reason
                return self._ended(reason) or (self._stopped(SIGTRAP) if self._single else b"")
            self._arm(self._breakpoints)
            return self._ended(self._machine.run(steps).reason)
        except DebuggerStop:
            return self._stopped(SIGTRAP, b"swbreak:;")
        except UnsupportedInstruction as error:
            return frame(b"O" + f"{error}\n".encode().hex().encode()) + self._stopped(SIGILL)
        finally:
            if breakpoints.debugger:
                self._arm(set())

    def _arm(self, addresses: set[int]) -> None:
        breakpoints = self._machine.cpu.breakpoints
        breakpoints.debugger = frozenset(addresses)
        breakpoints.refresh()

    def _ended(self, reason: StopReason) -> bytes:
        """The reply for a machine that cannot go on, empty if it can."""
        if reason is StopReason.BUDGET:
            return b""
        if reason is StopReason.DEBUG_EXIT:
            self.running = False
            self.ended = "exited"
            return frame(b"W%02x" % ((self._machine.debug_exit.status or 0) & 0xFF))
        text = f"the machine cannot go on: {reason.value}\n".encode()
        return frame(b"O" + text.hex().encode()) + self._stopped(SIGTRAP if reason is StopReason.HALTED else SIGABRT)

    def _stopped(self, signal: int, more: bytes = b"") -> bytes:
        self.running = False
        self._stop = b"T%02xthread:1;%b" % (signal, more)
        return frame(self._stop)

    def _answer(self, packet: bytes) -> bytes:
        command = self._commands.get(packet[:1])
        try:
            answer = _UNKNOWN if command is None else command(packet[1:])
        except (ValueError, IndexError):
            answer = _BAD
        return b"" if answer is None else frame(answer)

    # ---- registers and memory ----

    def _read_all(self, _rest: bytes) -> bytes:
        return b"".join(read_register(self._machine.cpu, register) for register in self._registers)

    def _write_all(self, rest: bytes) -> bytes:
        at, done = 0, True
        for register in self._registers:
            digits = rest[at : at + register.bits // 4]
            at += register.bits // 4
            if digits:
                done &= write_register(self._machine.cpu, register, digits)
        self._machine.cpu.state_changed()
        return _OK if done else _REFUSED

    def _read_one(self, rest: bytes) -> bytes:
        return read_register(self._machine.cpu, self._registers[_number(rest)])

    def _write_one(self, rest: bytes) -> bytes:
        number, _, digits = rest.partition(b"=")
        done = write_register(self._machine.cpu, self._registers[_number(number)], digits)
        self._machine.cpu.state_changed()
        return _OK if done else _REFUSED

    def _read_memory(self, rest: bytes) -> bytes:
        address, size = (_number(part) for part in rest.split(b","))
        return peek(self._machine, address & MASK64, min(size, MAX_PACKET_BYTES // 2)).hex().encode() or _NO_MEMORY

    def _write_memory(self, rest: bytes) -> bytes:
        place, _, digits = rest.partition(b":")
        address, size = (_number(part) for part in place.split(b","))
        data = bytes.fromhex(digits.decode("ascii"))
        if len(data) != size:
            return _BAD
        memory, as_id, pieces = self._machine.memory, int(self._machine.cpu.state.smm), []
        while data:
            gpa = physical_of(self._machine, address & MASK64)
            if gpa is None or memory.writable_page_offset(as_id, gpa) < 0:
                return _NO_MEMORY
            part = PAGE_BYTES - gpa % PAGE_BYTES
            pieces.append((gpa, data[:part]))
            address, data = address + part, data[part:]
        for gpa, piece in pieces:
            memory.write_bytes(as_id, gpa, piece)
        return _OK

    # ---- running ----

    def _resume(self, rest: bytes, single: bool) -> None:
        if rest:
            self._machine.cpu.state.rip = _number(rest) & MASK64
            self._machine.cpu.state_changed()
        self.running = self._first = True
        self._single = single

    def _breakpoint(self, rest: bytes, wanted: bool) -> bytes:
        """Software and hardware breakpoints are the same here: nothing is written into guest memory."""
        kind, address, *_ = rest.split(b",")
        if kind not in (b"0", b"1"):
            return _UNKNOWN
        if not wanted:
            self._breakpoints.discard(_number(address))
        elif len(self._breakpoints) >= MAX_BREAKPOINTS:
            return _REFUSED
        else:
            self._breakpoints.add(_number(address))
        return _OK

    def _leave(self, how: str) -> bytes | None:
        self.ended = how
        return _OK if how == "detached" else None

    # ---- longer names ----

    def _verbose(self, rest: bytes) -> bytes | None:
        """vCont: the first action counts, there is one thread."""
        packet = b"v" + rest
        if packet.startswith(b"vCont;"):
            action = rest[5:6].lower()
            if action not in (b"c", b"s"):
                return _BAD
            self._resume(b"", action == b"s")
            return None
        if packet.startswith(b"vKill"):
            self._leave("killed")
            return _OK
        return _FIXED.get(packet, _UNKNOWN)

    def _query(self, rest: bytes) -> bytes:
        packet = b"q" + rest
        if packet.startswith(b"qSupported"):
            return SUPPORTED
        prefix = b"qXfer:features:read:target.xml:"
        if packet.startswith(prefix):
            offset, size = (_number(part) for part in packet[len(prefix) :].split(b","))
            part = description(self._registers)[offset : offset + min(size, MAX_PACKET_BYTES // 4)]
            more = offset + len(part) < len(description(self._registers))
            return (b"m" if more else b"l") + part
        return _FIXED.get(packet, _UNKNOWN)

    def _set(self, rest: bytes) -> bytes:
        if rest != b"StartNoAckMode":
            return _UNKNOWN
        self._reader.acknowledges = False
        return _OK


def _number(digits: bytes) -> int:
    """A number as packets have them.

    Raises:
        ValueError: it is none: no sign, no space, no prefix.
    """
    if not digits.isalnum():
        raise ValueError(f"{digits!r} is no hexadecimal number")
    return int(digits, 16)
