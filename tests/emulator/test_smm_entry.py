"""Entry into SMM: the image, the state inside, what is put aside."""

import pytest

from emulator.registers import CS, GPR_NAMES
from emulator.smm.layout import AREA_BYTES, AREA_OFFSET, SAVE_AREA_32, SAVE_AREA_64, store_smm_shadow

SMBASE = 0x30000


def enter(machine, shadow=0):
    machine.memory.write_bytes(0, SMBASE + 0x8000, b"\x90\x90\x90")
    machine.state.shadow = shadow
    machine.cpu.request_smi()
    return machine.run()


@pytest.mark.parametrize("area", [SAVE_AREA_32, SAVE_AREA_64])
def test_map_fits_its_area_without_overlap(area):
    taken = [offset for first, size, _ in area.fields for offset in range(first, first + size)]
    assert len(taken) == len(set(taken))
    assert min(taken) >= AREA_OFFSET
    assert max(taken) < AREA_OFFSET + AREA_BYTES


@pytest.mark.parametrize("area", [SAVE_AREA_32, SAVE_AREA_64])
def test_what_is_packed_is_unpacked(area):
    values = {name: n * 0x0101010101010101 & (1 << 8 * size) - 1 for n, (_, size, name) in enumerate(area.fields)}
    image = area.pack(values)
    assert len(image) == AREA_BYTES
    assert area.unpack(image) == values


@pytest.mark.parametrize(
    ("model", "name", "offset", "size"),
    [
        ("pentium", "int_shadow", 0xFF1A, 1),
        ("pentium", "rip", 0xFFF0, 4),
        ("pentium", "rdi", 0xFFEC, 4),
        ("pentium", "tr.selector", 0xFFC4, 4),
        ("pentium", "gdtr.base", 0xFF74, 4),
        ("x86-64", "int_shadow", 0xFECB, 1),
        ("x86-64", "rip", 0xFF78, 8),
        ("x86-64", "r15", 0xFF80, 8),
        ("x86-64", "smbase", 0xFF00, 4),
        ("x86-64", "efer", 0xFED0, 8),
    ],
)
def test_field_is_where_the_kernel_has_it(model, name, offset, size):
    area = SAVE_AREA_64 if model == "x86-64" else SAVE_AREA_32
    assert (offset, size, name) in area.fields


@pytest.mark.parametrize("shadow", [0, 1, 2, 3])
@pytest.mark.parametrize(("model", "offset"), [("pentium", 0xFF1A), ("x86-64", 0xFECB)])
def test_shadow_goes_aside_and_into_the_image_and_is_zero_inside(lab, model, offset, shadow):
    machine = enter(lab(model).real("90"), shadow)
    assert (machine.state.smm, machine.state.shadow, machine.state.smm_shadow) == (True, 0, shadow)
    assert machine.get(SMBASE + offset, 1) == shadow


def test_map_is_chosen_by_the_model_and_not_by_the_mode(lab):
    assert enter(lab("x86-64").real("90")).get(SMBASE + 0xFEFC, 4) == 0x20064
    assert enter(lab("pentium").protected("90")).get(SMBASE + 0xFEFC, 4) == 0x20000


def test_state_inside_is_flat_real_mode_at_smbase(lab):
    machine = lab().long("90")
    machine.state.gpr[15], machine.state.gpr[4] = 0x123456789ABCDEF0, 0x7000
    machine.state.rflags |= 0x200
    enter(machine)
    state = machine.state
    assert (state.rip, state.rflags, state.cr4, state.efer) == (0x8001, 2, 0, 0)  # one handler instruction was done
    assert state.cr0 & 0x8000000D == 0
    assert (state.segs[CS].selector, state.segs[CS].base) == (SMBASE >> 4, SMBASE)
    assert all((seg.limit, seg.g, seg.db) == (0xFFFFFFFF, 1, 0) for seg in state.segs)
    assert (state.idtr.base, state.idtr.limit, state.dr7) == (0, 0, 0x400)
    assert state.gpr[4] == 0x7000
    assert machine.get(SMBASE + 0xFF80, 8) == 0x123456789ABCDEF0
    assert machine.get(SMBASE + 0xFF70, 8) == 0x202


@pytest.mark.parametrize("masked", [False, True])
def test_nmi_mask_before_is_remembered_and_nmis_are_masked_inside(lab, masked):
    machine = lab().real("90")
    machine.state.nmi_masked = masked
    enter(machine)
    assert machine.state.nmi_masked
    assert machine.state.smm_inside_nmi is masked


def test_second_smi_and_an_nmi_wait_inside(lab):
    machine = enter(lab().real("90"))
    machine.cpu.request_smi()
    machine.cpu.request_nmi()
    machine.run(2)
    assert machine.state.smi_pending
    assert machine.state.nmi_pending == 1
    assert machine.state.rip == 0x8003


def test_halted_cpu_is_woken(lab):
    machine = lab().real("f4")
    machine.run()
    enter(machine)
    assert machine.state.mp_state == 0
    assert machine.get(SMBASE + 0xFF78, 8) == 0x1001


def test_save_area_without_memory_is_a_triple_fault(lab):
    machine = lab().real("90")
    machine.state.smbase = 0x4000000
    enter(machine)
    assert machine.state.triple_fault


def test_shadow_edited_from_outside_is_mirrored_into_the_image(lab):
    machine = enter(lab().real("90"))
    machine.state.smm_shadow = 2
    store_smm_shadow(machine.cpu)
    machine.memory.write_bytes(0, SMBASE + 0x8001, bytes.fromhex("0faa"))
    machine.run()
    assert machine.state.shadow == 2


def test_every_general_register_is_in_the_64_bit_map():
    assert set(GPR_NAMES) <= {field.name for field in SAVE_AREA_64.fields}


@pytest.mark.parametrize("protected", [True, False])
def test_image_of_virtual_8086_mode_is_loaded_if_it_is_a_mode(lab, protected):
    machine = enter(lab().protected("90") if protected else lab().real("90"))
    machine.memory.write_bytes(0, SMBASE + 0x8001, bytes.fromhex("0faa"))
    machine.put(SMBASE + 0xFF70, 1 << 17 | 2, 4)  # RFLAGS.VM
    machine.run()
    state = machine.state
    assert (state.triple_fault, machine.cpu.v86, state.cpl) == ((False, True, 3) if protected else (True, False, 0))
