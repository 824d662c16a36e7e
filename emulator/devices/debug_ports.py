"""Ports that firmware talks to its developers through: debug consoles 0x402 and 0xE9, and the POST code port."""

from collections.abc import Callable

FIRMWARE_CONSOLE, BOCHS_CONSOLE = 0x402, 0xE9
POST_PORT = 0x80
PRESENT = 0xE9
"""What both consoles read as, by which a guest knows that they are there."""
CONSOLE_LIMIT_BYTES = 1 << 20
"""Output kept for readers; older bytes are dropped."""


class DebugConsole:
    """Bytes written to either port, in order. `written` counts all that ever were, also before a migration.

    Source: QEMU 7.2 hw/char/debugcon.c; Bochs iodev/unmapped.cc (port e9 hack).
    """

    def __init__(self) -> None:
        self.written = 0
        self.output = bytearray()

    def read(self, since: int) -> tuple[int, bytes]:
        """Output from byte number `since` on: (number of the first byte returned, bytes)."""
        base = self.written - len(self.output)
        first = min(max(since, base), self.written)
        return first, bytes(self.output[first - base :])

    def port_read(self, port: int, size: int) -> int:  # noqa: ARG002 - byte-wide device
        """IN: the mark by which a guest knows the port."""
        return PRESENT

    def port_write(self, port: int, size: int, value: int) -> None:  # noqa: ARG002 - byte-wide device
        """OUT: one byte of output."""
        self.output.append(value)
        self.written += 1
        if len(self.output) > CONSOLE_LIMIT_BYTES:
            del self.output[: CONSOLE_LIMIT_BYTES // 2]

    def snapshot(self) -> dict[str, int]:
        """State: how many bytes were written."""
        return {"written": self.written}

    def load(self, fields: dict[str, int]) -> None:
        """Take the state over. The output is empty then: its bytes stayed where they were written."""
        self.written = fields["written"]
        self.output.clear()


class PostPort:
    """The last code that firmware wrote; `on_code` hears of every one."""

    def __init__(self) -> None:
        self.code = 0
        self.on_code: Callable[[int], None] = lambda _code: None

    def port_read(self, port: int, size: int) -> int:  # noqa: ARG002 - byte-wide device
        """IN: the last code."""
        return self.code

    def port_write(self, port: int, size: int, value: int) -> None:  # noqa: ARG002 - byte-wide device
        """OUT: a code."""
        self.code = value
        self.on_code(value)

    def snapshot(self) -> dict[str, int]:
        """State: the last code."""
        return {"code": self.code}

    def load(self, fields: dict[str, int]) -> None:
        """Take the state over."""
        self.code = fields["code"]
