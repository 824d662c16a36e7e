"""The keyboard controller 8042 with nothing plugged in, and system control port 92h: the A20 gate and CPU reset."""

from collections.abc import Callable

KBC_DATA, KBC_COMMAND = 0x60, 0x64
SYSTEM_CONTROL = 0x92

STATUS_OUTPUT_FULL, STATUS_SYSTEM, STATUS_COMMAND, STATUS_UNLOCKED = 0x01, 0x04, 0x08, 0x10
OUTPUT_NOT_RESET, OUTPUT_A20 = 0x01, 0x02
CONTROL_RESET, CONTROL_A20 = 0x01, 0x02
READ_MODE, WRITE_MODE, SELF_TEST, TEST_KEYBOARD, TEST_MOUSE = 0x20, 0x60, 0xAA, 0xAB, 0xA9
READ_INPUT, READ_OUTPUT, WRITE_OUTPUT, PULSE = 0xC0, 0xD0, 0xD1, 0xF0
_ANSWERS = {SELF_TEST: 0x55, TEST_KEYBOARD: 0x01, TEST_MOUSE: 0x01, READ_INPUT: 0x80}
"""Tests say "clock line stuck low": no keyboard, no mouse. The input port says "not locked"."""
_TAKES_DATA = (WRITE_MODE, WRITE_OUTPUT)
_FIELDS = ("mode", "output_port", "answer", "full", "command")


class KeyboardController:
    """Commands and answers of the 8042 at ports 0x60 and 0x64, and port 0x92, which shares the A20 gate with it.

    Bytes for a keyboard or a mouse go nowhere. `set_a20` opens and closes the gate; `request_init` resets the CPU.

    Source: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller"; Intel 82371SB
    data sheet 2.5.4.
    """

    def __init__(self, set_a20: Callable[[bool], None], request_init: Callable[[], None]) -> None:
        self.mode = 0
        self.output_port = OUTPUT_NOT_RESET | OUTPUT_A20
        self.answer = 0
        self.full = 0
        self.command = 0
        self._set_a20 = set_a20
        self._request_init = request_init

    @property
    def a20(self) -> bool:
        """Whether the gate is open: address bit 20 passes."""
        return bool(self.output_port & OUTPUT_A20)

    def _open(self, wanted: bool) -> None:
        if wanted != self.a20:
            self.output_port ^= OUTPUT_A20
            self._set_a20(wanted)

    def _reply(self, value: int) -> None:
        self.answer, self.full = value, 1

    def port_read(self, port: int, size: int) -> int:  # noqa: ARG002 - byte-wide device
        """IN from the answer, the status or port 0x92."""
        if port == SYSTEM_CONTROL:
            return CONTROL_A20 if self.a20 else 0
        if port == KBC_DATA:
            self.full = 0
            return self.answer
        last_was_command = STATUS_COMMAND if self.command else 0
        return STATUS_UNLOCKED | (self.mode & STATUS_SYSTEM) | last_was_command | (STATUS_OUTPUT_FULL * self.full)

    def port_write(self, port: int, size: int, value: int) -> None:  # noqa: ARG002 - byte-wide device
        """OUT of data, of a command or to port 0x92."""
        if port == SYSTEM_CONTROL:
            self._open(bool(value & CONTROL_A20))
            if value & CONTROL_RESET:
                self._request_init()
        elif port == KBC_DATA:
            self._take(value)
        else:
            self._obey(value)

    def _take(self, value: int) -> None:
        command, self.command = self.command, 0
        if command == WRITE_MODE:
            self.mode = value
        elif command == WRITE_OUTPUT:
            self._open(bool(value & OUTPUT_A20))
            if not value & OUTPUT_NOT_RESET:
                self._request_init()

    def _obey(self, value: int) -> None:
        self.command = value if value in _TAKES_DATA else 0
        if value in _ANSWERS:
            self._reply(_ANSWERS[value])
            if value == SELF_TEST:
                self.mode |= STATUS_SYSTEM
        elif value == READ_MODE:
            self._reply(self.mode)
        elif value == READ_OUTPUT:
            self._reply(self.output_port)
        elif value in (0xDD, 0xDF):
            self._open(value == 0xDF)
        elif value >= PULSE and not value & 1:
            self._request_init()

    def snapshot(self) -> dict[str, int]:
        """State of the controller."""
        return {name: int(getattr(self, name)) for name in _FIELDS}

    def load(self, fields: dict[str, int]) -> None:
        """Take the state over; the A20 gate follows."""
        for name in _FIELDS:
            setattr(self, name, fields[name])
        self._set_a20(self.a20)
