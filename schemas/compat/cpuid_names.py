"""CPUID bits of a register by name, for messages."""

from __future__ import annotations

from ..names.cpuid import feature_word
from .cpuid_words import Word
from .row import listed


def bit_names(word: Word, wrong: int) -> str:
    """Return the names of the bits set, with their numbers where they have no name."""
    row = feature_word(word.function, word.subleaf, word.register)
    names = row.names if row is not None else {}
    bits = (bit for bit in range(32) if wrong << word.low >> bit & 1)
    return listed(f"{names[bit]} (bit {bit})" if bit in names else f"bit {bit}" for bit in bits)
