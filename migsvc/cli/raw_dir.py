"""raw-dir: state as a directory with one file per struct, the bytes exactly as the kernel has them.

DIR/regs.bin, DIR/sregs.bin, …                        one vCPU
DIR/memory.json, DIR/vm/clock.bin, DIR/vcpus/0/regs.bin, …      a machine; memory.json is its memory map
"""

from __future__ import annotations

import json
from pathlib import Path

from migsvc.cli.exit_codes import ExitCode
from migsvc.cli.session import CliError
from schemas.codec.text import TextBounds, decode_json
from schemas.errors import Problem, SchemaError
from schemas.memory import MemoryMap
from schemas.state import MAX_VCPUS, MachineState, Sections, VcpuState
from schemas.uapi import VCPU_SECTIONS, VM_SECTIONS, Section

MEMORY_FILE = "memory.json"
MAP_BOUNDS = TextBounds(max_bytes=1 << 20)
"""512 slots of some 150 characters each, with room."""


def read_raw_dir(directory: Path) -> MachineState | VcpuState:
    """Return what a directory of raw structs holds.

    Raises:
        CliError: USAGE, it has neither form; REFUSED, a file is unknown, missing or of a wrong size (all are listed).
    """
    problems: list[Problem] = []
    if (directory / "vcpus").is_dir() or (directory / MEMORY_FILE).is_file():
        vm = _sections(directory / "vm", VM_SECTIONS, "vm/", problems)
        vcpus = [
            _sections(directory / "vcpus" / str(n), VCPU_SECTIONS, f"vcpus/{n}/", problems)
            for n in _indices(directory, problems)
        ]
        memory = _memory_map(directory / MEMORY_FILE, problems)
        problems += [
            Problem(where=path.name, message="a struct beside a machine", hint="in which vcpus/N/ does it belong?")
            for path in sorted(directory.glob("*.bin"))[:20]
        ]
        _refuse(directory, problems)
        try:
            return MachineState.from_sections(memory, vm, vcpus)
        except SchemaError as error:
            _refuse(directory, error.problems)
    if not any(directory.glob("*.bin")):
        raise CliError(
            f"{directory}: a directory without state", ExitCode.USAGE,
            hint=f"expected regs.bin … of one vCPU, or {MEMORY_FILE}, vm/ and vcpus/0/ of a machine",
        )  # fmt: skip
    sections = _sections(directory, VCPU_SECTIONS, "", problems)
    _refuse(directory, problems)
    try:
        return VcpuState.from_sections(sections)
    except SchemaError as error:
        _refuse(directory, error.problems)
        raise


def raw_files(state: MachineState | VcpuState) -> dict[str, bytes]:
    """Return the files of a raw-dir: relative path -> contents."""
    if isinstance(state, VcpuState):
        return {f"{name}.bin": raw for name, raw in state.to_sections().items()}
    sections = state.to_sections()
    files = {MEMORY_FILE: (json.dumps(state.memory.model_dump(mode="json"), indent=2) + "\n").encode()}
    files |= {f"vm/{name}.bin": raw for name, raw in sections.vm.items()}
    for index, vcpu in enumerate(sections.vcpus):
        files |= {f"vcpus/{index}/{name}.bin": raw for name, raw in vcpu.items()}
    return files


def write_raw_dir(state: MachineState | VcpuState, directory: Path) -> list[str]:
    """Write a state as a raw-dir and return the paths written, relative to it.

    Raises:
        CliError: CONFLICT, the directory exists and is not empty: two states must not mix.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise CliError(f"{directory} exists and is not empty", ExitCode.CONFLICT, hint="name a new directory")
    files = raw_files(state)
    for name, contents in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)
    return list(files)


def _refuse(directory: Path, problems: list[Problem]) -> None:
    if problems:
        found = [problem.model_dump(mode="json") for problem in problems]
        raise CliError(f"{directory} does not hold a state", ExitCode.REFUSED, findings=found)


def _indices(directory: Path, problems: list[Problem]) -> range:
    """Return the numbers of the vCPUs, 0, 1, 2 and so on without a gap."""
    folder = directory / "vcpus"
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    count = min(len(names), MAX_VCPUS)
    wrong = sorted(names - {str(n) for n in range(count)})
    problems += [
        Problem(where=f"vcpus/{name}", message="no number in sequence", hint="folders are named 0, 1, 2, …")
        for name in wrong[:20]
    ]
    return range(0) if wrong else range(count)


def _sections(folder: Path, rows: dict[str, Section], prefix: str, problems: list[Problem]) -> Sections:
    found: Sections = {}
    if not folder.is_dir():
        if folder.exists():
            problems.append(Problem(where=prefix, message="no directory"))
        return found
    for path in sorted(folder.glob("*.bin")):
        row = rows.get(path.stem)
        if row is None:
            text = "no struct of this name"
            problems.append(Problem(where=prefix + path.name, message=text, hint=f"known: {', '.join(rows)}"))
            continue
        try:
            if row.size_fits(size := path.stat().st_size):
                found[path.stem] = path.read_bytes()
                continue
            wanted = f"{row.model.SIZE}" + (f" to {row.max_bytes}" if row.max_bytes > row.model.SIZE else "")
            problems.append(Problem(where=prefix + path.name, message=f"{size} bytes, expected {wanted}"))
        except OSError as error:
            problems.append(Problem(where=prefix + path.name, message=str(error.strerror)))
    return found


def _memory_map(path: Path, problems: list[Problem]) -> MemoryMap:
    try:
        with path.open("rb") as file:
            return decode_json(MemoryMap, file.read(MAP_BOUNDS.max_bytes + 1), MAP_BOUNDS)
    except SchemaError as error:
        problems += [
            problem.model_copy(update={"where": f"{MEMORY_FILE}: {problem.where}"}) for problem in error.problems
        ]
    except OSError as error:
        problems.append(Problem(where=MEMORY_FILE, message=str(error.strerror), hint="the memory map of the machine"))
    return MemoryMap.model_construct(slots=(), ram_bytes=0)
