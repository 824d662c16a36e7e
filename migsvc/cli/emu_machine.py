"""The machine of `migsvc emu run`: made of an image, a bundled guest, or a stream file; and written as one."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migsvc.cli.exit_codes import ExitCode
from migsvc.cli.session import CliError

if TYPE_CHECKING:
    from emulator.config import MachineConfig, StartConfig
    from emulator.loaders import FlatImage
    from emulator.machine import Machine

DEFAULT_RAM_BYTES = 128 << 20
"""As QEMU gives a machine."""
MAX_RAM_BYTES = 64 << 30
MAX_FILE_BYTES = 64 << 20
_UNITS = {"": 1 << 20, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_FAR = re.compile(r"([0-9a-fA-F]{1,4}):([0-9a-fA-F]{1,4})")


@dataclass(frozen=True, slots=True)
class Source:
    """What to run; exactly one of `image`, `bios`, `multiboot`, `flat` and `resume` is given."""

    image: str | None = None
    bios: Path | None = None
    multiboot: Path | None = None
    append: str = ""
    flat: Sequence[str] = ()
    entry: str | None = None
    resume: Path | None = None
    params: Sequence[str] = ()
    ram: str | None = None
    cpu: str | None = None
    board: str | None = None
    post_port: int | None = None
    tier: str = "auto"


def make_machine(source: Source) -> Machine:
    """Return the machine.

    Raises:
        CliError: USAGE, the options do not fit together, or a file cannot be read; REFUSED, an image does not load.
    """
    given = [name for name in ("image", "bios", "multiboot", "flat", "resume") if getattr(source, name)]
    if len(given) != 1:
        text = f"{' and '.join(given)} are given together" if given else "there is nothing to run"
        raise CliError(text, ExitCode.USAGE, hint="give one of IMAGE, --bios, --multiboot, --flat and --resume")
    source = _recognised(source)
    if source.resume is not None:
        return _resumed(source)
    from emulator.machine import Machine, Tier

    try:
        return Machine(_guest(source) if source.image else _loaded(source), tier=Tier(source.tier))
    except ImportError as error:
        raise CliError(f"no fast tier: {error}", ExitCode.USAGE, hint="pip install migsvc[fast]") from error
    except ValueError as error:
        raise CliError(str(error), ExitCode.REFUSED) from error


def _recognised(source: Source) -> Source:
    """Tell by its contents what the IMAGE of the command line is."""
    if source.image is None:
        return source
    from emulator.guests import GUESTS
    from migsvc.stream.records import MAGIC

    if source.image in GUESTS:
        return source
    path = Path(source.image)
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
    except OSError as error:
        hint = f"an image, a stream file, or a bundled guest is needed: {', '.join(GUESTS)}"
        raise CliError(f"{path}: {error.strerror}", ExitCode.USAGE, hint=hint) from error
    if head == MAGIC:
        return replace(source, image=None, resume=path)
    return replace(source, image=None, multiboot=path)


def _guest(source: Source) -> MachineConfig:
    from emulator.guests import GUESTS
    from migsvc.cli.vm import parse_params

    if source.cpu or source.board or source.post_port is not None:
        raise CliError("a bundled guest has its own CPU model and board", ExitCode.USAGE)
    ram_bytes = None if source.ram is None else parse_size(source.ram)
    return GUESTS[source.image or ""].config(parse_params(list(source.params)), ram_bytes)


def _loaded(source: Source) -> MachineConfig:
    from emulator.loaders import load_bios, load_flat, load_multiboot, machine_config

    ram_bytes = DEFAULT_RAM_BYTES if source.ram is None else parse_size(source.ram)
    cpu = source.cpu or "x86-64"
    if source.bios is not None:
        loaded = load_bios(_read(source.bios), cpu)
    elif source.multiboot is not None:
        loaded = load_multiboot(_read(source.multiboot), str(source.multiboot), source.append, ram_bytes)
    else:
        loaded = load_flat([_flat(text) for text in source.flat], parse_entry(source.entry))
    return machine_config(loaded, ram_bytes, cpu_model=cpu, **_board(source))


def _board(source: Source) -> dict[str, Any]:
    from emulator.config import Board

    try:
        board = Board(source.board or ("minimal" if source.flat and source.post_port is None else "pc"))
    except ValueError as error:
        raise CliError(f"no board {source.board!r}", ExitCode.USAGE, hint=f"there are: {', '.join(Board)}") from error
    return {"board": board, **({} if source.post_port is None else {"post_port": source.post_port})}


def _flat(text: str) -> FlatImage:
    from emulator.loaders import FlatImage

    file, _, address = text.rpartition("@")
    try:
        return FlatImage(int(address, 0), _read(Path(file)))
    except ValueError as error:
        raise CliError(f"--flat {text}: must be FILE@ADDRESS, e.g. boot.bin@0x7c00", ExitCode.USAGE) from error


def parse_entry(text: str | None) -> StartConfig | None:
    """Return the start that `--entry` names: SEGMENT:OFFSET in hexadecimal, or a linear address.

    Raises:
        CliError: it is neither.
    """
    from emulator.config import StartConfig
    from emulator.loaders.flat import real_mode_start

    if text is None:
        return None
    if far := _FAR.fullmatch(text):
        selector, offset = (int(part, 16) for part in far.groups())
        return StartConfig(cs_selector=selector, cs_base=selector << 4, rip=offset)
    try:
        return real_mode_start(int(text, 0))
    except ValueError as error:
        raise CliError(f"--entry {text}: {error}", ExitCode.USAGE, hint="as 0x7c00, or 07c0:0000") from error


def parse_size(text: str) -> int:
    """Return the octets that a size names: a number of MiB, or one with K, M or G.

    Raises:
        CliError: it is none, or out of bounds.
    """
    match = re.fullmatch(r"([0-9]{1,9})([KMG]?)", text.upper())
    size = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 4096 <= size <= MAX_RAM_BYTES:
        raise CliError(f"--ram {text}: 4K to 64G are possible, as 64M", ExitCode.USAGE)
    return size


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CliError(f"{path}: {error.strerror or error}", ExitCode.USAGE) from error
    if len(data) > MAX_FILE_BYTES:
        raise CliError(f"{path} has more than {MAX_FILE_BYTES >> 20} MiB", ExitCode.REFUSED)
    return data


def _resumed(source: Source) -> Machine:
    """Return the machine of a stream file, every digest compared; its own parameters count."""
    from emulator.bridge import restore_state
    from emulator.machine import Machine, Tier
    from migsvc.backends.emulator_config import described
    from migsvc.cli.stream_files import read_stream
    from migsvc.errors import MigsvcError
    from schemas.errors import SchemaError

    if source.ram or source.cpu or source.board or source.post_port is not None:
        raise CliError("a machine that is resumed keeps its RAM, CPU model and board", ExitCode.USAGE)
    path = source.resume or Path()
    with path.open("rb") as file:
        stream = read_stream(file, str(path))
    raw = {
        "memory": stream.state.memory.model_dump(),
        "vcpus": stream.config.vcpus,
        "machine": dict(stream.config.machine),
    }
    try:
        machine = Machine(described(raw), stream.memory.ram, load_images=False, tier=Tier(source.tier))
        restore_state(machine, stream.state)
    except SchemaError as error:
        found = [problem.model_dump(mode="json") for problem in error.problems]
        raise CliError(f"{path}: the emulator cannot hold this machine", ExitCode.REFUSED, findings=found) from error
    except (MigsvcError, ValueError) as error:
        raise CliError(f"{path}: {error}", ExitCode.REFUSED) from error
    return machine


def write_snapshot(machine: Machine, path: Path) -> None:
    """Write the machine as a stream file; the file is there as a whole or not at all.

    Raises:
        CliError: REFUSED, the machine has devices that a stream cannot carry; FAILED, the file cannot be written.
    """
    from emulator.bridge import BACKEND, memory_map, save_sections
    from migsvc.backends.emulator_config import describe
    from migsvc.stream import Config, StreamHeader, write_machine
    from migsvc.transport.pages import all_pages, select
    from schemas.errors import SchemaError
    from schemas.versions import SCHEMA_VERSION

    memory = memory_map(machine.memory)
    config = Config(
        vm_id=str(uuid.uuid4()),
        vm_name=path.stem,
        backend=BACKEND,
        guest=None,
        epoch=1,
        source_host="emu",
        schema_version=SCHEMA_VERSION,
        memory=memory,
        vcpus=1,
        machine=describe(machine.config)["machine"],
    )
    header = StreamHeader(uuid.uuid4().bytes, time.time_ns(), SCHEMA_VERSION)
    try:
        sections = save_sections(machine)
    except SchemaError as error:
        raise CliError(f"{path}: {error}", ExitCode.REFUSED) from error
    runs = select(machine.memory.ram, all_pages(memory)).data
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            for piece in write_machine(header, config, machine.memory.ram, runs, sections.vm, sections.vcpus):
                file.write(piece)
        temporary.replace(path)
    except OSError as error:
        raise CliError(f"{path}: {error.strerror or error}", ExitCode.FAILED) from error
    finally:
        temporary.unlink(missing_ok=True)
