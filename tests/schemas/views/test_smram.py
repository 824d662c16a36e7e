"""SMRAM save areas that a real KVM wrote, as view and as page."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import LayoutError
from schemas.state import VcpuState
from schemas.uapi.cpuid2 import KvmCpuid2, KvmCpuidEntry2
from schemas.uapi.msrs import KvmMsrs
from schemas.uapi.regs import KvmRegs
from schemas.uapi.sregs import KvmSregs
from schemas.views.page import page
from schemas.views.page_smram import smram_lines
from schemas.views.smram import SmramView, looks_64_bit, save_areas

LAB = Path(__file__).parents[2] / "data" / "kvm-lab" / "smi_shadow-linux-6.12.jsonl"


def recorded() -> dict[str, tuple[bytes, dict[str, Any]]]:
    """Scenario -> the save area, and the vCPU before the SMI."""
    steps: dict[str, dict[str, Any]] = {}
    areas = {}
    for line in LAB.read_text().splitlines()[1:]:
        step = json.loads(line)
        if step["label"] == "start":
            steps[step["scenario"]] = step
        elif step.get("smram_3fe00") and step["label"] == "in_smm":
            areas[step["scenario"]] = (bytes.fromhex(step["smram_3fe00"]), steps[step["scenario"]])
    return areas


AREAS = recorded()


def test_there_are_areas_of_both_maps() -> None:
    assert {name.split("/")[1] for name in AREAS} == {"map32", "map64"}
    assert len(AREAS) == 20


@pytest.mark.parametrize("scenario", AREAS)
def test_an_area_says_what_the_vcpu_was(scenario: str) -> None:
    area, start = AREAS[scenario]
    long_mode = "map64" in scenario
    view = SmramView.of(area, long_mode=long_mode)
    regs, sregs = KvmRegs.unpack(bytes.fromhex(start["regs"])), KvmSregs.unpack(bytes.fromhex(start["sregs"]))
    assert looks_64_bit(area) == long_mode
    assert view.to_bytes() == area
    assert view.gaps == {}
    assert view.fields["int_shadow"] == {"MOV_SS": 1, "STI": 1, "reserved": 0} or scenario.endswith("shadow0")
    for name in ("rax", "rbx", "rsp", "rdi", "rip", "rflags"):
        assert view.number(name) == getattr(regs, name)
    for name in ("cr0", "cr3", "cr4"):
        assert view.number(name) == getattr(sregs, name)
    for name in ("cs", "ss", "tr"):
        segment = getattr(sregs, name)
        assert view.number(f"{name}.base") == segment.base
        assert view.number(f"{name}.limit") == segment.limit
        assert view.number(f"{name}.selector") == segment.selector
        attributes = view.fields[f"{name}.attributes" if long_mode else f"{name}.flags"]
        assert (attributes["TYPE"], attributes["P"], attributes["L"]) == (segment.type, segment.present, segment.l)


def rows(scenario: str, *, long_mode: bool) -> dict[str, Any]:
    return {line.name: line for line in smram_lines(AREAS[scenario][0], long_mode=long_mode)}


def test_the_page_of_an_area() -> None:
    found = rows("smi_shadow/map64/long64/shadow2", long_mode=True)
    assert found["int_shadow"][:4] == ("int_shadow", "03", "STI and MOV SS: in force again after RSM", True)
    assert found["efer"].decoded == "LME LMA"
    assert found["cs"].decoded == "code r- accessed, DPL 0, L, G"
    assert found["smm_revision"].usual


def test_the_other_map_is_noticed() -> None:
    found = rows("smi_shadow/map64/long64/shadow2", long_mode=False)
    assert found["smm_revision"].unusual
    assert "by the other map" in found["smm_revision"].decoded


class Smram:
    """An area at 0x3FE00 of address space 1, and nothing else."""

    def read(self, as_id: int, gpa: int, size: int) -> bytes:
        if (as_id, gpa, size) != (1, 0x3FE00, 512):
            raise LookupError(gpa)
        return bytes(range(256)) * 2


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"events.smi.smm": 1}, {0: bytes(range(256)) * 2}),
        ({}, {}),
        ({"events.smi.smm": 1, "events.flags": 0}, {}),
        ({"events.smi.smm": 1, "msrs": KvmMsrs.of({})}, {}),
        ({"events.smi.smm": 1, "msrs": KvmMsrs.of({0x9E: 0x50000})}, {}),
    ],
)
def test_save_areas_of_the_vcpus_in_smm(
    legal_vcpu: VcpuState, changed: Any, changes: dict[str, Any], found: dict[int, bytes]
) -> None:
    assert save_areas([changed(legal_vcpu, changes)], Smram()) == found


def test_a_vcpu_in_smm_shows_its_save_area(legal_vcpu: VcpuState, changed: Any) -> None:
    leaf = KvmCpuidEntry2(function=0x80000001, index=0, flags=0, eax=0, ebx=0, ecx=0, edx=1 << 29)
    vcpu = changed(legal_vcpu, {"events.smi.smm": 1, "cpuid2": KvmCpuid2(nent=1, entries=(leaf,))})
    areas = {0: AREAS["smi_shadow/map64/real/shadow1"][0]}
    titles = [section.title for section in page(vcpu, save_areas=areas)]
    assert "SMRAM save area: what RSM loads" in titles
    assert "SMRAM save area: what RSM loads" not in [section.title for section in page(vcpu)]
    with pytest.raises(LayoutError, match="4 bytes, expected 512"):
        page(vcpu, save_areas={0: bytes(4)})
