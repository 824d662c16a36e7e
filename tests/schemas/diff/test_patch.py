"""JSON Patch: applied to the old document it gives the new one."""

import copy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.diff import json_patch
from schemas.diff.patch import pointer
from schemas.paths import locate
from schemas.state import VcpuState
from schemas.uapi.cpuid2 import KvmCpuid2
from schemas.uapi.msrs import KvmMsrs


def applied(document, operations):
    """RFC 6902 add, remove and replace, by themselves: nothing of the product is used."""
    document = copy.deepcopy(document)
    for operation in operations:
        keys = [key.replace("~1", "/").replace("~0", "~") for key in operation["path"].split("/")[1:]]
        holder = document
        for key in keys[:-1]:
            holder = holder[int(key)] if isinstance(holder, list) else holder[key]
        last = int(keys[-1]) if isinstance(holder, list) else keys[-1]
        if operation["op"] == "remove":
            del holder[last]
        elif operation["op"] == "add" and isinstance(holder, list):
            assert 0 <= last <= len(holder)
            holder.insert(last, operation["value"])
        else:
            assert operation["op"] == "replace"
            assert isinstance(holder, list) or last in holder
            holder[last] = operation["value"]
    return document


def agrees(old, new):
    operations = json_patch(old, new)
    assert applied(old.model_dump(mode="json"), operations) == new.model_dump(mode="json")
    return operations


def test_a_value(vcpu):
    new = locate(vcpu, "sregs.cr4.PAE").replace(1)
    assert agrees(vcpu, new) == [{"op": "replace", "path": "/sregs/cr4", "value": "0x20"}]
    assert json_patch(vcpu, vcpu) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("vcpus[1].regs.rip", 1),
        ("vm.clock.clock", 9),
        ("vcpus[0].sregs2", None),
        ("vcpus[0].events.interrupt.shadow.smm", 2),
        ("vcpus[0].msrs.MSR_LSTAR", 1),
        ("vcpus[0].msrs.MSR_IA32_SMBASE", 1),
        ("vcpus[0].msrs.MSR_IA32_SMBASE", None),
        ("vcpus[0].cpuid2.avx2", 0),
        ("vcpus[0].xsave.region[4]", 1),
        ("vcpus[0].debugregs.db[1]", 1),
        ("memory.ram_bytes", 1 << 21),
        ("memory.slots[1].flags", 1),
    ],
)
def test_a_patch_of_a_machine(machine, path, value):
    new = locate(machine, path).replace(value)
    agrees(machine, new)
    agrees(new, machine)


def test_vcpus_and_slots_that_come_and_go(machine, changed):
    less = changed(machine.model_copy(update={"vcpus": machine.vcpus[:1]}), {"memory.slots": machine.memory.slots[:1]})
    assert [operation["op"] for operation in agrees(machine, less)] == ["remove", "remove"]
    assert [operation["op"] for operation in agrees(less, machine)] == ["add", "add"]


def test_several_elements_come_and_go_in_an_order_that_can_be_applied(machine):
    more = machine.model_copy(
        update={"vcpus": [v.model_copy(update={"index": n}) for n in range(4) for v in machine.vcpus[:1]]}
    )
    assert len(agrees(more, machine)) == len(agrees(machine, more)) == 2


def test_an_msr_is_ignored_by_its_name(vcpu):
    old = locate(vcpu, "msrs").replace(KvmMsrs.of({0x10: 1, 0x9E: 2, 0xC0000082: 3}))
    new = locate(vcpu, "msrs").replace(KvmMsrs.of({0x10: 2, 0x9E: 3, 0xC0000082: 4}))
    operations = json_patch(old, new, ignore=["time", "msrs.MSR_LSTAR"])
    assert operations == [{"op": "replace", "path": "/msrs/entries/1/data", "value": "0x3"}]


def test_lists_of_other_things_are_replaced_whole(vcpu, changed):
    turned = changed(vcpu, {"cpuid2": KvmCpuid2(nent=1, entries=vcpu.cpuid2.entries[1:2])})
    assert [operation["path"] for operation in agrees(vcpu, turned)] == ["/cpuid2/nent", "/cpuid2/entries"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_two_states(vcpu, data):
    raw = vcpu.to_sections()
    for name in data.draw(st.lists(st.sampled_from(["regs", "sregs", "events", "lapic", "xcrs"]), max_size=3)):
        raw[name] = data.draw(st.binary(min_size=len(raw[name]), max_size=len(raw[name])))
    values = data.draw(st.dictionaries(st.sampled_from([0x10, 0x9E, 0xC0000082, 7]), st.integers(0, 9)))
    raw["msrs"] = KvmMsrs.of(values).pack()
    new = VcpuState.from_sections(raw)
    agrees(vcpu, new)
    agrees(new, vcpu)


def test_a_pointer_escapes():
    assert pointer(["a/b", "m~n", 0]) == "/a~1b/m~0n/0"
