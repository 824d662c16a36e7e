"""The CPUID words that hold features, and which bits of them a host cannot change by lacking them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from ..uapi.cpuid2 import KvmCpuid2

Register = Literal["eax", "ebx", "ecx", "edx"]


class FeatureWord(NamedTuple):
    """One register of one leaf. `ignored`: bits that mirror guest state or name the hypervisor, not the processor."""

    function: int
    subleaf: int
    register: Register
    names: dict[int, str]
    ignored: int = 0


FEATURE_WORDS: tuple[FeatureWord, ...] = (
    # OSXSAVE (27) mirrors CR4; 31 says "under a hypervisor".
    FeatureWord(
        1, 0, "ecx",
        {0: "sse3", 1: "pclmulqdq", 9: "ssse3", 12: "fma", 13: "cx16", 17: "pcid", 19: "sse4.1", 20: "sse4.2",
         21: "x2apic", 22: "movbe", 23: "popcnt", 24: "tsc_deadline", 25: "aes", 26: "xsave", 28: "avx", 29: "f16c",
         30: "rdrand"},
        1 << 27 | 1 << 31,
    ),
    # APIC (9) mirrors IA32_APIC_BASE.
    FeatureWord(
        1, 0, "edx",
        {0: "fpu", 1: "vme", 2: "de", 3: "pse", 4: "tsc", 5: "msr", 6: "pae", 7: "mce", 8: "cx8", 11: "sep", 12: "mtrr",
         13: "pge", 14: "mca", 15: "cmov", 16: "pat", 17: "pse36", 19: "clflush", 23: "mmx", 24: "fxsr", 25: "sse",
         26: "sse2"},
        1 << 9,
    ),
    FeatureWord(
        7, 0, "ebx",
        {0: "fsgsbase", 3: "bmi1", 4: "hle", 5: "avx2", 7: "smep", 8: "bmi2", 9: "erms", 10: "invpcid", 11: "rtm",
         16: "avx512f", 18: "rdseed", 19: "adx", 20: "smap", 29: "sha"},
    ),
    # OSPKE (4) mirrors CR4.
    FeatureWord(7, 0, "ecx", {2: "umip", 3: "pku", 16: "la57", 22: "rdpid"}, 1 << 4),
    FeatureWord(7, 0, "edx", {4: "fsrm", 24: "amx_tile", 26: "spec_ctrl", 27: "stibp", 31: "ssbd"}),
    FeatureWord(7, 1, "eax", {4: "avx_vnni", 5: "avx512_bf16"}),
    FeatureWord(0xD, 1, "eax", {0: "xsaveopt", 1: "xsavec", 2: "xgetbv_ecx_1", 3: "xsaves"}),
    FeatureWord(0x80000001, 0, "ecx", {0: "lahf_lm", 2: "svm", 5: "lzcnt", 6: "sse4a"}),
    FeatureWord(0x80000001, 0, "edx", {11: "syscall", 20: "nx", 26: "1gb_pages", 27: "rdtscp", 29: "lm"}),
    FeatureWord(0x80000007, 0, "edx", {8: "invariant_tsc"}),
    FeatureWord(0x80000008, 0, "ebx", {0: "clzero", 9: "wbnoinvd"}),
)  # fmt: skip


def missing_features(guest: KvmCpuid2, host: KvmCpuid2) -> Iterator[str]:
    """Yield each feature that the guest was shown and the host does not have."""
    for word in FEATURE_WORDS:
        shown = guest.leaf(word.function, word.subleaf)
        if shown is None:
            continue
        there = host.leaf(word.function, word.subleaf)
        has = getattr(there, word.register) if there is not None else 0
        lacking = getattr(shown, word.register) & ~has & ~word.ignored
        for bit in range(32):
            if lacking >> bit & 1:
                place = f"CPUID {word.function:#x}.{word.subleaf} {word.register.upper()} bit {bit}"
                yield f"{place} ({word.names[bit]})" if bit in word.names else place
