"""The states of a real kernel, which the examples change, break no rule that matters."""

import json
import lzma
from pathlib import Path

import pytest

from schemas.errors import Severity
from schemas.invariants import check_state
from schemas.memory import MemoryMap, MemorySlot
from schemas.rules.row import AMD, INTEL
from schemas.state import MachineState

RECORDED = Path(__file__).parents[2] / "data" / "kvm-state" / "linux-6.18.jsonl.xz"
LINES = lzma.decompress(RECORDED.read_bytes()).decode().splitlines()
MEMORY = MemoryMap(
    slots=(MemorySlot(as_id=0, slot=0, gpa=0, size_bytes=1 << 20, backing_offset_bytes=0),), ram_bytes=1 << 20
)
EXPECTED = {"INV-191", "INV-206", "INV-221"}
"""No host TSC before the guest has run; TSC offset and TSC were both recorded; the APIC ID in CPUID is the host's."""


@pytest.mark.parametrize("vendor", [None, INTEL, AMD])
@pytest.mark.parametrize("line", LINES, ids=lambda line: json.loads(line)["name"])
def test_a_machine_of_a_real_kernel_is_legal_on_every_host(line, vendor):
    record = json.loads(line)
    vm, vcpu = ({name: bytes.fromhex(raw) for name, raw in record[scope].items()} for scope in ("vm", "vcpu"))
    findings = check_state(MachineState.from_sections(MEMORY, vm, [vcpu]), host_vendor=vendor)
    assert {finding.rule for finding in findings} <= EXPECTED
    assert Severity.ERROR not in {finding.severity for finding in findings}


def test_the_recording_shows_what_it_says():
    names = [json.loads(line)["name"] for line in LINES]
    assert names == ["reset", "real/sti", "real/mov_ss", "long/x87_sse", "long/pending_pf", "long/avx512"]


@pytest.mark.parametrize("base", ["real", "long", "machine"])
@pytest.mark.parametrize("vendor", [None, INTEL, AMD])
def test_the_bases_break_no_rule(base, vendor, bases):
    assert check_state(bases[base], host_vendor=vendor) == []
