"""SMI command port and SMI timer, in the fields of `migsvc_smi_port`."""

from collections.abc import Callable

COMMAND_PORT = 0xB2
STATUS_PORT = 0xB3
TIMER_PORT = 0xB8


class SmiPort:
    """Port 0xB2 raises an SMI and keeps the command, 0xB3 holds a status byte for the handler.

    Port 0xB8 is ours: a 32-bit write of n arms a one-shot timer that raises an SMI n virtual ns after the start of
    the OUT instruction, 0 disarms it; a read gives the ns that remain. With 1000 ns per instruction a guest
    places an SMI exactly: 2000 means after the OUT and one more instruction.

    Source: Intel ICH9 data sheet 13.7 (APM_CNT 0xB2, APM_STS 0xB3); the timer has no counterpart in hardware.
    """

    def __init__(
        self, now_ns: Callable[[], int], request_smi: Callable[[], None], on_change: Callable[[], None]
    ) -> None:
        self.command = 0
        self.status = 0
        self.deadline_ns: int | None = None
        self._now_ns = now_ns
        self._request_smi = request_smi
        self._on_change = on_change

    def due(self, now_ns: int) -> None:
        """Raise the SMI if its time has come."""
        if self.deadline_ns is not None and self.deadline_ns <= now_ns:
            self.deadline_ns = None
            self._request_smi()

    def port_read(self, port: int, size: int) -> int:
        """IN from the command, the status or the timer."""
        if port == COMMAND_PORT:
            return self.command
        if port == STATUS_PORT:
            return self.status
        if self.deadline_ns is None:
            return 0
        return max(self.deadline_ns - self._now_ns(), 0) & ((1 << 8 * size) - 1)

    def port_write(self, port: int, size: int, value: int) -> None:  # noqa: ARG002 - the whole operand is the value
        """OUT to the command, the status or the timer."""
        if port == COMMAND_PORT:
            self.command = value
            self._request_smi()
        elif port == STATUS_PORT:
            self.status = value
        else:
            self.deadline_ns = self._now_ns() + value if value else None
            self._on_change()

    def snapshot(self) -> dict[str, int]:
        """State in the fields of `migsvc_smi_port` (without `pad`)."""
        armed = self.deadline_ns is not None
        return {
            "command": self.command,
            "status": self.status,
            "timer_armed": int(armed),
            "timer_deadline_ns": self.deadline_ns if self.deadline_ns is not None else 0,
        }

    def load(self, fields: dict[str, int]) -> None:
        """Take the state over."""
        self.command = fields["command"]
        self.status = fields["status"]
        self.deadline_ns = fields["timer_deadline_ns"] if fields["timer_armed"] else None
        self._on_change()
