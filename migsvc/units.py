"""Quantities in words, for whatever prints them."""

from __future__ import annotations

SHADOW_BITS = ((1, "MOV SS"), (2, "STI"))
"""Bits of an interrupt shadow; Source: KVM_X86_SHADOW_INT_MOV_SS, KVM_X86_SHADOW_INT_STI of the kernel's asm/kvm.h."""


def human_bytes(count: int | None) -> str:
    """Return a number of bytes with a binary unit."""
    if count is None:
        return "-"
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def human_ms(duration_ns: int | None) -> str:
    """Return a duration in milliseconds."""
    return "-" if duration_ns is None else f"{duration_ns / 1e6:.1f} ms"


def shadow_text(mask: int) -> str:
    """Return an interrupt shadow (bits of `SHADOW_BITS`) in words."""
    return " + ".join(name for bit, name in SHADOW_BITS if mask & bit) or "none"
