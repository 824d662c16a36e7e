"""The firmware configuration device: what firmware asks about the machine."""

from collections.abc import Mapping

SELECT_PORT, DATA_PORT = 0x510, 0x511
SIGNATURE, INTERFACE_VERSION, RAM_SIZE, NB_CPUS, MAX_CPUS, FILE_DIRECTORY = 0x00, 0x01, 0x03, 0x05, 0x0F, 0x19
IRQ0_OVERRIDE = 0x8002
FIRST_FILE = 0x20
_NAME_BYTES = 56
_E820_RAM, _E820_RESERVED = 1, 2


def e820_file(ranges: tuple[tuple[int, int], ...], reserved: tuple[tuple[int, int], ...] = ()) -> bytes:
    """File `etc/e820`: 20 bytes an entry, RAM first, then what is reserved, each (address, size in bytes)."""
    rows = [(*row, _E820_RAM) for row in ranges] + [(*row, _E820_RESERVED) for row in reserved]
    return b"".join(
        address.to_bytes(8, "little") + size.to_bytes(8, "little") + kind.to_bytes(4, "little")
        for address, size, kind in rows
    )


class FwCfg:
    """Items by number, read byte by byte: a write to port 0x510 selects one, reads of 0x511 go through it.

    Beyond the end of an item, and where there is none, bytes are 0. There is no DMA interface. The items are made from
    the machine's description, so that only the selector and the position are state.

    Source: QEMU docs/specs/fw_cfg.rst.
    """

    def __init__(self, ram_bytes: int, cpus: int, files: Mapping[str, bytes]) -> None:
        names = sorted(files)
        entries = [
            len(files[name]).to_bytes(4, "big")
            + (FIRST_FILE + n).to_bytes(2, "big")
            + bytes(2)
            + name.encode("ascii").ljust(_NAME_BYTES, b"\0")
            for n, name in enumerate(names)
        ]
        self._items = {
            SIGNATURE: b"QEMU",
            INTERFACE_VERSION: (1).to_bytes(4, "little"),
            RAM_SIZE: ram_bytes.to_bytes(8, "little"),
            NB_CPUS: cpus.to_bytes(2, "little"),
            MAX_CPUS: cpus.to_bytes(2, "little"),
            IRQ0_OVERRIDE: (1).to_bytes(4, "little"),
            FILE_DIRECTORY: len(names).to_bytes(4, "big") + b"".join(entries),
            **{FIRST_FILE + n: files[name] for n, name in enumerate(names)},
        }
        self.selected = 0
        self.position = 0

    def port_read(self, port: int, size: int) -> int:  # noqa: ARG002 - the data port is byte-wide
        """IN: the next byte of the selected item."""
        if port == SELECT_PORT:
            return 0
        item = self._items.get(self.selected, b"")
        value = item[self.position] if self.position < len(item) else 0
        self.position += 1
        return value

    def port_write(self, port: int, size: int, value: int) -> None:
        """OUT: select an item. Data is not written."""
        if port == SELECT_PORT and size == 2:
            self.selected, self.position = value, 0

    def snapshot(self) -> dict[str, int]:
        """State: what is selected, and how far it was read."""
        return {"selected": self.selected, "position": self.position}

    def load(self, fields: dict[str, int]) -> None:
        """Take the state over."""
        self.selected, self.position = fields["selected"], fields["position"]
