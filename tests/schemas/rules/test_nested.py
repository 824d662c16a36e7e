"""Rules on nested_state."""

import pytest


def put(body, offset, value, size=8):
    return body[:offset] + value.to_bytes(size, "little") + body[offset + size :]


IN_SMM = {"events.smi.smm": 1, "events.nmi.masked": 1}
VMX = {"vendor": "GenuineIntel", "cpuid|@1.ecx": 1 << 5, "sregs.cr4": 0x26A0}
SVM = {"cpuid|@0x80000001.ecx": 1 << 2, "sregs.efer": 0x1D01}
VMXON = {"vmxon_pa": 0x1000}
CURRENT = {"vmxon_pa": 0x1000, "vmcs12_pa": 0x2000}
VMCS12 = put(bytes(4096), 0, 0x11E57ED0, 4)
SHADOW12 = put(bytes(4096), 0, 0x91E57ED0, 4)
VMCB12 = bytes(4096)
for _offset, _value in ((0x10, 1), (0x58, 1), (0x4D0, 0x1500), (0x548, 0x20), (0x558, 0x80000011), (0x568, 0xFFFF0FF0)):
    VMCB12 = put(VMCB12, _offset, _value)

EXAMPLES = {
    "INV-140": {"bad": {"nested": {"format": 2}}, "good": {"nested": {"format": 1, "flags": 0x100}}},
    "INV-141": {"bad": {"nested": {"size": 127}}, "good": {"nested": {"size": 128}}},
    "INV-142": {
        "bad": {**VMX, "nested": {"flags": 0x10, "vmx": VMXON}},
        "good": {**VMX, "nested": {"flags": 0x08, "vmx": VMXON}},
    },
    "INV-143": {
        "bad": {**VMX, "nested": {"flags": 2, "vmx": VMXON}},
        "good": {**VMX, "nested": {"flags": 3, "vmx": CURRENT, "data": VMCS12}},
    },
    "INV-144": {
        "bad": {**IN_SMM, **SVM, "nested": {"format": 1, "flags": 0x101, "data": VMCB12}},
        "good": {**IN_SMM, **SVM, "nested": {"format": 1, "flags": 0x100}},
    },
    "INV-145": {
        "bad": {"sregs.cr4": 0x26A0, "nested": {"vmx": VMXON}},
        "good": {**VMX, "nested": {"vmx": VMXON}},
        "also": {"INV-069"},
    },
    "INV-146": {"bad": {"nested": {"vmx": {"vmcs12_pa": 0x2000}}}, "good": {"nested": {"flags": 4}}},
    "INV-147": {
        "bad": {**VMX, "nested": {"vmx": {"vmxon_pa": 0x1234}}},
        "good": {**SVM, "nested": {"format": 1, "flags": 0x101, "data": VMCB12, "svm": {"vmcb_pa": 0xF000}}},
    },
    "INV-148": {
        "bad": {**VMX, "nested": {"vmx": {"vmxon_pa": 0x1000, "vmcs12_pa": 0x1000}, "data": VMCS12}},
        "good": {**VMX, "nested": {"vmx": CURRENT, "data": VMCS12}},
    },
    "INV-149": {
        "bad": {**VMX, "nested": {"vmx": {**VMXON, "smm": 2}}},
        "good": {**VMX, **IN_SMM, "sregs.cr4": 0x6A0, "nested": {"vmx": {**VMXON, "smm": 3}}},
    },
    "INV-150": {
        "bad": {**IN_SMM, "nested": {"vmx": {"smm": 4}}},
        "good": {**IN_SMM, "nested": {"vmx": {"smm": 0}}},
    },
    "INV-151": {
        "bad": {**VMX, "nested": {"vmx": {**VMXON, "flags": 2}}},
        "good": {**VMX, "nested": {"vmx": {**VMXON, "flags": 1}}},
    },
    "INV-152": {
        "bad": {**VMX, "nested": {"vmx": CURRENT}},
        "good": {**VMX, "nested": {"flags": 4, "vmx": VMXON, "data": VMCS12}},
    },
    "INV-153": {
        "bad": {**VMX, "nested": {"vmx": CURRENT, "data": bytes(4096)}},
        "good": {**VMX, "nested": {"vmx": CURRENT, "data": SHADOW12}},
    },
    "INV-154": {
        "bad": {**VMX, "sregs.cr4": 0x6A0, "nested": {"vmx": VMXON}},
        "good": {"nested": {}},
    },
    "INV-160": {
        "bad": {**SVM, "nested": {"format": 1, "flags": 0x104}},
        "good": {**SVM, "nested": {"format": 1, "flags": 0x100}},
    },
    "INV-161": {
        "bad": {"nested": {"format": 1, "flags": 0}},
        "good": {**SVM, "nested": {"format": 1, "flags": 0}},
    },
    "INV-162": {
        "bad": {**SVM, "nested": {"format": 1, "flags": 0x101}},
        "good": {**SVM, "nested": {"format": 1, "flags": 0x101, "data": VMCB12}},
    },
    "INV-163": {
        "bad": {**SVM, "nested": {"format": 1, "flags": 0x101, "data": put(VMCB12, 0x58, 0)}},
        "good": {**SVM, "nested": {"format": 1, "flags": 0x101, "data": put(VMCB12, 0x58, 7)}},
    },
    "INV-164": {
        "bad": {**SVM, "nested": {"format": 1, "flags": 0x101, "data": put(VMCB12, 0x4D0, 0x500)}},
        "good": {**SVM, "nested": {"format": 1, "flags": 0x100, "data": put(VMCB12, 0x4D0, 0x500)}},
    },
}


@pytest.mark.parametrize("rule", EXAMPLES)
def test_an_example_breaks_its_rule_alone_and_its_counterpart_breaks_none(rule, holds):
    holds(rule, EXAMPLES[rule])
