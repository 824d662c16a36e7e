"""SMEP, SMAP, UMIP and what user code may learn or touch; MONITOR, MWAIT and RDPMC."""

import pytest

from emulator.registers import CR4_PCE, CR4_SMAP, CR4_SMEP, CR4_UMIP, FLAG_AC

DATA_PAGE, PF_PRESENT, PF_WRITE, PF_FETCH = 0x30000, 1, 2, 16


@pytest.fixture
def guarded(lab):
    """Long mode at CPL 0 on supervisor pages, but for one user page of data; NXE is off unless asked for."""

    def make(code, cr4, flags=2, efer=0x500):
        machine = lab().long(code)
        for page in range(256):
            if page << 12 != DATA_PAGE:
                machine.put(machine.pte(page << 12), page << 12 | 3, 8)
        machine.state.cr4, machine.state.efer, machine.state.rflags = 0x20 | cr4, efer, flags
        machine.state.gpr[0], machine.state.gpr[1] = DATA_PAGE, 0x77
        machine.put(DATA_PAGE, 0xF4, 1)
        machine.cpu.state_changed()
        return machine

    return make


@pytest.mark.parametrize("cr4", [0, CR4_SMAP])
def test_supervisor_data_access_to_a_user_page_needs_ac(guarded, cr4):
    for code, error_code in (("8b18", PF_PRESENT), ("8908", PF_PRESENT | PF_WRITE), ("0108", PF_PRESENT | PF_WRITE)):
        expected = (14, error_code, DATA_PAGE) if cr4 else None
        assert guarded(code, cr4).run().pending() == expected
        assert guarded(code, cr4, flags=2 | FLAG_AC).run().pending() is None


def test_stac_and_clac_take_effect_at_once_whatever_was_cached(guarded):
    machine = guarded("0f01cb" + "8b18" + "8908" + "0f01ca" + "8b18", CR4_SMAP)
    machine.run(4)
    assert machine.pending() is None
    assert machine.run().pending() == (14, PF_PRESENT, DATA_PAGE)
    machine = guarded("0f01cb" + "8908" + "0f01ca" + "8908", CR4_SMAP).run(4)
    assert machine.pending() == (14, PF_PRESENT | PF_WRITE, DATA_PAGE)


def test_implicit_access_ignores_ac(guarded):
    machine = guarded("8ee9", CR4_SMAP, flags=2 | FLAG_AC)  # mov gs, ecx
    machine.state.gdtr.base, machine.state.gpr[1] = DATA_PAGE, 0x10
    assert machine.run().pending() == (14, PF_PRESENT, DATA_PAGE + 0x10)


@pytest.mark.parametrize(("cr4", "efer"), [(0, 0x500), (CR4_SMEP, 0x500), (CR4_SMEP, 0xD00)])
def test_supervisor_fetch_from_a_user_page(guarded, cr4, efer):
    machine = guarded("ffe0", cr4, efer=efer).run(2)
    assert machine.pending() == ((14, PF_PRESENT | PF_FETCH, DATA_PAGE) if cr4 else None)


def test_user_code_is_not_bound_by_either(lab):
    machine = lab().long("8b18", user=True)
    machine.state.cr4 |= CR4_SMAP | CR4_SMEP
    machine.state.gpr[0] = DATA_PAGE
    assert machine.run().pending() is None


@pytest.mark.parametrize("code", ["0f0100", "0f0108", "0f01e0", "0f0120", "0f00c0", "0f00c8", "0f0008"])
def test_umip_hides_system_registers_from_user_code(lab, code):
    for user, cr4, outcome in ((True, 0, None), (True, CR4_UMIP, (13, 0, None)), (False, CR4_UMIP, None)):
        machine = lab().protected(code, user=user)
        machine.state.cr4, machine.state.gpr[0] = cr4, 0x3000
        assert machine.run().pending() == outcome


def test_stac_clac_are_for_ring_0_of_a_model_that_has_them(lab):
    for code, flags in (("0f01cb", 2 | FLAG_AC), ("0f01ca", 2)):
        machine = lab().protected(code)
        machine.state.rflags = 2 | (0 if flags & FLAG_AC else FLAG_AC)
        assert machine.run().state.rflags == flags
        assert lab().protected(code, user=True).run().pending() == (6, None, None)
        assert lab("pentium").protected(code).run().pending() == (6, None, None)


@pytest.mark.parametrize(("code", "good_ecx"), [("0f01c8", 0), ("0f01c9", 1)])
def test_monitor_and_mwait(lab, code, good_ecx):
    for ecx, outcome in ((0, None), (good_ecx, None), (2, (13, 0, None))):
        machine = lab().protected(code)
        machine.state.gpr[1] = ecx
        assert machine.run().pending() == outcome
        assert machine.state.mp_state == 0
    assert lab().protected(code, user=True).run().pending() == (6, None, None)


def test_monitor_checks_its_address_in_the_segment_named(lab):
    machine = lab().protected("260f01c8")
    machine.state.segs[0].limit = 0xFFF
    machine.state.gpr[0] = 0x1000
    machine.cpu.state_changed()
    assert machine.run().pending() == (13, 0, None)
    assert lab().protected("0f01c8").run().pending() is None


def test_performance_counters_do_not_exist(lab):
    for cr4 in (0, CR4_PCE):
        machine = lab().protected("0f33", user=True)
        machine.state.cr4 = cr4
        assert machine.run().pending() == (13, 0, None)


@pytest.mark.parametrize("code", ["0f1803", "0f0d0b", "f30f1efa", "f30f1ec8", "0f1c00", "0f1f8000000000"])
def test_hints_are_no_operations_where_there_are_hints(lab, code):
    machine = lab().long(code).run()
    assert (machine.pending(), machine.state.rip) == (None, 0x1000 + len(code) // 2)
    assert lab("pentium").protected(code).run().pending() == (6, None, None)
