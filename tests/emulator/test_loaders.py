import random
import struct

import pytest

from emulator.config import MIB, StartConfig
from emulator.loaders import FlatImage, LoadError, load_bios, load_flat, load_multiboot, machine_config
from emulator.loaders.flat import real_mode_start
from emulator.machine import Machine, StopReason
from emulator.registers import CS, DS, RAX, RBX, SS

RAM = 4 * MIB


def header(flags=0, addresses=()):
    checksum = -(0x1BADB002 + flags) & 0xFFFFFFFF
    return struct.pack(f"<III{len(addresses)}I", 0x1BADB002, flags, checksum, *addresses)


def elf(segments, entry=0x100010, machine=3, kind=1):
    """ELF32 of (physical, virtual, data, size) rows."""
    table = 52
    offset = table + 32 * len(segments)
    head = struct.pack(
        "<16sHHIIIIIHHHHHH",
        b"\x7fELF" + bytes([kind, 1, 1]), 2, machine, 1, entry, table, 0, 0, 52, 32, len(segments), 0, 0, 0,
    )  # fmt: skip
    rows = body = b""
    for physical, virtual, data, size in segments:
        rows += struct.pack("<8I", 1, offset + len(body), virtual, physical, len(data), size, 7, 4)
        body += data
    return head + rows + body


# mov dword [0x200000], eax; mov al, 0x21; out 0xf4, al
KERNEL_CODE = bytes.fromhex("a3 00002000 b021 e6f4")
KERNEL = header().ljust(16, b"\0") + KERNEL_CODE
IMAGE = elf([(0x100000, 0x100000, KERNEL, 0x1000)])


def boot(raw, append="", ram=RAM, name="kernel"):
    return Machine(machine_config(load_multiboot(raw, name, append, ram), ram))


def info_of(machine):
    return machine.cpu.state.gpr[RBX]


def u32(machine, address):
    return machine.memory.read(0, address, 4)


def text(machine, address):
    return bytes(machine.memory.ram[address : address + 200]).split(b"\0")[0]


def test_a_rom_begins_at_the_reset_vector_and_is_seen_below_1_mib():
    rom = bytearray(b"\x90" * 0x10000)
    rom[0xFFF0:0xFFF5] = bytes.fromhex("ea 00e0 00f0")  # jmp f000:e000
    rom[0xE000:0xE008] = bytes.fromhex("2ea200e0 b007 e6f4")  # mov cs:[e000], al; mov al, 7; out 0xf4, al
    machine = Machine(machine_config(load_bios(bytes(rom)), RAM))
    assert machine.run(100).reason is StopReason.DEBUG_EXIT
    assert machine.debug_exit.status == 15
    assert machine.memory.read_bytes(0, 0xF0000, 0x10000) == rom == machine.memory.read_bytes(1, 0xFFFF0000, 0x10000)
    assert machine.memory.read(0, 0xEFFFF, 1) == 0


def test_of_a_large_rom_128_kib_are_seen_below_1_mib():
    rom = random.Random(1).randbytes(256 * 1024)
    machine = Machine(machine_config(load_bios(rom), RAM))
    assert machine.memory.read_bytes(0, 0xE0000, 0x20000) == rom[-0x20000:]
    assert machine.memory.read_bytes(0, 0xFFFC0000, len(rom)) == rom
    assert machine.memory.read(0, 0xDFFFF, 1) == 0
    machine.memory.write(0, 0x100000, 1, 0x55)
    assert machine.memory.read(0, 0x100000, 1) == 0x55


@pytest.mark.parametrize("size", [0, 1, 4095, 16 * MIB + 4096])
def test_a_rom_of_no_size_is_refused(size):
    with pytest.raises(LoadError, match="a ROM of"):
        load_bios(bytes(size))


def test_a_ram_smaller_than_the_rom_s_place_is_enough():
    machine = Machine(machine_config(load_bios(bytes(0x10000)), 64 * 1024))
    assert machine.memory.read(0, 0x10000, 1) == 0xFF


def test_a_model_without_32_bit_addresses_begins_below_1_mib():
    rom = bytearray(4096)
    rom[0xFF0:0xFF6] = bytes.fromhex("b002 e6f4 ebfe")
    for model in ("286", "8086"):
        assert load_bios(bytes(rom), model).start == StartConfig(cs_base=0xF0000)
        machine = Machine(machine_config(load_bios(bytes(rom), model), RAM, cpu_model=model))
        assert machine.run(10).reason is StopReason.DEBUG_EXIT


def test_a_multiboot_kernel_begins_in_flat_protected_mode():
    machine = boot(IMAGE, "one two")
    state = machine.cpu.state
    assert (state.rip, state.gpr[RAX], state.cr0, state.efer) == (0x100010, 0x2BADB002, 0x11, 0)
    for number in (CS, DS, SS):
        segment = state.segs[number]
        assert (segment.base, segment.limit, segment.db, segment.present) == (0, 0xFFFFFFFF, 1, 1)
    assert machine.run(100).reason is StopReason.DEBUG_EXIT
    assert machine.exit_code == 0x21
    assert u32(machine, 0x200000) == 0x2BADB002


def test_its_descriptor_table_says_what_the_segments_hold():
    # mov ax, 16; mov ds, ax; mov ss, ax; jmp 8:+0; out 0xf4, al
    code = bytes.fromhex("66b81000 8ed8 8ed0 ea1f00100008 00 e6f4".replace(" ", ""))
    machine = boot(elf([(0x100000, 0x100000, header().ljust(16, b"\0") + code, 0x1000)]))
    before = [(s.base, s.limit, s.type, s.db, s.g) for s in machine.cpu.state.segs]
    assert machine.run(100).reason is StopReason.DEBUG_EXIT
    assert [(s.base, s.limit, s.type, s.db, s.g) for s in machine.cpu.state.segs] == before


def test_the_boot_information_tells_memory_and_command_line():
    machine = boot(IMAGE, "one two", name="kernel.elf")
    info = info_of(machine)
    assert u32(machine, info) == 0x24D
    assert (u32(machine, info + 4), u32(machine, info + 8)) == (639, (RAM - MIB) // 1024)
    assert text(machine, u32(machine, info + 16)) == b"kernel.elf one two"
    assert text(machine, u32(machine, info + 64)) == b"migsvc"
    at, size, rows = u32(machine, info + 48), u32(machine, info + 44), []
    while size:
        rows.append(struct.unpack("<IQQI", machine.memory.read_bytes(0, at, 24)))
        at, size = at + rows[-1][0] + 4, size - rows[-1][0] - 4
    assert (20, 0, 0x9FC00, 1) in rows
    assert (20, MIB, RAM - MIB, 1) in rows
    assert sum(row[2] for row in rows if row[3] == 1) == RAM - MIB + 0x9FC00


def test_the_boot_information_keeps_clear_of_the_kernel():
    loaded = load_multiboot(elf([(0x1000, 0x1000, KERNEL, 0x9D000)], entry=0x1010), "k", "", RAM)
    assert all(not 0x1000 <= image.gpa < 0x9E000 for image in loaded.images[1:])
    with pytest.raises(LoadError, match="no room"):
        load_multiboot(elf([(0x1000, 0x1000, KERNEL, 0x9EC00)], entry=0x1010), "k", "", RAM)


def test_an_entry_is_translated_where_a_kernel_is_linked_high():
    machine = boot(elf([(0x100000, 0xC0100000, KERNEL, 0x1000)], entry=0xC0100010))
    assert machine.cpu.state.rip == 0x100010


def test_the_a_out_kludge_goes_by_the_header_s_addresses():
    flags = 1 << 16
    raw = b"\0" * 32 + header(flags, (0x200020, 0x200000, 0, 0x280000, 0x200040)) + KERNEL_CODE
    raw = raw.replace(KERNEL_CODE, b"").ljust(0x40, b"\0") + KERNEL_CODE
    machine = boot(raw)
    assert machine.memory.read_bytes(0, 0x200000, len(raw)) == raw
    machine.run(1)
    assert machine.run(100).reason is StopReason.DEBUG_EXIT


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no multiboot header"),
        (bytes(9000) + header(), "no multiboot header"),
        (header()[:-4] + b"\1\2\3\4", "no multiboot header"),
        (header(1 << 5), "demands"),
        (header(), "not an ELF"),
        (elf([(0x100000, 0x100000, KERNEL, 0x1000)], kind=2), "64-bit"),
        (elf([(0x100000, 0x100000, KERNEL, 0x1000)], machine=62), "another machine"),
        (elf([(0x100000, 0x100000, KERNEL, RAM)]), "no RAM"),
        (elf([(0xFFFFF000, 0x100000, KERNEL, 0x2000)]), "no RAM"),
        (elf([(0x100000, 0, KERNEL, 0x1000), (0x100800, 0, KERNEL, 0x1000)]), "overlap"),
        (elf([(0x100000, 0, KERNEL, 4)]), "beyond the end"),
        (IMAGE[:-1], "beyond the end"),
        (IMAGE[:56] + b"\xff\xff\xff\xff" + IMAGE[60:], "beyond the end"),
        (elf([(0x100000, 0, header(), 16)])[:28] + b"\xff" * 4 + elf([(0x100000, 0, header(), 16)])[32:], "damaged"),
        (elf([]) + header(), "nothing to load"),
        (header(1 << 16), "cut off"),
        (header(1 << 16, (0x100000, 0x100000, 0x900000, 0, 0x100000)), "do not fit"),
        (header(1 << 16, (0x100000, 0x100008, 0, 0, 0x100000)), "do not fit"),
        (header(1 << 16, (0x100100, 0x100000, 0, 0, 0x100000)), "do not fit"),
        (header(1 << 16, (0x100000, 0x100000, 0, 0xFFFFFFFF, 0x100000)), "no RAM"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_its_reason(raw, why):
    with pytest.raises(LoadError, match=why):
        load_multiboot(raw, "k", "", RAM)


def test_a_file_is_not_loaded_twice():
    raw = bytearray(elf([(0x100000 + 0x1000 * n, 0, b"", 0x1000) for n in range(8)]) + header().ljust(4096, b"\0"))
    for n in range(8):
        struct.pack_into("<I", raw, 52 + 32 * n + 16, 0x1000)
        struct.pack_into("<I", raw, 52 + 32 * n + 4, 52)
    with pytest.raises(LoadError, match="twice"):
        load_multiboot(bytes(raw), "k", "", RAM)


def test_a_long_command_line_is_refused():
    with pytest.raises(LoadError, match="command line"):
        load_multiboot(IMAGE, "k", "x" * 4096, RAM)
    with pytest.raises(LoadError, match="command line"):
        load_multiboot(IMAGE, "k", "a\0b", RAM)


@pytest.mark.parametrize("seed", range(20))
def test_damaged_kernels_load_or_are_refused(seed):
    chance = random.Random(seed)
    for _ in range(200):
        raw = bytearray(IMAGE)
        for _ in range(chance.randrange(1, 6)):
            raw[chance.randrange(96)] = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
        try:
            loaded = load_multiboot(bytes(raw), "k", "", RAM)
        except LoadError:
            continue
        assert sum(len(image.data) for image in loaded.images) <= len(raw) + 8192
        Machine(machine_config(loaded, RAM))


def test_a_flat_image_begins_where_a_bios_would_jump():
    assert real_mode_start(0x7C00) == StartConfig(cs_selector=0, cs_base=0, rip=0x7C00)
    assert real_mode_start(0x12345) == StartConfig(cs_selector=0x1234, cs_base=0x12340, rip=5)
    assert real_mode_start(0x10FFEF) == StartConfig(cs_selector=0xFFFF, cs_base=0xFFFF0, rip=0xFFFF)
    loaded = load_flat([FlatImage(0x38000, b"\xf4", 1), FlatImage(0x7C00, bytes.fromhex("b003e6f4"))])
    machine = Machine(machine_config(loaded, RAM))
    assert machine.run(10).reason is StopReason.DEBUG_EXIT
    assert machine.debug_exit.status == 7


@pytest.mark.parametrize(
    ("images", "why"),
    [
        ([], "no flat image"),
        ([FlatImage(0, b"")], "empty"),
        ([FlatImage(0x38000, b"x", 1)], "address space 0"),
        ([FlatImage(0x200000, b"x")], "real mode"),
    ],
)
def test_flat_images_without_a_beginning_are_refused(images, why):
    with pytest.raises(LoadError, match=why):
        load_flat(images)


def test_images_outside_ram_and_odd_ram_are_refused():
    with pytest.raises(LoadError, match="no RAM"):
        machine_config(load_flat([FlatImage(0, b"x" * 8192)]), 4096)
    with pytest.raises(LoadError, match="multiple of 4096"):
        machine_config(load_flat([FlatImage(0, b"x")]), 5000)
    with pytest.raises(LoadError, match="overlap"):
        machine_config(load_flat([FlatImage(0, b"xxxx"), FlatImage(3, b"x")]), 8192)
