"""What an emulated VM is made of: a bundled guest, other people's images, or a machine that another host described."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emulator.config import Board, MachineConfig, SlotConfig
from emulator.guests import GUESTS
from emulator.loaders import FlatImage, Loaded, load_bios, load_flat, load_multiboot, machine_config
from emulator.loaders.flat import real_mode_start
from migsvc.backends.config import Boot, VmConfig
from migsvc.backends.params import Param, check_params
from migsvc.errors import InputError
from schemas.errors import parse_as
from schemas.memory import MemoryMap

DEFAULT_RAM_BYTES = 16 << 20
"""RAM of a VM made of images that names none."""
DEFAULT_CPU_MODEL = "x86-64"
KERNEL_NAME = "kernel"
"""The first word of a multiboot kernel's command line: the request names no file."""

MAX_NS_PER_INSTRUCTION = 1 << 32
_MACHINE = (Param("memory", dict), Param("vcpus", int, 1, least=1, most=1), Param("machine", dict))
_PARAMETERS = (
    Param("ns_per_instruction", int, 1000, least=1, most=MAX_NS_PER_INSTRUCTION),
    Param("tsc_khz", int, 1_000_000, least=1, most=(1 << 32) - 1),
    Param("cpu_model", str, DEFAULT_CPU_MODEL, most=32),
)


def config_of(config: VmConfig) -> MachineConfig:
    """Return the machine that a VM's configuration asks for.

    Raises:
        InputError: it names what there is not.
        ValueError: what it asks for does not fit together, or an image does not load.
    """
    if config.machine is not None:
        return described(config.machine)
    if config.guest is None:
        return _of_images(config)
    guest = GUESTS.get(config.guest)
    if guest is None:
        raise InputError(f"there is no guest {config.guest!r}", hint=f"bundled guests: {', '.join(GUESTS)}")
    if config.boot is not None or config.images or config.entry is not None or config.cpu_model or config.board:
        raise InputError("a bundled guest brings its images, CPU model and board with it")
    return guest.config(config.guest_params, config.ram_bytes)


def describe(config: MachineConfig) -> dict[str, Any]:
    """Return the memory map, the number of vCPUs and the parameters of a machine."""
    slots = [slot._asdict() for slot in config.slots]
    parameters = {param.name: getattr(config, param.name) for param in _PARAMETERS}
    return {"memory": {"slots": slots, "ram_bytes": config.ram_bytes}, "vcpus": 1, "machine": parameters}


def described(raw: Mapping[str, Any]) -> MachineConfig:
    """Return the machine that `describe` told of, as checked as anything from a wire.

    Raises:
        InputError: something is missing, unknown, of another kind or out of bounds.
    """
    values = check_params("machine", _MACHINE, raw)
    parameters = check_params("machine.machine", _PARAMETERS, values["machine"])
    memory = parse_as(MemoryMap, values["memory"])
    slots = tuple(SlotConfig(**slot.model_dump()) for slot in memory.slots)
    return MachineConfig(ram_bytes=memory.ram_bytes, slots=slots, **parameters)


def _of_images(config: VmConfig) -> MachineConfig:
    ram_bytes = config.ram_bytes or DEFAULT_RAM_BYTES
    cpu_model = config.cpu_model or DEFAULT_CPU_MODEL
    loaded = _load_flat(config) if config.boot is None else _load(config, config.boot, cpu_model, ram_bytes)
    return machine_config(loaded, ram_bytes, cpu_model=cpu_model, board=Board(config.board or Board.MINIMAL))


def _load(config: VmConfig, boot: Boot, cpu_model: str, ram_bytes: int) -> Loaded:
    if config.images or config.entry is not None:
        raise InputError("a ROM or a kernel begins where it says; flat images and an entry do not go with it")
    if boot.kind == "bios":
        return load_bios(boot.data, cpu_model)
    return load_multiboot(boot.data, KERNEL_NAME, boot.append, ram_bytes)


def _load_flat(config: VmConfig) -> Loaded:
    if not config.images:
        raise InputError("a VM needs a guest, a ROM, a kernel, or a flat image in address space 0")
    entry = None if config.entry is None else real_mode_start(config.entry)
    return load_flat([FlatImage(image.gpa, image.data, image.as_id) for image in config.images], entry)
