"""Build the guests' binaries from their sources: `python -m emulator.guests.build`. Needs GNU binutils."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
TOOLS = ("as", "ld", "objcopy")


class Binary(NamedTuple):
    """One binary: its name, source, bits of the ELF it passes through, load address and assembler symbols."""

    name: str
    source: str
    bits: int
    origin: int
    symbols: tuple[str, ...] = ()


BINARIES = (
    Binary("ticker32.bin", "ticker.S", 32, 0x8000, ("LONG=0",)),
    Binary("ticker64.bin", "ticker.S", 64, 0x8000, ("LONG=1",)),
    Binary("ticker_smi.bin", "ticker_smi.S", 32, 0x8000),
    Binary("smm_corners.bin", "smm_corners.S", 64, 0x8000),
    Binary("smm_corners_smi.bin", "smm_corners_smi.S", 32, 0x8000),
)


def missing_tools() -> list[str]:
    """Names of the tools that are not installed."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def assemble(binary: Binary) -> bytes:
    """Assemble and link one binary.

    Raises:
        RuntimeError: a tool failed; the message is its output.
    """
    with tempfile.TemporaryDirectory() as scratch:
        unit, linked, flat = (Path(scratch) / name for name in ("unit.o", "linked.elf", "flat.bin"))
        emulation = "elf_i386" if binary.bits == 32 else "elf_x86_64"
        symbols = [part for symbol in binary.symbols for part in ("--defsym", symbol)]
        for command in (
            ["as", f"--{binary.bits}", *symbols, "-I", str(HERE), "-o", str(unit), str(HERE / binary.source)],
            ["ld", "-m", emulation, "-N", f"-Ttext={binary.origin:#x}", "-o", str(linked), str(unit)],
            ["objcopy", "-O", "binary", "-j", ".text", str(linked), str(flat)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"{' '.join(command)}:\n{done.stderr}")
        return flat.read_bytes()


def main() -> int:
    """Rebuild every binary in place; return the exit status."""
    if missing := missing_tools():
        print(f"not installed: {', '.join(missing)} (on Debian: apt-get install binutils)", file=sys.stderr)
        return 1
    for binary in BINARIES:
        data = assemble(binary)
        (HERE / binary.name).write_bytes(data)
        print(f"{binary.name}: {len(data)} bytes from {binary.source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
