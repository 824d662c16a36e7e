"""The page: its mode line, what it shows of recorded states of a real KVM, and that no state breaks it."""

import json
import lzma
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.memory import MemoryMap
from schemas.state import MachineState, VcpuState, VmState
from schemas.uapi import VCPU_SECTIONS, VM_SECTIONS
from schemas.uapi.cpuid2 import KvmCpuid2, KvmCpuidEntry2
from schemas.uapi.lapic import KvmLapicState
from schemas.uapi.msrs import KvmMsrs
from schemas.uapi.nested_state import KvmNestedState
from schemas.uapi.sregs2 import KvmSregs2
from schemas.uapi.vcpu_events import InterruptShadow
from schemas.uapi.xsave import KvmXsave
from schemas.views.mode import mode_line
from schemas.views.page import page
from schemas.views.rows import Line, PageSection, duration, ranges, section, size_text
from schemas.views.text import page_lines

DATA = Path(__file__).parents[2] / "data"


@cache
def recorded(name: str) -> VcpuState:
    """A vCPU as Linux 6.18 reported it."""
    with lzma.open(DATA / "kvm-state" / "linux-6.18.jsonl.xz", "rt") as lines:
        row = next(row for row in map(json.loads, lines) if row["name"] == name)
    return VcpuState.from_sections({key: bytes.fromhex(raw) for key, raw in row["vcpu"].items()})


def text_of(state: MachineState | VcpuState, *, everything: bool = False) -> str:
    return "\n".join(line for line, _ in page_lines(page(state, everything=everything)))


def rows_of(sections: list[PageSection], title: str) -> dict[str, tuple[str, str, bool]]:
    found = next((s for s in sections if s.title.startswith(title)), None)
    return {row.name: (row.raw, row.decoded, row.unusual) for row in found.rows} if found else {}


LONG = {"sregs.cr0": 0x80050033, "sregs.cr4": 0x20, "sregs.efer": 0xD01, "sregs.cs.l": 1}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "real mode, CPL 0, paging off, interrupts off"),
        ({"sregs.cr0": 0x11}, "16-bit protected mode, CPL 0, paging off, interrupts off"),
        ({"sregs.cr0": 0x11, "sregs.cs.db": 1, "sregs.ss.dpl": 3},
        "32-bit protected mode, CPL 3, paging off, interrupts off"),
        ({"sregs.cr0": 0x80000011, "sregs.cs.db": 1}, "32-bit protected mode, CPL 0, 32-bit paging, interrupts off"),
        ({"sregs.cr0": 0x80000011, "sregs.cr4": 0x20}, "16-bit protected mode, CPL 0, PAE paging, interrupts off"),
        ({"sregs.cr0": 0x11, "regs.rflags": 0x20202}, "virtual-8086 mode, CPL 3, paging off, interrupts on"),
        (LONG, "64-bit long mode, CPL 0, 4-level paging, interrupts off"),
        (LONG | {"sregs.cr4": 0x1020}, "64-bit long mode, CPL 0, 5-level paging, interrupts off"),
        (LONG | {"sregs.cs.l": 0, "sregs.cs.db": 1},
        "32-bit compatibility mode, CPL 0, 4-level paging, interrupts off"),
        (LONG | {"sregs.cs.l": 0}, "16-bit compatibility mode, CPL 0, 4-level paging, interrupts off"),
        ({"mp_state.mp_state": 3}, "real mode, CPL 0, paging off, interrupts off, in HLT, waits for an interrupt"),
        ({"mp_state.mp_state": 77}, "real mode, CPL 0, paging off, interrupts off, mp_state 0x4d"),
        ({"events.interrupt.shadow": InterruptShadow(current=2), "regs.rflags": 0x202},
         "real mode, CPL 0, paging off, interrupts on, in the shadow of STI"),
        ({"events.smi.smm": 1, "events.nmi.masked": 1, "events.interrupt.shadow": InterruptShadow(current=0, smm=2)},
         "real mode, CPL 0, paging off, interrupts off, in SMM (shadow aside: STI), NMIs masked"),
        ({"events.smi.smm": 1, "events.flags": 0x3D},
         "real mode, CPL 0, paging off, interrupts off, in SMM (shadow aside: not in the events)"),
        ({"events.triple_fault.pending": 1}, "real mode, CPL 0, paging off, interrupts off, triple fault pending"),
    ],
)  # fmt: skip
def test_the_mode_in_one_line(legal_vcpu: VcpuState, changed: Any, changes: dict[str, Any], line: str) -> None:
    assert mode_line(changed(legal_vcpu, changes)) == line


def test_l2_is_part_of_the_mode(legal_vcpu: VcpuState, changed: Any) -> None:
    nested = KvmNestedState.unpack(b"\x01\x00\x01\x00\x80\x00\x00\x00" + bytes(120))
    assert mode_line(changed(legal_vcpu, {"nested_state": nested})).endswith("in L2 of SVM")


def test_a_recorded_long_mode_vcpu() -> None:
    shown = page(recorded("long/pending_pf"))
    assert shown[0].title == "vCPU 0: 64-bit long mode, CPL 0, 4-level paging, interrupts off"
    assert rows_of(shown, "vCPU 0")["rsp"][0] == "0000000000008000"
    control = rows_of(shown, "control")
    assert control["cr0"] == ("0000000080050033", "PE MP ET NE WP AM PG", False)
    assert control["cr3"] == ("0000000000010000", "table at 0x10000", False)
    assert "cr2" not in control
    segments = rows_of(shown, "segments")
    assert segments["cs"][1] == "code r- accessed, DPL 0, 64-bit, flat, G"
    assert segments["ds es fs gs ss"][0] == "0010 0000000000000000 ffffffff"
    assert segments["tr"][1] == "TSS busy, DPL 0"
    events = rows_of(shown, "events")
    assert events["exception.pending"] == ("1", "#PF page fault, error code 0x2 (W): not yet delivered", True)
    assert events["exception_payload"] == ("000000000dead000", "for CR2", True)
    assert set(events) == {"exception.pending", "exception_payload"}


def test_a_recorded_xsave_area() -> None:
    short = rows_of(page(recorded("long/avx512")), "x87, SSE and")
    assert short["XSTATE_BV"][1] == "in use: FP SSE YMM OPMASK ZMM_Hi256 Hi16_ZMM"
    assert short["YMM"][1] == "256 bytes at 0x240, in use, 16 bytes not zero"
    assert short["OPMASK"][1].startswith("64 bytes at 0x340, in use")  # AMD's offset; Intel has 0x440
    vectors = rows_of(page(recorded("long/avx512"), everything=True), "x87 and XMM")
    assert vectors["xmm0"][0] == "0f0e0d0c0b0a09080706050403020100"
    assert len(vectors) == 24


def test_a_recorded_processor() -> None:
    cpuid = rows_of(page(recorded("reset")), "CPUID")
    assert cpuid["processor"][1] == "AMD family 0x1a model 0x2 stepping 1"
    assert cpuid["hypervisor"] == ("0x40000000", "KVMKVMKVM", False)
    assert cpuid["addresses"][1] == "48 bits physical, 48 bits linear"
    assert "x2apic" in cpuid["features"][1]
    everything = rows_of(page(recorded("reset"), everything=True), "CPUID")
    assert "avx512f" in everything["0x7.0 EBX"][1]


def test_a_vcpu_at_reset_has_nothing_unusual() -> None:
    shown = page(recorded("reset"))
    assert [row.name for section in shown for row in section.rows if row.unusual] == []
    assert [section.title.split(":")[0] for section in shown] == [
        "vCPU 0", "control", "segments", "local APIC", "x87, SSE and extended state", "time", "CPUID",
    ]  # fmt: skip
    assert rows_of(shown, "control")["rip"][1] == "reset vector"


@pytest.mark.parametrize("name", ["reset", "real/sti", "long/avx512", "long/pending_pf"])
def test_everything_has_what_the_short_page_has(name: str) -> None:
    short = {(s.title, row.name) for s in page(recorded(name)) for row in s.rows}
    everything = {(s.title, row.name) for s in page(recorded(name), everything=True) for row in s.rows}
    assert short < everything


def test_the_page_in_columns() -> None:
    lines = text_of(recorded("real/sti")).splitlines()
    assert lines[0] == "vCPU 0: real mode, CPL 0, paging off, interrupts on, in the shadow of STI"
    assert lines[1] == "  rax 00000000  rbx 00000000  rcx 00000000  rdx 00000600"
    assert "! interrupt.shadow  2  STI: interrupts wait for one instruction" in lines
    assert not any(line != line.rstrip() for line in lines)


def test_a_line_that_is_usual_but_odd_is_shown() -> None:
    lines = [Line("a", "1", usual=True), Line("b", "2", usual=True, unusual=True), Line("c", "3")]
    (short,) = section("t", lines, everything=False)
    (whole,) = section("t", lines, everything=True)
    assert [row.name for row in short.rows] == ["b", "c"]
    assert [row.name for row in whole.rows] == ["a", "b", "c"]
    assert list(section("t", lines[:1], everything=False)) == []


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (ranges, [], "-"),
        (ranges, [0x30, 0x31, 0x33], "0x30-0x31 0x33"),
        (duration, 1_234_000_000, "1.234 s"),
        (duration, -2_500_000, "-2.5 ms"),
        (duration, 12, "12 ns"),
        (size_text, 65536, "64 KiB"),
        (size_text, 3 << 30, "3 GiB"),
        (size_text, 100, "100 bytes"),
    ],
)
def test_numbers_in_words(function: Callable[[Any], str], value: Any, text: str) -> None:
    assert function(value) == text


def test_the_page_has_a_json_form() -> None:
    row = page(recorded("reset"))[1].rows[0].model_dump(mode="json")
    assert row == {"name": "rip", "raw": "000000000000fff0", "decoded": "reset vector", "unusual": False}


SMM = {"events.smi.smm": 1, "events.interrupt.shadow": InterruptShadow(current=0, smm=1)}


@pytest.mark.parametrize(
    ("changes", "title", "name", "decoded"),
    [
        ({"regs.rflags": 0x102}, "control", "rflags", "TF"),
        ({"regs.rflags": 0x8002}, "control", "rflags", "reserved=0x8000"),
        ({"sregs.cr0": 1 << 40}, "control", "cr0", "reserved=0x10000000000"),
        (LONG | {"regs.rip": 1 << 47}, "control", "rip", "not canonical"),
        ({"sregs.interrupt_bitmap": (0, 1 << 4, 0, 0)}, "control", "interrupt_bitmap", "queued again by KVM_SET_SREGS"),
        ({"sregs.cs.unusable": 1}, "segments", "cs", "unusable"),
        ({"sregs.ds.present": 7, "sregs.ds.s": 1}, "segments", "ds", "data r-, DPL 0, 16-bit, junk: present=0x7"),
        ({"sregs.gdt.padding": (1, 0, 0)}, "segments", "gdt", "0 descriptors, junk in padding"),
        ({"events.exception.injected": 1, "events.exception.nr": 13, "events.exception.has_error_code": 1,
          "events.exception.error_code": 0x1A}, "events", "exception.injected",
         "#GP general protection, error code 0x1a (IDT index=3): delivery starts again"),
        ({"events.interrupt.injected": 1, "events.interrupt.nr": 0x33}, "events", "interrupt.injected",
        "external, vector 0x33"),
        ({"events.nmi.pending": 2, "events.flags": 0}, "events", "nmi.pending",
        "ignored: its flag is clear in `flags`"),
        (SMM, "events", "interrupt.shadow.smm", "MOV SS: put aside by the SMI, RSM brings it back"),
        ({"events.reserved": b"\x07" + bytes(25)}, "events", "reserved", "junk: 1 bytes not zero, first at 1"),
        ({"events.sipi_vector": 0x9A}, "events", "sipi_vector", "ignored: its flag is clear in `flags`"),
        ({"debugregs.db": (0x1000, 0, 0, 0), "debugregs.dr7": 0xD0402}, "debug registers", "dr0",
        "breakpoint: write, 4 bytes"),
        ({"debugregs.flags": 1}, "debug registers", "flags",
        "KVM_SET_DEBUGREGS refuses flags; reserved words hold junk"),
        ({"sregs.apic_base": 0xFEE00500}, "local APIC", "apic_base", "invalid: EXTD without EN, boot processor"),
        ({"tsc_khz.tsc_khz": 0}, "time", "tsc_khz", "0 GHz"),
        ({"msrs": KvmMsrs.of({0x123456: 1})}, "MSRs", "0x123456", "no name"),
        (
            {"xsave": KvmXsave(region=bytes(513) + b"\x02" + bytes(3582))},
            "x87, SSE and",
            "XSTATE_BV",
            "in use: PKRU (beyond XCR0)",
        ),
        ({"xsave": KvmXsave(region=bytes(520) + b"\x01" + bytes(3575))}, "x87, SSE and", "XCOMP_BV",
         "KVM_SET_XSAVE refuses the compacted form"),
        ({"xsave": KvmXsave(region=bytes(512) + b"\x04" + bytes(3583))}, "x87, SSE and", "YMM",
         "in use, but CPUID leaf 0xD does not say where it is"),
    ],
)  # fmt: skip
def test_what_is_unusual_is_marked(
    legal_vcpu: VcpuState, changed: Any, changes: dict[str, Any], title: str, name: str, decoded: str
) -> None:
    assert name not in {n for n, row in rows_of(page(legal_vcpu), title).items() if row[2]}
    found = rows_of(page(changed(legal_vcpu, changes)), title)
    found = {n: row for names, row in found.items() for n in (names.split() if title == "segments" else [names])}
    assert found[name][1:] == (decoded, True)


def lapic_with(registers: dict[int, int]) -> KvmLapicState:
    raw = bytearray(1024)
    for offset, value in registers.items():
        raw[offset : offset + 4] = value.to_bytes(4, "little")
    return KvmLapicState(regs=bytes(raw))


@pytest.mark.parametrize(
    ("registers", "name", "decoded"),
    [
        ({0xF0: 0x1FF}, "SPIV", "enabled, spurious vector 0xff"),
        ({0xF0: 0xFF}, "SPIV", "disabled by SPIV, spurious vector 0xff"),
        ({0x210: 0x7, 0x270: 1 << 12}, "IRR", "0x20-0x22 0xec requested"),
        ({0x100: 1 << 16}, "ISR", "0x10 in service"),
        ({0x80: 0x40}, "TASKPRI", "holds back vectors below 0x50"),
        ({0x320: 0x200EF, 0x380: 62500, 0x390: 1234, 0x3E0: 3}, "timer",
         "periodic, vector 0xef, 1234 of 62500 left, bus clock / 16"),
        ({0x320: 0x400EC}, "timer", "TSC-deadline, vector 0xec, due in 2 ms"),
        ({0x320: 0x600EC}, "timer", "reserved, vector 0xec, not counting"),
        ({0x350: 0x700}, "LVT0", "LINT0: MODE=ExtINT"),
        ({0x360: 0x400}, "LVT1", "LINT1: MODE=NMI"),
        ({0x280: 0x40}, "ESR", "errors: RECVILL"),
    ],
)  # fmt: skip
def test_the_local_apic_in_words(
    legal_vcpu: VcpuState, changed: Any, registers: dict[int, int], name: str, decoded: str
) -> None:
    msrs = KvmMsrs.of({0x10: 1_000_000, 0x6E0: 3_000_000})
    vcpu = changed(legal_vcpu, {"lapic": lapic_with(registers), "msrs": msrs})
    assert rows_of(page(vcpu), "local APIC")[name][1] == decoded


def test_msrs_at_reset_are_left_out(legal_vcpu: VcpuState, changed: Any) -> None:
    msrs = KvmMsrs.of(
        {0xC0000082: 0xFFFFFFFF81000000, 0x174: 0, 0x277: 0x0007040600070406, 0x9E: 0x30000, 0x10: 5, 0x1B: 9}
    )
    vcpu = changed(legal_vcpu, {"msrs": msrs})
    assert rows_of(page(vcpu), "MSRs") == {"MSR_LSTAR": ("ffffffff81000000", "", False)}
    assert len(rows_of(page(vcpu, everything=True), "MSRs")) == 6


def test_an_msr_listed_twice_is_told(legal_vcpu: VcpuState, changed: Any) -> None:
    entries = KvmMsrs.of({0x174: 8}).entries * 2
    vcpu = changed(legal_vcpu, {"msrs": KvmMsrs(nmsrs=2, entries=entries)})
    last = page(vcpu)
    assert [row.decoded for s in last if s.title == "MSRs" for row in s.rows] == ["", "listed twice"]


def test_sregs2_is_compared_with_sregs(legal_vcpu: VcpuState, changed: Any) -> None:
    common = {
        name: getattr(legal_vcpu.sregs, name) for name in KvmSregs2.model_fields if hasattr(legal_vcpu.sregs, name)
    }
    second = KvmSregs2(**common | {"cr3": 0x5000}, flags=1, pdptrs=(0x1001, 0, 0, 0))
    control = rows_of(page(changed(legal_vcpu, {"sregs2": second})), "control")
    assert control["sregs2"][1:] == ("differs from sregs in cr3", True)
    assert control["pdptr0"][1] == "table at 0x1000"
    assert "pdptr1" not in control


def test_a_machine_has_its_devices(legal_machine: MachineState) -> None:
    shown = page(legal_machine, everything=True)
    assert [section.title for section in shown[:2]] == ["memory", "devices"]
    assert rows_of(shown, "memory")["slot 1:0"][1] == "1 MiB, SMM address space, RAM from 0x0"
    assert {"clock", "pic_master", "pic_slave", "ioapic", "pit 0", "serial", "machine"} <= set(
        rows_of(shown, "devices")
    )


def test_text_of_the_guest_cannot_steer_a_terminal(legal_vcpu: VcpuState, changed: Any) -> None:
    escape = int.from_bytes(b"\x1b[2J", "little")
    leaves = [(0, escape), (1, 0), (0x40000000, escape), (0x80000002, escape)]
    entries = tuple(KvmCpuidEntry2(function=f, index=0, flags=0, eax=v, ebx=v, ecx=v, edx=v) for f, v in leaves)
    vcpu = changed(legal_vcpu, {"cpuid2": KvmCpuid2(nent=len(entries), entries=entries)})
    assert "\x1b" not in text_of(vcpu, everything=True)


_NO_MEMORY = MemoryMap(slots=(), ram_bytes=4096)


def sections_of(rows: dict[str, Any], data: st.DataObject) -> dict[str, bytes]:
    """Random sections: fixed structs of random bytes, flexible ones of a few entries."""
    made = {}
    for name, row in rows.items():
        size = row.model.SIZE
        raw = data.draw(st.binary(min_size=size, max_size=size) | st.just(b"\xff" * size), label=name)
        tail = row.model._tail
        if tail is not None and tail.counter is not None:
            entries = data.draw(st.integers(0, 4))
            body = data.draw(st.binary(min_size=entries * tail.element_bytes, max_size=entries * tail.element_bytes))
            raw = entries.to_bytes(4, "little") + raw[4:] + body
        made[name] = raw
    return made


@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data(), everything=st.booleans())
def test_no_state_breaks_the_page(data: st.DataObject, everything: bool) -> None:
    vcpu = VcpuState.from_sections(sections_of(VCPU_SECTIONS, data))
    vm = VmState.from_sections(sections_of(VM_SECTIONS, data))
    machine = MachineState.model_construct(memory=_NO_MEMORY, vm=vm, vcpus=[vcpu])
    text = text_of(machine, everything=everything)
    assert text.replace("\n", "").isprintable()
