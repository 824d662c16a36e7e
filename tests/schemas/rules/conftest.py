"""States of a real kernel, and a short notation for what an example changes in them.

`changes` maps a place to a value. Beside dotted paths of fields there are:

    "msr@0x277"            an MSR; None takes it out
    "lapic@0x320"          a 32-bit register of the local APIC
    "xsave@512"            bytes of the XSAVE area, from this offset on
    "cpuid@0x7.0.ecx"      a register of a CPUID leaf, made if it is not there; "cpuid@0xd" None takes a leaf out
    "cpuid|@1.ecx"         bits to set in such a register; "cpuid-@1.ecx" bits to clear
    "cpuid+"               CPUID entries to append, as dicts
    "vendor"               the CPUID vendor
    "nested"               a kvm_nested_state, by its fields: format, flags, size, data, vmx and svm as dicts
    "fpu"                  True: the kvm_fpu that agrees with the XSAVE area
    "smram@0xff70"         an integer of the save area at SMBASE 0x30000: (value, size)
    "vcpus"                (machine) how many vCPUs: copies of the first, with their own index and APIC ID
    "vcpus.1.PLACE"        (machine) any of the above in that vCPU
"""

import json
import lzma
from pathlib import Path

import pytest

from schemas.invariants import check_state
from schemas.memory import MemoryMap, MemorySlot
from schemas.state import MachineState, VcpuState
from schemas.uapi.cpuid2 import KvmCpuid2, KvmCpuidEntry2
from schemas.uapi.fpu import KvmFpu
from schemas.uapi.msrs import KvmMsrs
from schemas.uapi.nested_state import (
    KvmNestedState,
    KvmNestedStateHdrPad,
    KvmNestedStateHdrSvm,
    KvmNestedStateHdrVmx,
    KvmSvmNestedStateHdr,
    KvmVmxNestedStateHdr,
    KvmVmxNestedStateSmm,
)
from schemas.uapi.sregs2 import KvmSregs2
from schemas.uapi.tsc_offset import MigsvcTscOffset
from schemas.uapi.vcpu_events import InterruptShadow, KvmVcpuEventsException

RECORDED = Path(__file__).parents[2] / "data" / "kvm-state" / "linux-6.18.jsonl.xz"
SMBASE = 0x30000
AREA = 0xFE00
RAM_BYTES = 1 << 20
MIRRORED_MSRS = (0x1B, 0xC0000080, 0xC0000100, 0xC0000101)
NO_ADDRESS = (1 << 64) - 1


def records():
    """What a real kernel reported, by name: {"vcpu": sections, "vm": sections}."""
    lines = lzma.decompress(RECORDED.read_bytes()).decode().splitlines()
    found = {}
    for line in lines:
        record = json.loads(line)
        found[record["name"]] = {
            scope: {name: bytes.fromhex(body) for name, body in record[scope].items()} for scope in ("vcpu", "vm")
        }
    return found


class Smram:
    """Guest memory that holds a save area at SMBASE 0x30000 and nothing else."""

    def __init__(self, area):
        self.area = area

    def read(self, as_id, gpa, size):
        start = gpa - SMBASE - AREA
        if as_id != 1 or not 0 <= start <= len(self.area) - size:
            raise LookupError(hex(gpa))
        return bytes(self.area[start : start + size])


def with_field(model, path, value):
    """Copy with one field of a dotted path replaced, without validation; a number indexes a tuple."""
    head, *rest = path
    old = model[int(head)] if isinstance(model, tuple | list) else getattr(model, head)
    new = with_field(old, rest, value) if rest else value
    if head == "shadow" and isinstance(new, int):
        new = InterruptShadow.from_byte(new)
    if isinstance(model, tuple | list):
        return type(model)([*model[: int(head)], new, *model[int(head) + 1 :]])
    return model.model_copy(update={head: new})


def put(body, offset, raw):
    return body[:offset] + raw + body[offset + len(raw) :]


def set_msr(vcpu, place, value):
    number = int(place, 0)
    held = vcpu.msrs.values_by_index()
    held.pop(number, None)
    if value is not None:
        held[number] = value
    return vcpu.model_copy(update={"msrs": KvmMsrs.of(held)})


def set_cpuid(vcpu, place, value):
    function, *rest = place.split(".")
    function, subleaf = int(function, 0), int(rest[0], 0) if len(rest) == 2 else 0
    entries = list(vcpu.cpuid2.entries)
    if not rest:
        return with_entries(vcpu, [entry for entry in entries if entry.function != function])
    at = next((n for n, e in enumerate(entries) if (e.function, e.index) == (function, subleaf)), None)
    if at is None:
        empty = dict.fromkeys(("eax", "ebx", "ecx", "edx"), 0)
        entries.append(KvmCpuidEntry2(function=function, index=subleaf, flags=1, **empty))
        at = len(entries) - 1
    entries[at] = entries[at].model_copy(update={rest[-1]: value})
    return with_entries(vcpu, entries)


def with_entries(vcpu, entries):
    return vcpu.model_copy(update={"cpuid2": KvmCpuid2(nent=len(entries), entries=tuple(entries))})


def set_vendor(vcpu, name):
    for register, text in zip(("ebx", "edx", "ecx"), (name[:4], name[4:8], name[8:]), strict=True):
        vcpu = set_cpuid(vcpu, f"0.{register}", int.from_bytes(text.encode(), "little"))
    return vcpu


def nested_of(kind=0, flags=0, size=None, data=b"", vmx=None, svm=None):
    header = KvmNestedStateHdrPad(pad=bytes(120))
    if kind == 0:
        vmx = {"vmxon_pa": NO_ADDRESS, "vmcs12_pa": NO_ADDRESS, "smm": 0, **(vmx or {})}
        smm = KvmVmxNestedStateSmm(flags=vmx.pop("smm"))
        header = KvmNestedStateHdrVmx(vmx=KvmVmxNestedStateHdr(smm=smm, **vmx))
    elif kind == 1:
        header = KvmNestedStateHdrSvm(svm=KvmSvmNestedStateHdr(**{"vmcb_pa": 0x5000, **(svm or {})}))
    size = 128 + len(data) if size is None else size
    return KvmNestedState.model_construct(flags=flags, format=kind, size=size, hdr=header, data=data)


def fpu_of(vcpu):
    area, zero = vcpu.xsave.region, KvmFpu.zero()
    words = {"fcw": (0, 2), "fsw": (2, 2), "ftwx": (4, 1), "last_opcode": (6, 2), "last_ip": (8, 8), "last_dp": (16, 8)}
    numbers = {name: int.from_bytes(area[at : at + size], "little") for name, (at, size) in words.items()}
    return zero.model_copy(update={**numbers, "fpr": area[32:160], "xmm": area[160:416]})


def sregs2_of(vcpu):
    names = [name for name in KvmSregs2.model_fields if hasattr(vcpu.sregs, name)]
    return KvmSregs2(**{name: getattr(vcpu.sregs, name) for name in names}, flags=0, pdptrs=(0, 0, 0, 0))


def change_vcpu(vcpu, changes):
    for place, value in changes.items():
        kind, _, rest = place.partition("@")
        if kind == "msr":
            vcpu = set_msr(vcpu, rest, value)
        elif kind == "lapic":
            page = put(vcpu.lapic.regs, int(rest, 0), value.to_bytes(4, "little"))
            vcpu = with_field(vcpu, ["lapic", "regs"], page)
        elif kind == "xsave":
            vcpu = with_field(vcpu, ["xsave", "region"], put(vcpu.xsave.region, int(rest, 0), value))
        elif kind == "cpuid":
            vcpu = set_cpuid(vcpu, rest, value)
        elif kind in ("cpuid|", "cpuid-"):
            function, register = rest.rsplit(".", 1)
            number, _, subleaf = function.partition(".")
            leaf = vcpu.cpuid2.leaf(int(number, 0), int(subleaf or "0", 0))
            held = 0 if leaf is None else getattr(leaf, register)
            vcpu = set_cpuid(vcpu, rest, held | value if kind == "cpuid|" else held & ~value)
        elif place == "cpuid+":
            blank = {"index": 0, "flags": 0, "eax": 0, "ebx": 0, "ecx": 0, "edx": 0}
            vcpu = with_entries(vcpu, [*vcpu.cpuid2.entries, *(KvmCpuidEntry2(**{**blank, **e}) for e in value)])
        elif place == "vendor":
            vcpu = set_vendor(vcpu, value)
        elif place == "nested":
            vcpu = vcpu.model_copy(
                update={
                    "nested_state": nested_of(
                        value.get("format", 0), **{k: v for k, v in value.items() if k != "format"}
                    )
                }
            )
        elif place == "fpu":
            vcpu = vcpu.model_copy(update={"fpu": fpu_of(vcpu)})
        elif place == "sregs2":
            vcpu = vcpu.model_copy(update={"sregs2": sregs2_of(vcpu)})
        elif place == "tsc_offset":
            vcpu = vcpu.model_copy(update={"tsc_offset": MigsvcTscOffset(tsc_offset=value)})
        elif kind != "smram":
            vcpu = with_field(vcpu, place.split("."), value)
    return vcpu


def change_machine(machine, changes):
    for place, value in changes.items():
        if place == "vcpus":
            first = machine.vcpus[0]
            more = [
                change_vcpu(
                    first, {"index": n, "lapic@0x20": n << 24, "cpuid@1.ebx": n << 24, "sregs.apic_base": 0xFEE00800}
                )
                for n in range(1, value)
            ]
            machine = machine.model_copy(update={"vcpus": [first, *more]})
        elif place.startswith("vcpus."):
            _, number, rest = place.split(".", 2)
            vcpus = list(machine.vcpus)
            vcpus[int(number)] = change_vcpu(vcpus[int(number)], {rest: value})
            machine = machine.model_copy(update={"vcpus": vcpus})
        else:
            machine = with_field(machine, place.split("."), value)
    return machine


def save_area(changes):
    area = bytearray(512)
    area[0xFEFC - AREA : 0xFF00 - AREA] = (0x20064).to_bytes(4, "little")
    for place, held in changes.items():
        kind, _, offset = place.partition("@")
        if kind == "smram":
            value, size = held
            start = int(offset, 0) - AREA
            area[start : start + size] = value.to_bytes(size, "little")
    return Smram(area)


@pytest.fixture(scope="session")
def bases():
    """Legal states by name: "real" at reset, "long" in 64-bit mode with AVX-512, "machine" of one such vCPU.

    What was recorded, but for what stands in the way of an example: the pending exception, the APIC ID in CPUID (that
    of the processor on which it was recorded), and MSRs and sections that repeat others.
    """
    held = records()
    vcpus = {}
    for name, record in (("real", "reset"), ("long", "long/avx512")):
        sections = {
            key: body for key, body in held[record]["vcpu"].items() if key not in ("tsc_offset", "fpu", "sregs2")
        }
        vcpu = VcpuState.from_sections(sections)
        vcpu = change_vcpu(vcpu, {f"msr@{number:#x}": None for number in MIRRORED_MSRS})
        vcpu = with_field(vcpu, ["events", "exception"], KvmVcpuEventsException.zero())
        vcpu = with_field(vcpu, ["events", "exception_has_payload"], 0)
        vcpus[name] = change_vcpu(vcpu, {"cpuid@1.ebx": 0x800, "msr@0x9e": SMBASE, "vendor": "AuthenticAMD"})
    slots = tuple(
        MemorySlot(as_id=as_id, slot=0, gpa=0, size_bytes=RAM_BYTES, backing_offset_bytes=0) for as_id in (0, 1)
    )
    memory = MemoryMap(slots=slots, ram_bytes=RAM_BYTES)
    machine = MachineState.from_sections(memory, held["long/avx512"]["vm"], [vcpus["long"].to_sections()])
    return {**vcpus, "machine": machine}


@pytest.fixture
def judge(bases):
    """Return a function: (base, changes, **options of check_state) -> findings."""

    def check(base, changes, **options):
        state = bases[base]
        if base == "machine":
            return check_state(change_machine(state, changes), **options)
        if any(place.startswith("smram") for place in changes):
            options["memory"] = save_area(changes)
        return check_state(change_vcpu(state, changes), **options)

    return check


@pytest.fixture
def holds(judge):
    """Return a function that demands that an example breaks its rule and no other, and its counterpart none."""

    def demand(rule, example):
        base = example.get("base", "long")
        broken = {finding.rule for finding in judge(base, example["bad"])}
        assert broken == {rule, *example.get("also", ())}
        found = judge(base, example["good"])
        assert [f for f in found if f.rule not in example.get("beside", ())] == []

    return demand
