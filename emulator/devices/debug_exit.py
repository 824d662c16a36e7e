"""The debug-exit port, through which a guest ends its run."""

from collections.abc import Callable

DEBUG_EXIT_PORT = 0xF4


class DebugExit:
    """A write of v to port 0xF4 ends the run with code v; a process would exit with status (v << 1) | 1.

    Source: QEMU hw/misc/debugexit.c (isa-debug-exit).
    """

    def __init__(self, on_exit: Callable[[], None]) -> None:
        self.code: int | None = None
        self._on_exit = on_exit

    @property
    def status(self) -> int | None:
        """Exit status that a process running the machine would end with; None while it has not ended."""
        return None if self.code is None else self.code << 1 | 1

    def port_read(self, port: int, size: int) -> int:  # noqa: ARG002 - one register
        """IN: reads zero."""
        return 0

    def port_write(self, port: int, size: int, value: int) -> None:  # noqa: ARG002 - one register
        """OUT: the low byte is the code. The first one stays."""
        if self.code is None:
            self.code = value & 0xFF
            self._on_exit()

    def load(self, code: int | None) -> None:
        """Take the state over: the code, or None for a guest that runs on."""
        self.code = code
