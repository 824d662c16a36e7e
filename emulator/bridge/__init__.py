"""Between the machine and `schemas`: the only package of the emulator that knows both.

`save_state` and `restore_state` work on models, `save_sections` and `load_sections` on raw structs. A machine
restored from what was saved, with the same memory, behaves identically from then on.

What KVM shows twice travels once: control registers, EFER, FS and GS base and IA32_APIC_BASE in `sregs`, the task
priority in `lapic` (`sregs.cr8` repeats it and is not read), an injected interrupt in `events`
(`sregs.interrupt_bitmap` is written as zero and not read).
"""

from .profile import BACKEND, host_profile
from .restore import load_sections, restore_state
from .save import cpuid_of, memory_map, save_sections, save_state

__all__ = [
    "BACKEND",
    "cpuid_of",
    "host_profile",
    "load_sections",
    "memory_map",
    "restore_state",
    "save_sections",
    "save_state",
]
