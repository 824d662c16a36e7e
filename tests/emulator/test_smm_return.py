"""RSM: back to every mode, with the shadow, or into shutdown."""

import pytest

from emulator.registers import FLAG_IF, SHADOW_MOV_SS, SHADOW_STI

SMBASE = 0x30000
RSM = "0faa"


def handler(machine, code):
    machine.memory.write_bytes(0, SMBASE + 0x8000, bytes.fromhex(code))


@pytest.mark.parametrize("mode", ["real", "protected", "long"])
def test_state_after_rsm_is_the_state_before_the_smi(lab, mode):
    machine = getattr(lab(), mode)("90")
    handler(machine, RSM)
    machine.state.gpr[:] = [0x1000 + n for n in range(16)]
    machine.state.rflags = 0xA87 | FLAG_IF
    state = machine.state
    before = (
        list(state.gpr), state.rip, state.rflags, state.cr0, state.cr3, state.cr4, state.efer,
        [(s.selector, s.base, s.limit, s.type, s.dpl, s.db, s.l, s.g) for s in (*state.segs, state.tr)],
        (state.gdtr.base, state.idtr.base, state.idtr.limit, state.dr6, state.dr7, state.nmi_masked),
    )  # fmt: skip
    machine.cpu.request_smi()
    machine.run()
    after = (
        list(state.gpr), state.rip, state.rflags, state.cr0, state.cr3, state.cr4, state.efer,
        [(s.selector, s.base, s.limit, s.type, s.dpl, s.db, s.l, s.g) for s in (*state.segs, state.tr)],
        (state.gdtr.base, state.idtr.base, state.idtr.limit, state.dr6, state.dr7, state.nmi_masked),
    )  # fmt: skip
    assert not state.smm
    assert after == before
    assert machine.cpu.run(1) == 1  # and it runs on


def test_rsm_outside_smm_is_an_undefined_opcode(lab):
    assert lab().real(RSM).run().pending() == (6, None, None)


@pytest.mark.parametrize("shadow", [SHADOW_MOV_SS, SHADOW_STI])
def test_shadow_comes_back_and_still_holds_off_an_interrupt(lab, shadow):
    machine = lab().real("90" + "90")
    handler(machine, RSM)
    machine.state.rflags |= FLAG_IF
    machine.state.shadow = shadow
    machine.cpu.interrupt_line = True
    machine.cpu.request_smi()
    machine.run()
    assert (machine.state.smm, machine.state.shadow, machine.state.smm_shadow) == (False, shadow, 0)
    machine.run()
    assert machine.state.rip == 0x1001  # the shadowed instruction came first
    machine.run()
    assert machine.in_handler() == 0x40


def test_smi_latched_inside_is_taken_before_the_next_instruction_and_carries_the_shadow_again(lab):
    machine = lab().real("90")
    handler(machine, "90" + RSM)
    machine.state.shadow = SHADOW_STI
    machine.state.rflags |= FLAG_IF
    machine.cpu.request_smi()
    machine.run()
    machine.cpu.request_smi()
    machine.run()
    assert not machine.state.smm
    assert machine.state.shadow == SHADOW_STI
    machine.run()
    assert machine.state.smm
    assert machine.state.smm_shadow == SHADOW_STI
    assert machine.get(SMBASE + 0xFF78, 8) == 0x1000


def test_handler_that_edits_the_byte_is_honoured(lab):
    machine = lab().real("90")
    handler(machine, "2ec606cbfe02" + RSM)  # mov byte cs:[0xfecb], 2
    machine.cpu.request_smi()
    machine.run(2)
    assert machine.state.shadow == SHADOW_STI


@pytest.mark.parametrize("masked", [False, True])
def test_nmi_mask_comes_back(lab, masked):
    machine = lab().real("90")
    handler(machine, RSM)
    machine.state.nmi_masked = masked
    machine.cpu.request_smi()
    machine.run()
    assert machine.state.nmi_masked is masked


def test_iret_in_the_handler_lets_an_nmi_in(lab):
    machine = lab().real("90")
    handler(machine, "cf")
    machine.put(SMBASE + 0xFE00, 0, 8)
    machine.cpu.request_nmi()
    machine.state.nmi_masked = True
    machine.state.gpr[4] = 0x7000
    machine.put(0x7000, 0x4800 | 0 << 16, 4)
    machine.put(0x7004, 2, 2)
    machine.memory.write_bytes(0, 0x4800, b"\x90")
    machine.cpu.request_smi()
    machine.run()
    assert (machine.state.smm, machine.state.nmi_masked) == (True, False)
    machine.state.idtr.limit = 0x3FF
    machine.run()
    assert machine.in_handler() == 2
    assert machine.state.smm


def test_smbase_moves_at_rsm(lab):
    machine = lab().real("90" + "90")
    handler(machine, "662ec70600ff00000500" + RSM)  # mov dword cs:[0xff00], 0x50000
    machine.memory.write_bytes(0, 0x58000, b"\x90")
    machine.cpu.request_smi()
    machine.run(2)
    assert machine.state.smbase == 0x50000
    machine.cpu.request_smi()
    machine.run()
    assert machine.state.segs[1].base == 0x50000
    assert machine.get(0x5FF78, 8) == 0x1000


@pytest.mark.parametrize(
    ("offset", "value", "why"),
    [
        (0xFF58, 0x80000010, "PG without PE"),
        (0xFF58, 0x20000010, "NW without CD"),
        (0xFF58, 1 << 32, "high half of CR0"),
        (0xFF48, 1 << 30, "reserved bit of CR4"),
        (0xFED0, 1 << 5, "reserved bit of EFER"),
        (0xFF60, 1 << 32, "DR7 above 32 bits"),
        (0xFF68, 1 << 33, "DR6 above 32 bits"),
        (0xFF50, 1 << 50, "CR3 beyond physical memory"),
    ],
)
def test_image_that_no_processor_can_be_in_is_a_triple_fault(lab, offset, value, why):
    machine = lab().real("90")
    handler(machine, "90" + RSM)
    machine.cpu.request_smi()
    machine.run()
    machine.put(SMBASE + offset, value, 8)
    machine.run()
    assert machine.state.triple_fault, why
    assert machine.cpu.run(1) == 0


def test_init_waits_for_rsm(lab):
    machine = lab().real("90")
    handler(machine, "90" + RSM)
    machine.cpu.request_smi()
    machine.run()
    machine.cpu.request_init()
    machine.run()
    assert machine.state.latched_init
    machine.memory.write_bytes(0, 0xFFF0, b"\x90")
    machine.run()
    assert not machine.state.latched_init
    assert machine.state.segs[1].base == 0xFFFF0000


def test_trap_flag_of_the_image_traps_after_the_next_instruction_only(lab):
    machine = lab().real("90" + "90")
    handler(machine, RSM)
    machine.state.rflags |= 0x100
    machine.cpu.request_smi()
    machine.run()
    assert machine.pending() is None
    machine.run()
    assert machine.pending() == (1, None, 1 << 14)
    assert machine.state.rip == 0x1001


def test_a_cpu_that_does_not_keep_the_shadow_drops_it_on_entry(lab):
    machine = lab().real("90")
    handler(machine, RSM)
    machine.cpu.keeps_smm_shadow = False
    machine.state.shadow = SHADOW_STI
    machine.cpu.request_smi()
    machine.run()
    assert not machine.state.smm
    assert machine.state.shadow == 0


def test_a_cpu_that_does_not_keep_the_shadow_ignores_the_byte_of_another_host(lab):
    machine = lab().real("90")
    handler(machine, "2ec606cbfe02" + RSM)
    machine.cpu.keeps_smm_shadow = False
    machine.cpu.request_smi()
    machine.run(2)
    assert (machine.state.smm, machine.state.shadow, machine.state.smm_shadow) == (False, 0, 0)
