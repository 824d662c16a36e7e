"""Follows a VM's serial console from host to host, and knows which host each line was sent on."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from migsvc.client import Client


class GapError(Exception):
    """The console did not go on where it ended: bytes were lost or sent twice."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the guest, and the host on which its last byte was sent."""

    host: str
    text: str


@dataclass
class ConsoleFollower:
    """The console of one VM, read without a gap: offsets count from the VM's first byte, on whatever host."""

    vm: str
    data: bytearray = field(default_factory=bytearray)
    lines: list[Line] = field(default_factory=list)
    _stays: list[tuple[int, str]] = field(default_factory=list)
    _line_start: int = 0

    def begin_stay(self, host: str, offset: int | None = None) -> None:
        """Note that bytes from `offset` on (None: from those not yet read) are sent on that host."""
        self._stays.append((len(self.data) if offset is None else offset, host))

    def read(self, client: Client) -> int:
        """Take what the VM's present host has from where we are; return the number of new lines.

        Raises:
            GapError: it does not begin there.
        """
        before = len(self.lines)
        while True:
            chunk = client.get(f"/v1/vms/{self.vm}/console", offset=len(self.data))
            new = base64.b64decode(chunk["data_base64"])
            if chunk["offset"] != len(self.data):
                raise GapError(f"the console goes on at byte {chunk['offset']}, wanted {len(self.data)}")
            if not new:
                return len(self.lines) - before
            self._take(new)

    def _take(self, new: bytes) -> None:
        self.data += new
        while (end := self.data.find(b"\n", self._line_start)) >= 0:
            text = self.data[self._line_start : end].decode("ascii", errors="replace").rstrip("\r")
            self.lines.append(Line(self._host_of(end), text))
            self._line_start = end + 1

    def _host_of(self, offset: int) -> str:
        return next((host for start, host in reversed(self._stays) if start <= offset), "")
