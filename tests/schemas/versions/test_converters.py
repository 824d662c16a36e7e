"""Version 1 to 2 and back, byte by byte, and what is lost where they differ."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.shadow import SmmCarrier, smm_shadow
from schemas.state import MachineSections, VcpuState
from schemas.uapi.fpu import KvmFpu
from schemas.uapi.msrs import KvmMsrs
from schemas.uapi.nested_state import (
    VMX_NO_ADDRESS,
    KvmNestedState,
    KvmNestedStateHdrSvm,
    KvmNestedStateHdrVmx,
    KvmSvmNestedStateHdr,
    KvmVmxNestedStateHdr,
)
from schemas.uapi.tsc_offset import MigsvcTscOffset
from schemas.uapi.vcpu_events import InterruptShadow
from schemas.versions.converters import convert_version, down, to_carrier, up

GPA = 0x30000 + 0xFF1A
"""int_shadow of a vCPU without long mode at the SMBASE of a reset."""


class Byte:
    """Guest memory of which only the byte int_shadow counts."""

    def __init__(self, byte=0):
        self.byte = byte

    def read(self, as_id, gpa, size):
        assert (as_id, gpa, size) == (1, GPA, 1)
        return bytes([self.byte])

    def apply(self, writes):
        for write in writes:
            assert (write.as_id, write.gpa) == (1, GPA)
            self.byte = write.data[0]


def ids(findings):
    return [finding.rule for finding in findings]


@pytest.fixture
def machine(legal_machine, changed):
    """Sections of a machine whose vCPU is in SMM: (masks or None for no flag) -> sections."""

    def make(masks, **extra):
        vcpu = changed(
            legal_machine.vcpus[0],
            {
                "events.smi.smm": 1,
                "events.flags": 0x3D if masks is None else 0x7D,
                "events.interrupt.shadow": InterruptShadow(current=0, smm=masks or 0),
            },
        )
        vcpu = vcpu.model_copy(update=extra)
        vm = legal_machine.vm.model_copy(update={"ioapic": None})
        return MachineSections(vm.to_sections(), [vcpu.to_sections()])

    return make


def events_of(sections):
    return VcpuState.from_sections(sections.vcpus[0]).events


@pytest.mark.parametrize("masks", range(4))
def test_down_puts_the_shadow_into_smram_and_up_takes_it_from_there(machine, masks):
    memory = Byte()
    old = down(machine(masks), memory)
    memory.apply(old.smram_writes)
    assert memory.byte == masks
    assert (old.version, old.losses) == (1, ())
    assert (events_of(old.sections).flags, events_of(old.sections).interrupt.shadow.to_byte()) == (0x3D, 0)
    new = up(old.sections, memory)
    assert (new.version, new.losses) == (2, ())
    assert new.sections == machine(masks)


@pytest.mark.parametrize("masks", range(4))
def test_up_then_down_is_the_identity(machine, masks):
    memory = Byte(masks)
    new = up(machine(None), memory)
    assert smm_shadow(events_of(new.sections)) == masks
    old = down(new.sections, memory)
    assert (new.losses, old.losses, old.smram_writes) == ((), (), ())
    assert old.sections == machine(None)


@settings(max_examples=300, deadline=None)
@given(raw=st.binary(min_size=64, max_size=64), byte=st.integers(0, 255), known=st.booleans())
def test_up_then_down_is_the_identity_for_any_events_unless_a_loss_says_so(machine_bytes, raw, byte, known):
    flags = struct.unpack_from("<I", raw, 20)[0] & ~0x40
    raw = raw[:20] + struct.pack("<I", flags) + raw[24:]
    start = MachineSections(machine_bytes.vm, [{**machine_bytes.vcpus[0], "events": raw}])
    memory = Byte(byte) if known else None
    new = up(start, memory)
    old = down(new.sections, memory)
    if not (new.losses or old.losses):
        assert old.sections == start
        assert old.smram_writes == ()
    else:
        assert raw[11] >> 4, "only a nibble that version 1 does not have is lost"


@pytest.fixture(scope="module")
def machine_bytes():
    """Sections of a machine with what an SMI needs: SMBASE, and nothing else of note."""
    from schemas.uapi import VCPU_SECTIONS

    raw = {name: row.model.zero().pack() for name, row in VCPU_SECTIONS.items() if row.required}
    return MachineSections({}, [{**raw, "msrs": KvmMsrs.of({0x9E: 0x30000}).pack()}])


def test_the_same_version_is_the_same_sections(machine):
    sections = machine(2)
    for version in (1, 2):
        done = convert_version(sections, source=version, target=version)
        assert done.sections is sections
        assert (done.losses, done.notes) == ((), ())


def test_outside_smm_only_the_flag_goes(legal_machine):
    vm = legal_machine.vm.model_copy(update={"ioapic": None})
    sections = MachineSections(vm.to_sections(), [legal_machine.vcpus[0].to_sections()])
    done = down(sections)
    assert events_of(done.sections).flags == 0x3D
    assert (done.losses, done.notes, done.smram_writes) == ((), (), ())


def test_a_target_without_a_carrier_loses_the_shadow(machine):
    done = down(machine(2), Byte(2), None)
    assert ids(done.losses) == ["LOSS-001"]
    assert ids(down(machine(0), Byte(0), None).losses) == []


def test_a_state_of_version_1_that_says_more_than_version_1_can(machine):
    flagged = up(machine(2), Byte(0))
    assert (ids(flagged.notes), flagged.losses, flagged.sections) == (["LOSS-025"], (), machine(2))
    raw = dict(machine(2).vcpus[0])
    raw["events"] = raw["events"][:20] + struct.pack("<I", 0x3D) + raw["events"][24:]
    cleared = up(MachineSections(machine(2).vm, [raw]))
    assert ids(cleared.losses) == ["LOSS-024"]
    assert events_of(cleared.sections).interrupt.shadow.to_byte() == 0


def test_on_the_way_up_only_smram_counts(machine):
    raw = dict(machine(None).vcpus[0])
    raw["events"] = raw["events"][:29] + b"\2" + raw["events"][30:]
    done = up(MachineSections(machine(None).vm, [raw]), Byte(1))
    assert smm_shadow(events_of(done.sections)) == 1, "the byte behind triple_fault is junk there"
    assert events_of(done.sections).reserved[0] == 2


def vmx(flags=0, **fields):
    hdr = KvmVmxNestedStateHdr(**{"vmxon_pa": VMX_NO_ADDRESS, "vmcs12_pa": VMX_NO_ADDRESS, **fields})
    return KvmNestedState(flags=flags, format=0, size=128, hdr=KvmNestedStateHdrVmx(vmx=hdr))


def svm(flags):
    hdr = KvmNestedStateHdrSvm(svm=KvmSvmNestedStateHdr(vmcb_pa=0))
    return KvmNestedState(flags=flags, format=1, size=128, hdr=hdr)


def tsc_offset(value):
    return MigsvcTscOffset.unpack(struct.pack("<q", value))


FPU_BYTES = (127, 128, 130, 132, 134, 136, 144, 151, 152, 407)
"""Bytes of kvm_fpu that the legacy area of `xsave` holds too, at both ends of its pieces."""

DROPPED = [
    ("nested_state", lambda: vmx(), "LOSS-021"),
    ("nested_state", lambda: vmx(vmxon_pa=0x1000), "LOSS-020"),
    ("nested_state", lambda: vmx(flags=4), "LOSS-020"),
    ("nested_state", lambda: svm(0x100), "LOSS-021"),
    ("nested_state", lambda: svm(0), "LOSS-020"),
    ("nested_state", lambda: svm(0x101), "LOSS-020"),
    ("fpu", KvmFpu.zero, "LOSS-021"),
    ("fpu", lambda: KvmFpu.unpack(b"\x01" + bytes(415)), "LOSS-022"),
    *[("fpu", lambda at=at: KvmFpu.unpack(bytes(at) + b"\x01" + bytes(415 - at)), "LOSS-022") for at in FPU_BYTES],
    ("tsc_offset", lambda: tsc_offset(-5), "LOSS-020"),
]


@pytest.mark.parametrize(("section", "value", "rule"), DROPPED)
def test_a_section_that_version_1_lacks_is_judged(machine, section, value, rule):
    done = down(machine(0, **{section: value()}), Byte())
    found = [f for f in (*done.losses, *done.notes) if f.where == f"vcpus.0.{section}"]
    assert ids(found) == [rule]
    assert section not in done.sections.vcpus[0]


def test_a_tsc_offset_beside_the_tsc_costs_time_only(machine, legal_machine):
    msrs = KvmMsrs.of({0x9E: 0x30000, 0x10: 77})
    done = down(machine(0, tsc_offset=tsc_offset(5), msrs=msrs), Byte())
    assert ids(done.losses) == ["LOSS-023"]


@pytest.mark.parametrize(("line", "rule"), [(1 << 16, "LOSS-021"), (0x31, "LOSS-020")])
def test_an_ioapic_whose_lines_are_set_up_is_lost(machine, line, rule):
    chip = struct.pack("<QIIII24Q", 0xFEC0_0000, 0, 0, 0, 0, line, *[1 << 16] * 23)
    raw = struct.pack("<II", 2, 0) + chip
    start = machine(0)
    done = down(MachineSections({**start.vm, "ioapic": raw.ljust(520, b"\0")}, start.vcpus), Byte())
    assert [f.rule for f in (*done.losses, *done.notes) if f.where == "vm.ioapic"] == [rule]
    assert "ioapic" not in done.sections.vm


def test_a_shadow_in_force_is_judged_by_the_targets_vendor(machine, changed):
    start = machine(None)
    vcpu = VcpuState.from_sections(start.vcpus[0])
    running = changed(vcpu, {"events.smi.smm": 0, "events.interrupt.shadow": InterruptShadow(current=2, smm=0)})
    start = MachineSections(start.vm, [running.to_sections()])
    assert ids(to_carrier(start, 2, SmmCarrier.SMRAM, vendor="AuthenticAMD").losses) == ["LOSS-006"]
    assert ids(to_carrier(start, 2, SmmCarrier.SMRAM, vendor="GenuineIntel").losses) == []


def test_a_nested_state_that_held_the_shadow_only_does_not_stay_behind(machine):
    start = machine(None, nested_state=vmx(smm={"flags": 4}))
    done = to_carrier(start, 2, SmmCarrier.EVENTS_NIBBLE)
    assert "nested_state" in start.vcpus[0]
    assert "nested_state" not in done.sections.vcpus[0]
    assert (smm_shadow(events_of(done.sections)), done.losses) == (2, ())


def test_a_shadow_in_nested_flags_goes_down_too(machine):
    start = machine(0, nested_state=vmx(smm={"flags": 4}))
    raw = dict(start.vcpus[0])
    raw["events"] = raw["events"][:20] + struct.pack("<I", 0x3D) + raw["events"][24:]
    memory = Byte()
    done = down(MachineSections(start.vm, [raw]), memory)
    memory.apply(done.smram_writes)
    assert memory.byte == 2
    assert done.losses == ()


def test_a_conversion_has_a_json_form(machine):
    form = down(machine(2), None, SmmCarrier.SMRAM).as_json()
    assert form["schema_version"] == 1
    assert form["smram_writes"][0]["gpa"] == f"{GPA:#x}"
