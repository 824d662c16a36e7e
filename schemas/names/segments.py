"""Segment types in words: `type` of kvm_segment together with its `s`."""

from __future__ import annotations

CODE_DATA_TYPES: tuple[str, ...] = (
    "data r-",
    "data r- accessed",
    "data rw",
    "data rw accessed",
    "data r- down",
    "data r- down accessed",
    "data rw down",
    "data rw down accessed",
    "code --",
    "code -- accessed",
    "code r-",
    "code r- accessed",
    "code -- conforming",
    "code -- conforming accessed",
    "code r- conforming",
    "code r- conforming accessed",
)
"""Types of code and data segments (s=1), by number. Source: SDM vol. 3A table 3-1."""

SYSTEM_TYPES: tuple[str, ...] = (
    "reserved 0",
    "16-bit TSS available",
    "LDT",
    "16-bit TSS busy",
    "16-bit call gate",
    "task gate",
    "16-bit interrupt gate",
    "16-bit trap gate",
    "reserved 8",
    "TSS available",
    "reserved 10",
    "TSS busy",
    "call gate",
    "reserved 13",
    "interrupt gate",
    "trap gate",
)
"""Types of system segments (s=0), by number; 9, 11, 12, 14, 15 are 32-bit, or 64-bit in long mode.

Source: SDM vol. 3A table 3-2.
"""

SEGMENT_NAMES: tuple[str, ...] = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")
"""The segments of kvm_sregs in their order there."""


def segment_type(s: int, number: int) -> str:
    """Return the type in words; for bytes that no descriptor can hold, the number."""
    if not 0 <= number < 16:
        return f"type {number:#x}"
    return CODE_DATA_TYPES[number] if s else SYSTEM_TYPES[number]
