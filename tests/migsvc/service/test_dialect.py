"""What two hosts agree on, before anything moves."""

import pytest

from emulator.bridge import host_profile
from migsvc.api import examples
from migsvc.config import Settings
from migsvc.errors import PeerError
from migsvc.service.dialect import Dialect, RamView, agree, own_dialect, spoken_versions, to_dialect, within
from schemas.memory import MemoryMap, MemorySlot
from schemas.shadow import SmmCarrier, SmramWrite
from schemas.state import VcpuState
from schemas.versions import version_row

NIBBLE, SMRAM = SmmCarrier.EVENTS_NIBBLE, SmmCarrier.SMRAM


def profile(**settings):
    return within(host_profile("h"), Settings(**settings))


@pytest.mark.parametrize(
    ("settings", "versions", "carriers", "flags", "own"),
    [
        ({}, (1, 2), (NIBBLE, SMRAM), 0x7F, Dialect(2, NIBBLE)),
        ({"schema_version": 1}, (1,), (SMRAM,), 0x3F, Dialect(1, SMRAM)),
        ({"smm_carriers": "smram"}, (1, 2), (SMRAM,), 0x3F, Dialect(2, SMRAM)),
        ({"smm_carriers": "none"}, (1, 2), (), 0x3F, Dialect(2, None)),
        ({"schema_version": 1, "smm_carriers": "none"}, (1,), (), 0x3F, Dialect(1, None)),
    ],
)
def test_settings_decide_what_a_host_speaks(settings, versions, carriers, flags, own):
    found = profile(**settings)
    assert (found.schema_versions, found.smm_carriers, found.event_flags) == (versions, carriers, flags)
    assert spoken_versions(Settings(**settings)) == versions
    assert own_dialect(found) == own
    assert set(found.vcpu_sections) <= set(version_row(max(versions)).vcpu_sections)
    assert set(found.vm_sections) <= set(version_row(max(versions)).vm_sections)


@pytest.mark.parametrize(
    ("said", "agreed"),
    [
        ({"schema_versions": [1, 2, 3]}, Dialect(2, NIBBLE, "emulated")),
        ({"schema_versions": [1]}, Dialect(1, SMRAM, "emulated")),
        ({"event_flags": 0x3F}, Dialect(2, SMRAM, "emulated")),
        ({"smm_carriers": ["a_later_one"]}, Dialect(2, None, "emulated")),
        ({"of_a_later_release": 1}, Dialect(2, NIBBLE, "emulated")),
        ({"vendor": 7}, Dialect(2, NIBBLE, None)),
    ],
)
def test_the_highest_common_version_and_the_best_carrier(said, agreed):
    assert agree((1, 2), "b", {**profile().model_dump(mode="json"), **said}) == agreed


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"schema_versions": [3, 4]}, "b speaks schema versions 3, 4, this host 1, 2"),
        ({"schema_versions": []}, "does not say"),
        ({"schema_versions": "12"}, "does not say"),
        ({"schema_versions": ["1"]}, "does not say"),
        ({"event_flags": None}, "does not say"),
    ],
)
def test_a_peer_without_a_common_version_is_told_in_words(said, text):
    with pytest.raises(PeerError, match=text):
        agree((1, 2), "b", {**profile().model_dump(mode="json"), **said})


@pytest.mark.parametrize(
    ("vendor", "lost"), [("AuthenticAMD", ["LOSS-006"]), ("GenuineIntel", []), ("emulated", []), (None, [])]
)
def test_a_processor_that_holds_less_is_told_of_although_the_words_are_the_same(vendor, lost):
    vcpu = VcpuState.model_validate(examples.vcpu_state())
    shadow = vcpu.events.interrupt.shadow.model_copy(update={"current": 2})
    interrupt = vcpu.events.interrupt.model_copy(update={"shadow": shadow})
    vcpu = vcpu.model_copy(update={"events": vcpu.events.model_copy(update={"interrupt": interrupt})})
    said = to_dialect({}, [vcpu.to_sections()], Dialect(2, NIBBLE, vendor), None)
    assert [finding.rule for finding in said.losses] == lost


def test_ram_is_read_and_written_by_address():
    slots = (MemorySlot(as_id=1, slot=0, gpa=0x3000, size_bytes=4096, backing_offset_bytes=4096),)
    ram = bytearray(8192)
    view = RamView(MemoryMap(slots=slots, ram_bytes=8192), memoryview(ram))
    assert view.apply((SmramWrite(0, 1, 0x3005, b"\x07"),)) == [4096 + 5]
    assert view.read(1, 0x3004, 3) == b"\x00\x07\x00"
    for as_id, gpa in ((0, 0x3000), (1, 0x4000)):
        with pytest.raises(LookupError, match="no memory slot"):
            view.read(as_id, gpa, 1)
