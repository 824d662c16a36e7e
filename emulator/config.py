"""What a machine is made of: plain records, no behaviour."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

PAGE_BYTES = 4096
KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

AS_NORMAL = 0
"""Address space that a vCPU outside SMM sees."""
AS_SMM = 1
"""Address space that a vCPU inside SMM sees. Source: Linux 6.12 arch/x86/kvm/smm.c, KVM_CAP_MULTI_ADDRESS_SPACE."""

SLOT_READONLY = 2
"""KVM_MEM_READONLY. Writes to such a slot are ignored here (KVM would exit to user space)."""

APIC_BASE_DEFAULT = 0xFEE00000
RTC_START_S = 946_684_800
"""2000-01-01 00:00 UTC. A fixed date, so that a run is the same on every day."""
LOW_RAM_LIMIT_BYTES = 3 * GIB
"""RAM above this is mapped from 4 GiB on, so that device pages such as the local APIC's stay free."""


class Board(StrEnum):
    """What a machine has around its vCPU."""

    MINIMAL = "minimal"  # PICs, PIT, local APIC, serial port, SMI port and debug exit
    PC = "pc"  # all that firmware and kernels look for on an i440FX PC without disks or display


class SlotConfig(NamedTuple):
    """One memory slot: `size_bytes` of guest physical memory backed by RAM from `backing_offset_bytes` on.

    Two slots with the same backing are aliases, as two KVM slots with one userspace address are.
    """

    as_id: int
    slot: int
    gpa: int
    size_bytes: int
    flags: int
    backing_offset_bytes: int


class ImageConfig(NamedTuple):
    """Bytes that are written into guest memory before the first instruction."""

    as_id: int
    gpa: int
    data: bytes


@dataclass(frozen=True, slots=True)
class FlatStart:
    """32-bit protected mode without paging: every segment has 4 GiB from address 0 on.

    The selectors are those of the descriptor table at `gdt_base`, which should say the same of them.
    """

    code_selector: int
    data_selector: int
    gdt_base: int
    gdt_limit: int


@dataclass(frozen=True, slots=True)
class StartConfig:
    """Where the vCPU begins: in real mode, or with `flat` in protected mode. The defaults are the reset vector.

    `registers` are (hardware encoding, value) of the general registers that do not begin as after reset.

    Source: SDM vol. 3A 9.1.4 First Instruction Executed.
    """

    cs_selector: int = 0xF000
    cs_base: int = 0xFFFF0000
    rip: int = 0xFFF0
    registers: tuple[tuple[int, int], ...] = ()
    flat: FlatStart | None = None


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """A machine: memory, one vCPU of a named model, virtual time and what is loaded at the start.

    `ram_bytes` is the size of the backing, private SMRAM and ROM included; `ns_per_instruction` is the virtual time
    that one step takes. `post_port` and `rtc_start_s` (seconds since 1970 at virtual time 0) are for the PC board.
    Without `keeps_smm_shadow` an SMI drops the interrupt shadow that it finds, as Linux before 6.2 does: SMRAM holds
    none and RSM brings none back.
    """

    ram_bytes: int
    slots: tuple[SlotConfig, ...]
    ns_per_instruction: int = 1000
    cpu_model: str = "x86-64"
    tsc_khz: int = 1_000_000
    vcpus: int = 1
    start: StartConfig = field(default_factory=StartConfig)
    images: tuple[ImageConfig, ...] = ()
    board: Board = Board.MINIMAL
    post_port: int = 0x80
    rtc_start_s: int = RTC_START_S
    keeps_smm_shadow: bool = True


def ram_slots(ram_bytes: int, smram_gpa: int | None = None, smram_bytes: int = 0) -> tuple[SlotConfig, ...]:
    """Slots for `ram_bytes` of RAM seen in both address spaces, with a private SMRAM overlay in address space 1.

    Without `smram_gpa` both address spaces see the same memory. With it, [smram_gpa, smram_gpa + smram_bytes)
    of address space 1 is backed by its own bytes behind the RAM, so that a vCPU inside SMM and one outside see
    different contents at one address, as with a locked SMRAM. The backing is `ram_bytes + smram_bytes` long.

    Raises:
        ValueError: a size or address is not a multiple of 4096, or the overlay is not inside low RAM.
    """
    if ram_bytes <= 0 or ram_bytes % PAGE_BYTES or smram_bytes % PAGE_BYTES or (smram_gpa or 0) % PAGE_BYTES:
        raise ValueError("RAM and SMRAM sizes and addresses must be multiples of 4096 and RAM must not be empty")
    low_bytes = min(ram_bytes, LOW_RAM_LIMIT_BYTES)
    pieces = [(0, low_bytes, 0)]
    if ram_bytes > low_bytes:
        pieces.append((4 * GIB, ram_bytes - low_bytes, low_bytes))
    normal = [SlotConfig(AS_NORMAL, n, gpa, size, 0, offset) for n, (gpa, size, offset) in enumerate(pieces)]
    if smram_gpa is None:
        return (*normal, *(SlotConfig(AS_SMM, s.slot, s.gpa, s.size_bytes, 0, s.backing_offset_bytes) for s in normal))
    end = smram_gpa + smram_bytes
    if smram_bytes <= 0 or end > low_bytes:
        raise ValueError(f"SMRAM [{smram_gpa:#x}, {end:#x}) does not lie inside low RAM of {low_bytes:#x} bytes")
    around = [(0, smram_gpa, 0), (smram_gpa, smram_bytes, ram_bytes), (end, low_bytes - end, end), *pieces[1:]]
    smm = [(gpa, size, offset) for gpa, size, offset in around if size]
    return (*normal, *(SlotConfig(AS_SMM, n, gpa, size, 0, offset) for n, (gpa, size, offset) in enumerate(smm)))
