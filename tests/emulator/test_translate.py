"""Paging in all its forms, the caches in front of it, and accesses that cross pages."""

import pytest

from emulator.exceptions import GuestFault
from emulator.paging import Access

P, W, U, RESERVED, FETCH = 1, 2, 4, 8, 16
LOAD, STORE = "a100200000", "a300200000"  # mov eax, [0x2000]; mov [0x2000], eax
LONG_LOAD, LONG_STORE = "8b042500f00000", "89042500f00000"  # mov eax, [0xf000]; mov [0xf000], eax
NX = 1 << 63


def paged_32(lab, pse=False):
    """Protected mode with two-level paging: page directory at 0x10000, one table at 0x11000, identity."""
    machine = lab().protected("90")
    machine.put(0x10000, 0x11007, 4)
    for page in range(256):
        machine.put(0x11000 + 4 * page, page << 12 | 7, 4)
    machine.state.cr3, machine.state.cr4 = 0x10000, 0x10 if pse else 0
    machine.state.cr0 |= 0x80010000
    machine.cpu.state_changed()
    return machine


def execute(machine, code):
    machine.memory.write_bytes(0, 0x1000, bytes.fromhex(code))
    machine.state.rip = 0x1000
    machine.run()
    return machine


def test_two_level_walk_sets_accessed_and_dirty(lab):
    machine = execute(paged_32(lab), LOAD)
    assert machine.get(0x10000, 4) & 0x20
    assert machine.get(0x11008, 4) & 0x60 == 0x20
    execute(machine, STORE)
    assert machine.get(0x11008, 4) & 0x60 == 0x60


def test_first_write_after_reads_sets_dirty_although_the_page_is_cached(lab):
    machine = paged_32(lab)
    execute(machine, LOAD)
    execute(machine, LOAD)
    execute(machine, STORE)
    assert machine.get(0x11008, 4) & 0x40


def test_four_megabyte_page_needs_pse(lab):
    for pse, outcome in ((True, None), (False, (14, 0, 0x400000))):
        machine = paged_32(lab, pse)
        machine.put(0x10004, 0x00000087, 4)  # maps 4 MiB to physical 0
        machine.put(0x2000, 0xCAFE, 4)
        execute(machine, "a100204000" if pse else "a100004000")
        assert machine.pending() == outcome
        assert (machine.state.gpr[0] == 0xCAFE) is pse


def test_large_page_with_a_reserved_bit_faults(lab):
    machine = paged_32(lab, pse=True)
    machine.put(0x10004, 0x00200087, 4)  # bit 21
    assert execute(machine, "a100004000").pending() == (14, P | RESERVED, 0x400000)


def test_pae_uses_the_pdptes_of_the_last_cr3_load(lab):
    machine = lab().protected("0f22d8" + LOAD)  # mov cr3, eax
    machine.put(0x10000, 0x11001, 8)
    machine.put(0x11000, 0x12007, 8)
    for page in range(256):
        machine.put(0x12000 + 8 * page, page << 12 | 7, 8)
    machine.put(0x2000, 0xBEEF, 4)
    machine.state.cr0 |= 0x80000000
    machine.state.cr4 = 0x20
    machine.state.pdptrs[:] = [0x11001, 0, 0, 0]
    machine.state.gpr[0] = 0x10000
    machine.cpu.state_changed()
    machine.run(2)
    assert machine.state.gpr[0] == 0xBEEF
    machine.put(0x10000, 0, 8)  # not seen until CR3 is loaded again
    machine.cpu.flush_tlb()
    execute(machine, LOAD)
    assert machine.pending() is None
    machine.state.gpr[0] = 0x10000
    execute(machine, "0f22d8")
    assert machine.run().pending() == (14, 0, 0x1003)


def test_pdpte_with_reserved_bits_refuses_the_cr3_load(lab):
    machine = lab().protected("0f22d8")
    machine.put(0x10000, 0x11001 | 2, 8)
    machine.put(0x11000, 0x83, 8)
    machine.state.cr0 |= 0x80000000
    machine.state.cr4 = 0x20
    machine.state.pdptrs[:] = [0x11001, 0, 0, 0]
    machine.state.gpr[0] = 0x10000
    machine.cpu.state_changed()
    assert machine.run().pending() == (13, 0, None)


@pytest.mark.parametrize(
    ("user", "entry", "code", "expected"),
    [
        (False, 0, LONG_LOAD, 0),
        (False, 0, LONG_STORE, W),
        (True, 0, LONG_LOAD, U),
        (True, 0xF003, LONG_LOAD, P | U),
        (True, 0xF005, LONG_STORE, P | W | U),
        (False, 0xF005, LONG_STORE, P | W),  # CR0.WP
        (False, 0xF007 | 1 << 45, LONG_LOAD, P | RESERVED),
        (False, 0xF007, LONG_STORE, None),
        (False, 0xF007 | NX, LONG_LOAD, None),
    ],
)
def test_page_fault_says_exactly_why(lab, user, entry, code, expected):
    machine = lab().long(code, user=user)
    machine.put(machine.pte(0xF000), entry, 8)
    machine.run()
    assert machine.pending() == (None if expected is None else (14, expected, 0xF000))


def test_every_level_must_allow_the_access(lab):
    for table in (0x10000, 0x11000, 0x12000):
        for bits, user, code, expected in ((5, False, LONG_STORE, P | W), (3, True, LONG_LOAD, None)):
            machine = lab().long(code, user=user)
            machine.put(table, machine.get(table, 8) & ~7 | bits, 8)
            machine.run()
            # A supervisor-only table stops user code at its first fetch already.
            assert machine.pending() == ((14, expected, 0xF000) if expected else (14, P | U | FETCH, 0x1000))


def test_supervisor_may_write_read_only_pages_without_wp(lab):
    machine = lab().long(LONG_STORE)
    machine.put(machine.pte(0xF000), 0xF005, 8)
    machine.state.cr0 &= ~0x10000
    machine.cpu.state_changed()
    assert machine.run().pending() is None


def test_fetch_from_a_no_execute_page_faults(lab):
    machine = lab().long("ff2425" + "00010000")
    machine.put(0x100, 0xF000, 8)
    machine.put(machine.pte(0xF000), 0xF007 | NX, 8)
    machine.run(2)
    assert machine.pending() == (14, P | FETCH, 0xF000)
    assert machine.state.rip == 0xF000


def test_no_execute_is_reserved_without_nxe(lab):
    machine = lab().long(LONG_LOAD)
    machine.state.efer &= ~0x800
    machine.put(machine.pte(0xF000), 0xF007 | NX, 8)
    machine.cpu.state_changed()
    assert machine.run().pending() == (14, P | RESERVED, 0xF000)


def test_write_across_pages_changes_nothing_if_the_second_faults(lab):
    machine = lab().long("48890425fcff0000")  # mov [0xfffc], rax
    machine.put(machine.pte(0x10000 - 1), 0xF007, 8)
    machine.put(machine.pte(0x10000), 0, 8)
    machine.state.gpr[0] = -1 & (1 << 64) - 1
    machine.run()
    assert machine.pending() == (14, W, 0x10000)
    assert machine.get(0xFFFC, 4) == 0


def test_access_across_pages_that_are_apart_in_memory(lab):
    machine = lab().long("48890425fc2f0000" + "488b1c25fc2f0000")
    machine.put(machine.pte(0x3000), 0xA007, 8)  # 0x3000 lies at 0xA000
    machine.state.gpr[0] = 0x1122334455667788
    machine.run(2)
    assert machine.get(0x2FFC, 4) == 0x55667788
    assert machine.get(0xA000, 4) == 0x11223344
    assert machine.state.gpr[3] == 0x1122334455667788


def test_non_canonical_address_is_a_general_protection_fault_and_through_ss_a_stack_fault(lab):
    for code, vector in (("8b03", 13), ("8b4500", 12)):  # [rbx], [rbp+0]
        machine = lab().long(code)
        machine.state.gpr[3] = machine.state.gpr[5] = 1 << 47
        assert machine.run().pending() == (vector, 0, None)


def test_translation_stays_cached_until_invalidated(lab):
    machine = lab().long(LONG_LOAD + LONG_LOAD + "0f013c2500f00000" + LONG_LOAD)  # invlpg [0xf000]
    machine.put(0xF000, 1, 4)
    machine.put(0xE000, 2, 4)
    machine.run()
    machine.put(machine.pte(0xF000), 0xE007, 8)
    assert machine.run().state.gpr[0] == 1
    assert machine.run(2).state.gpr[0] == 2


def test_alignment_is_checked_only_for_user_code_that_asks(lab):
    for user, flags, outcome in ((True, 1 << 18, (17, 0, None)), (True, 0, None), (False, 1 << 18, None)):
        machine = lab().long("8b042501f00000", user=user)
        machine.state.cr0 |= 1 << 18
        machine.state.rflags |= flags
        machine.cpu.state_changed()
        assert machine.run().pending() == outcome


def test_walk_without_paging_is_the_address_itself(lab):
    machine = lab().real("90")
    assert machine.cpu.mmu.physical(0x12345, Access()) == 0x12345


def test_descriptor_tables_are_read_with_supervisor_rights(lab):
    machine = lab().long("cd80", user=True)
    machine.put(machine.pte(0x2000), 0x2003, 8)  # IDT: supervisor only
    machine.put(0x2000 + 16 * 0x80, machine.get(0x2000 + 16 * 0x80, 8) | 3 << 45, 8)
    machine.run()
    assert machine.in_handler() == 0x80


def test_first_write_to_a_clean_page_marks_it_dirty_again(lab):
    machine = lab().long("8904250030000089042500300000")
    machine.run()
    machine.memory.clear_dirty()
    machine.run()
    assert machine.memory.dirty[3]


def test_mmu_faults_carry_the_address(lab):
    machine = lab().long("90")
    machine.put(machine.pte(0xF000), 0, 8)
    with pytest.raises(GuestFault) as caught:
        machine.cpu.mmu.read[4](0xF008)
    assert (caught.value.vector, caught.value.error_code, caught.value.payload) == (14, 0, 0xF008)
