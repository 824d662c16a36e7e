"""A guest in the terminal: its serial port on standard input and output, all else that it says on standard error."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emulator.machine import Machine, RunResult

FIRST_CHUNK_STEPS, MAX_CHUNK_STEPS = 2_000, 500_000
CHUNK_S = 0.02
"""How long the guest may go without a look at the terminal; a chunk grows while it is shorter."""
POLL_S = 0.1
READ_BYTES = 4096
IER_RDI = 1


class Terminal:
    """Carries octets between the guest and the standard streams; `interrupted` is set by Ctrl-C."""

    def __init__(self, machine: Machine) -> None:
        """Begin with what the guest says from now on."""
        self._machine = machine
        self._shown = machine.serial.tx_bytes
        self._debug_shown = machine.pc.console.written if machine.pc else 0
        self._pending = b""
        self._input: int | None = _descriptor(sys.stdin)
        self.interrupted = False

    def attend(self) -> None:
        """Show what the guest has said, and give it what was typed."""
        self.show()
        if not self._pending and self._readable(0):
            self._take()
        if self._pending:
            self._pending = self._pending[self._machine.serial.receive(self._pending) :]

    def show(self) -> None:
        """Write out the serial port, and the debug console to standard error."""
        serial = self._machine.serial
        if serial.tx_bytes != self._shown:
            first, data = serial.read_console(self._shown)
            self._shown = first + len(data)
            _write(sys.stdout, data)
        if self._machine.pc and self._machine.pc.console.written != self._debug_shown:
            first, data = self._machine.pc.console.read(self._debug_shown)
            self._debug_shown = first + len(data)
            _write(sys.stderr, data)

    def wait_for_input(self) -> bool:
        """Wait for something to wake a guest that listens to its serial port; False if nothing would.

        A guest that sleeps on with input in its FIFO has its interrupts off.
        """
        if not self._machine.serial.ier & IER_RDI or self._machine.serial.rx_len:
            return False
        while not self.interrupted and not self._pending and self._input is not None:
            if self._readable(POLL_S):
                self._take()
        return bool(self._pending)

    def _readable(self, timeout_s: float) -> bool:
        return self._input is not None and bool(select.select([self._input], [], [], timeout_s)[0])

    def _take(self) -> None:
        data = os.read(self._input, READ_BYTES) if self._input is not None else b""
        self._pending += data
        if not data:
            self._input = None

    def note_post_codes(self) -> None:
        """Print every POST code on standard error."""
        if self._machine.pc:
            self._machine.pc.post.on_code = lambda code: print(f"POST {code:02x}", file=sys.stderr, flush=True)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Take single keys without echo, if a person types; Ctrl-C sets `interrupted`."""
        with ExitStack() as stack:
            before = signal.signal(signal.SIGINT, self._interrupt)
            stack.callback(signal.signal, signal.SIGINT, before)
            if self._input is not None and os.isatty(self._input):
                stack.enter_context(_single_keys(self._input))
            yield

    def _interrupt(self, _number: int, _frame: object) -> None:
        self.interrupted = True


@contextmanager
def _single_keys(descriptor: int) -> Iterator[None]:
    import termios

    before = termios.tcgetattr(descriptor)
    now = termios.tcgetattr(descriptor)
    now[0] &= ~termios.ICRNL
    now[3] &= ~(termios.ICANON | termios.ECHO)
    termios.tcsetattr(descriptor, termios.TCSANOW, now)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)


def _descriptor(stream: object) -> int | None:
    """Descriptor of standard input, or None where there is none to wait for."""
    try:
        return stream.fileno()  # type: ignore[attr-defined, no-any-return]
    except (AttributeError, OSError, ValueError):
        return None


def _write(stream: object, data: bytes) -> None:
    """Write octets to a standard stream; a test may have put one without buffer there."""
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        stream.write(data.decode("latin-1"))  # type: ignore[attr-defined]
    else:
        buffer.write(data)
    stream.flush()  # type: ignore[attr-defined]


class Pace:
    """How many steps to do before the next look at the terminal."""

    def __init__(self) -> None:
        """Begin small: the guest may print at once."""
        self._steps = FIRST_CHUNK_STEPS

    def run(self, run: Callable[[int], RunResult], limit: int | None) -> RunResult:
        """Run a chunk, at most `limit` steps, and learn from how long it took."""
        steps = self._steps if limit is None else min(self._steps, limit)
        begin_s = time.monotonic()
        result = run(steps)
        if time.monotonic() - begin_s > CHUNK_S:
            self._steps = max(self._steps // 2, FIRST_CHUNK_STEPS)
        elif steps == self._steps:
            self._steps = min(self._steps * 2, MAX_CHUNK_STEPS)
        return result
