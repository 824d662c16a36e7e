"""Write the seed corpus: `python tests/fuzz/seeds.py`. The files are tests/data/fuzz/<target>/seed-*."""

from __future__ import annotations

import sys
from pathlib import Path

import msgpack

sys.path.insert(0, str(Path(__file__).parent))

from targets import FULL, SAMPLE, SMITH, TARGETS

from emulator.bridge import host_profile
from schemas.codec.documents import pack_machine, pack_vcpu
from schemas.state import MachineState, VmState
from schemas.uapi import SECTIONS

CORPUS = Path(__file__).parents[1] / "data" / "fuzz"

PATHS = (
    "vcpus[0].regs.rip",
    "regs.rflags.IF",
    "vcpus.0.events.interrupt.shadow.smm",
    "msrs.MSR_LSTAR",
    "msrs[0xc0000082]",
    "cpuid2[0x7][0].ebx",
    "xsave.region[24]",
    "lapic.LVTT",
    "xcrs.xcr0",
)


OVERLAYS = [bytes([section, 0, 0, 8]) + bytes(range(8)) for section in range(4)]
IN_SMM = (
    bytes([list(FULL.to_sections()).index("events"), 0, 0, 28]) + bytes(11) + b"\x22" + bytes(8) + b"\x4d" + bytes(7)
)
"""A shadow put aside, and the flags that say so."""


def seeds() -> dict[str, list[bytes]]:
    machine = MachineState(memory=SMITH.memory, vm=VmState(), vcpus=[SAMPLE])
    small = {"a": 1, "b": [None, True, -5, 2**64 - 1], "c": {"d": b"\x00\x01", "e": "text"}}
    return {
        "vcpu_json": [SAMPLE.model_dump_json(exclude_none=True).encode()],
        "machine_json": [machine.model_dump_json(exclude_none=True).encode()],
        "vcpu_msgpack": [pack_vcpu(SAMPLE)],
        "machine_msgpack": [pack_machine(machine)],
        "sections": [msgpack.packb(SAMPLE.to_sections()), msgpack.packb(SMITH.vm)],
        "packing": [
            msgpack.packb(small),
            msgpack.packb({"x": [{}, [], [[1]]]}),
            b"\x82\xa1a\xc0\xa1a\xc0",
            b"\xcb" * 9,
        ],
        "stream": [b"\x00" + SMITH.snapshot(), b"\x03" + SMITH.snapshot(), b"\x03" + SMITH.migration()],
        "profile_json": [host_profile("host").model_dump_json().encode()],
        "export_json": [export()],
        "paths": [path.encode() for path in PATHS],
        "structs": [bytes([number]) + bytes(row.model.SIZE) for number, row in enumerate(SECTIONS)],
        "legality": OVERLAYS,
        "views": OVERLAYS,
        "conversions": [*OVERLAYS, IN_SMM],
    }


def export() -> bytes:
    """The export of the first version, which is never written again."""
    return (Path(__file__).parents[2] / "schemas" / "versions" / "exports" / "v1.json").read_bytes()


def main() -> None:
    made = seeds()
    if made.keys() != TARGETS.keys():
        raise SystemExit(f"targets without seeds: {TARGETS.keys() ^ made.keys()}")
    for name, inputs in made.items():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("seed-*"):
            old.unlink()
        for number, data in enumerate(inputs):
            (folder / f"seed-{number}").write_bytes(data)


if __name__ == "__main__":
    main()
