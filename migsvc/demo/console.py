"""Follows a VM's serial console from host to host, and knows which host sent which line."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from migsvc.client import Client


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the guest, and the host on which its last byte was sent."""

    host: str
    text: str


@dataclass
class ConsoleFollower:
    """The console of one VM, read without a gap: offsets count from the VM's first byte, on whatever host."""

    vm: str
    offset: int = 0
    data: bytearray = field(default_factory=bytearray)
    lines: list[Line] = field(default_factory=list)
    _partial: bytearray = field(default_factory=bytearray)

    def read(self, host: str, client: Client, wait_s: float = 0) -> int:
        """Take what there is on that host from the present offset on; return the number of new lines."""
        before = len(self.lines)
        while True:
            chunk = client.get(f"/v1/vms/{self.vm}/console", offset=self.offset, wait_s=wait_s)
            new = base64.b64decode(chunk["data_base64"])
            self._take(host, int(chunk["offset"]), new)
            self.offset = int(chunk["next_offset"])
            if not new or wait_s:
                return len(self.lines) - before

    def _take(self, host: str, offset: int, new: bytes) -> None:
        if offset != len(self.data):
            raise GapError(f"{host} answered from byte {offset}, wanted {len(self.data)}")
        self.data += new
        self._partial += new
        *complete, rest = bytes(self._partial).split(b"\n")
        self.lines += [Line(host, line.decode("ascii", errors="replace").rstrip("\r")) for line in complete]
        self._partial = bytearray(rest)


class GapError(Exception):
    """The console did not go on where it ended: bytes were lost or sent twice."""
