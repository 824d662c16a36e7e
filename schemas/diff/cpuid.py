"""Features of CPUID that were gained and lost."""

from __future__ import annotations

from ..names.cpuid import feature_word
from .words import listed


def feature_changes(function: int, index: int, register: str, old: int, new: int) -> str:
    """Return "gained avx2; lost rtm" for a register whose bits are features, "" for another."""
    word = feature_word(function, index, register)
    if word is None:
        return ""
    masks = (("gained", new & ~old), ("lost", old & ~new))
    return "; ".join(f"{verb} {listed(word.features(mask))}" for verb, mask in masks if mask)
