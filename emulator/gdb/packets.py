"""Packets of the GDB remote protocol: `$data#checksum`, acknowledgements, and the interrupt octet.

Source: Debugging with GDB, E.1 Overview.
"""

MAX_PACKET_BYTES = 0x4000
INTERRUPT = b"\x03"
_START, _END = ord("$"), ord("#")
_ACK, _NAK = b"+", b"-"


def checksum(data: bytes) -> bytes:
    """Two hexadecimal digits."""
    return b"%02x" % (sum(data) & 0xFF)


def frame(data: bytes) -> bytes:
    """A packet; `data` has none of the octets that must be escaped but `}`, `$`, `#` and `*`, which are."""
    escaped = b"".join(b"}%c" % (octet ^ 0x20) if octet in b"}$#*" else b"%c" % octet for octet in data)
    return b"$" + escaped + b"#" + checksum(escaped)


class PacketReader:
    """Takes octets in pieces of any size; gives packets, INTERRUPT, and what to acknowledge with.

    A packet that is too long or has a wrong checksum is asked for again; octets between packets are dropped.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self.acknowledges = True

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Packets and INTERRUPT in their order, and the acknowledgements to send."""
        self._held += data
        found, answers = [], bytearray()
        while self._held:
            if self._held[0] != _START:
                if self._held[:1] == INTERRUPT:
                    found.append(INTERRUPT)
                del self._held[0]
                continue
            end = self._held.find(_END)
            if end < 0 or len(self._held) < end + 3:
                if len(self._held) > MAX_PACKET_BYTES + 4:
                    self._held.clear()
                    answers += _NAK
                break
            body, given = bytes(self._held[1:end]), bytes(self._held[end + 1 : end + 3])
            del self._held[: end + 3]
            good = given.lower() == checksum(body) and len(body) <= MAX_PACKET_BYTES
            if self.acknowledges:
                answers += _ACK if good else _NAK
            if good:
                found.append(body)
        return found, bytes(answers)
