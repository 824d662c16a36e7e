"""What a VM is made of, as the agent tells its worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from migsvc.backends.params import Param, check_params
from migsvc.backends.ram import MAX_RAM_BYTES
from migsvc.errors import InputError

MAX_IMAGES = 64
MAX_IMAGE_BYTES = 48 << 20
"""All images together; they must fit into one frame."""

MAX_GUEST_PARAMS = 32
MAX_ENTRY = 0x10FFEF
"""FFFF:FFFF, the last address that real mode can name."""
MAX_APPEND_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Image:
    """Bytes that are written into guest memory before the first instruction."""

    as_id: int
    gpa: int
    data: bytes

    def to_map(self) -> dict[str, Any]:
        """Return the image as it crosses the socket."""
        return {"as_id": self.as_id, "gpa": self.gpa, "data": self.data}


@dataclass(frozen=True, slots=True)
class Boot:
    """An image that says itself where it goes and begins: a firmware ROM, or a multiboot kernel with a command line."""

    kind: str
    data: bytes
    append: str = ""

    def to_map(self) -> dict[str, Any]:
        """Return the image as it crosses the socket."""
        return {"kind": self.kind, "data": self.data, "append": self.append}


@dataclass(frozen=True, slots=True)
class VmConfig:
    """A bundled guest with parameters, or a ROM or kernel, or flat images, or, for a copy that arrives, a machine.

    `entry` is where flat images begin; without it they begin at the first one.

    `machine` is what `Vm.describe` returned on the host it comes from. `incoming` VMs do not run before a grant.
    `paced`: virtual time that the guest idles away does not outrun real time. `keeps_smm_shadow`: an SMI puts the
    interrupt shadow aside, as Linux 6.2 does; before, it was lost.
    """

    backend: str = "emulator"
    guest: str | None = None
    guest_params: dict[str, int] = field(default_factory=dict)
    images: tuple[Image, ...] = ()
    boot: Boot | None = None
    entry: int | None = None
    cpu_model: str | None = None
    board: str | None = None
    ram_bytes: int | None = None
    machine: dict[str, Any] | None = None
    epoch: int = 1
    incoming: bool = False
    paced: bool = True
    keeps_smm_shadow: bool = True

    def to_map(self) -> dict[str, Any]:
        """Return the configuration as it crosses the socket."""
        return {
            "backend": self.backend,
            "guest": self.guest,
            "guest_params": self.guest_params,
            "images": [image.to_map() for image in self.images],
            "boot": None if self.boot is None else self.boot.to_map(),
            "entry": self.entry,
            "cpu_model": self.cpu_model,
            "board": self.board,
            "ram_bytes": self.ram_bytes,
            "machine": self.machine,
            "epoch": self.epoch,
            "incoming": self.incoming,
            "paced": self.paced,
            "keeps_smm_shadow": self.keeps_smm_shadow,
        }


_CONFIG = (
    Param("backend", str, "emulator", most=32),
    Param("guest", str, None, most=64),
    Param("guest_params", dict, {}, most=MAX_GUEST_PARAMS),
    Param("images", list, [], most=MAX_IMAGES),
    Param("boot", dict, None),
    Param("entry", int, None, most=MAX_ENTRY),
    Param("cpu_model", str, None, most=32),
    Param("board", str, None, most=16),
    Param("ram_bytes", int, None, least=1, most=MAX_RAM_BYTES),
    Param("machine", dict, None, most=64),
    Param("epoch", int, 1, least=1, most=(1 << 63) - 2),
    Param("incoming", bool, False),
    Param("paced", bool, True),
    Param("keeps_smm_shadow", bool, True),
)

_IMAGE = (
    Param("as_id", int, 0, most=1),
    Param("gpa", int),
    Param("data", bytes, most=MAX_IMAGE_BYTES),
)

_BOOT = (
    Param("kind", str, choices=("bios", "multiboot")),
    Param("data", bytes, most=MAX_IMAGE_BYTES),
    Param("append", str, "", most=MAX_APPEND_BYTES),
)


def parse_config(raw: object) -> VmConfig:
    """Return the configuration that a map holds.

    Raises:
        InputError: something is missing, unknown, of another kind or out of bounds.
    """
    values = check_params("config", _CONFIG, raw)
    images = tuple(Image(**check_params(f"images[{n}]", _IMAGE, image)) for n, image in enumerate(values["images"]))
    boot = None if values["boot"] is None else Boot(**check_params("boot", _BOOT, values["boot"]))
    if sum(len(image.data) for image in (*images, *([boot] if boot else ()))) > MAX_IMAGE_BYTES:
        raise InputError(f"images: together more than {MAX_IMAGE_BYTES} bytes")
    for name, value in values["guest_params"].items():
        if not isinstance(name, str) or not isinstance(value, int) or isinstance(value, bool):
            raise InputError(f"guest_params: {str(name)[:64]!r} must be a name with a whole number")
    return VmConfig(**{**values, "images": images, "boot": boot, "guest_params": dict(values["guest_params"])})
