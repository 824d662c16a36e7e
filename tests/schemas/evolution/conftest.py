"""A small layout, and edits of it: what a pair of exports differs by is written out, not derived."""

from __future__ import annotations

import copy

import pytest

from schemas.evolution.document import SchemaExport


def field(offset, size, ctype, **more):
    return {"offset": offset, "size": size, "type": ctype, **more}


def section(struct, size, **more):
    return {"scope": "vcpu", "struct": struct, "required": True, "max_bytes": size, **more}


def record(number, **more):
    return {"type": number, "optional": False, "min_body": 2, "max_body": 100, "encoding": "fixed", **more}


BASE = {
    "format": 1,
    "schema_version": 2,
    "versions": {"written": 2, "read": [1, 2]},
    "sections": {
        "regs": section("Regs", 16),
        "extra": section("Extra", 16, required=False),
        "list": section("List", 100),
        "part": section("Outer", 24),
    },
    "structs": {
        "Regs": {
            "c_name": "kvm_regs",
            "size": 16,
            "align": 8,
            "fields": {
                "a": field(0, 4, "u32"),
                "b": field(4, 1, "u8"),
                "shadow": field(5, 1, "u8", of="Shadow"),
                "c": field(6, 2, "u16", optional=True),
                "reserved": field(8, 8, "u8[8]", optional=True),
            },
        },
        "Extra": {"size": 16, "align": 4, "fields": {"values": field(0, 16, "u32[4]", length=4)}},
        "List": {
            "size": 4,
            "align": 4,
            "fields": {"n": field(0, 4, "u32")},
            "tail": {
                "name": "entries",
                "type": "Entry[]",
                "of": "Entry",
                "element_bytes": 8,
                "max_entries": 10,
                "counter": "n",
            },
        },
        "Entry": {"size": 8, "align": 8, "fields": {"value": field(0, 8, "u64")}},
        "Outer": {
            "size": 24,
            "align": 8,
            "fields": {
                "kind": field(0, 8, "u64"),
                "inner": field(8, 8, "struct", of="Entry"),
                "choice": field(16, 8, "struct", by="kind", arms={"0": "Entry", "other": "Plain"}),
            },
        },
        "Plain": {"size": 8, "align": 1, "fields": {"bytes": field(0, 8, "u8[8]")}},
    },
    "packed": {"Shadow": {"now": {"mask": 15, "max": 15}, "smm": {"mask": 240, "max": 3}}},
    "enums": {
        "State": {"role": "value", "members": {"RUNS": 0, "HALTED": 3}},
        "Flags": {"role": "flags", "members": {"VALID_A": 1, "VALID_B": 2}},
        "Ioctl": {"role": "interface", "members": {"GET_REGS": 7, "SET_REGS": 8}},
    },
    "limits": {"MAX_VCPUS": 8},
    "invariants": {
        "INV-001": {"severity": "error", "text": "a is small", "where": "regs.a", "scope": "vcpu"},
        "INV-002": {"severity": "warning", "text": "b is even", "where": "regs.b", "scope": "vcpu"},
        "INV-003": {
            "severity": "error",
            "text": "b is odd",
            "where": "regs.b",
            "scope": "vcpu",
            "host_vendor": "GenuineIntel",
        },
    },
    "compat_rules": {
        "CMP-001": {"severity": "error", "text": "version"},
        "CMP-002": {"severity": "warning", "text": "vendor"},
    },
    "order": {
        "restore": {
            "sequence": ["regs", "extra", "list"],
            "steps": {"regs": {"reason": "first"}, "extra": {"after": ["regs"]}, "list": {"after": ["regs"]}},
        }
    },
    "documents": {
        "HostProfile": {
            "$": {"required": True, "form": {"type": "object", "closed": True}},
            "$.name": {"required": True, "form": {"type": "string", "maxLength": 8}},
            "$.note": {"required": False, "form": {"type": "string"}},
            "$.mode": {"required": True, "form": {"type": "string", "enum": ["a", "b"]}},
        }
    },
    "stream": {
        "version": 1,
        "versions_read": [1],
        "constants": {"MAGIC": "8b4d"},
        "limits": {"MAX_ROUNDS": 64},
        "flags": {"SNAPSHOT": 1},
        "records": {"CONFIG": record(1), "HINT": record(0x80000002, optional=True)},
    },
    "protocol_versions": [1],
    "messages": {"Hello": {"type": 1, "sender": "dialer", "fields": {"host": "str"}}},
}

GONE = object()


def edited(*edits):
    """Return the small layout after edits: (path, value) with / between the names; GONE takes the member away."""
    plain = copy.deepcopy(BASE)
    for path, value in edits:
        *parents, last = path.split("/")
        at = plain
        for name in parents:
            at = at[name]
        if value is GONE:
            del at[last]
        else:
            at[last] = copy.deepcopy(value)
    return SchemaExport.model_validate(plain).sealed()


@pytest.fixture
def base():
    return edited()
