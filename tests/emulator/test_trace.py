from emulator.guests import GUESTS
from emulator.machine import Machine, StopReason
from emulator.trace import trace

FOREVER = 1 << 40


def test_a_traced_run_is_the_run(machine_state):
    plain, traced = (Machine(GUESTS["smm_corners"].config()) for _ in range(2))
    steps = plain.run(FOREVER).steps
    lines = list(trace(traced, FOREVER))
    assert len(lines) == steps
    assert machine_state(traced) == machine_state(plain)


def test_a_line_shows_number_mode_place_instruction_and_what_changed():
    machine = Machine(GUESTS["smm_corners"].config())
    lines = list(trace(machine, 4))
    assert lines[0].split() == ["0", "real16", "0000:8000", "fa", "CLI"]
    assert lines[1].split()[:8] == ["1", "real16", "0000:8001", "66", "31", "c0", "XOR", "eax,"]
    assert "rflags=46" in lines[1]
    assert "MOV ds, ax" in lines[2]


def test_every_mode_and_the_shadow_put_aside_are_seen():
    machine = Machine(GUESTS["smm_corners"].config())
    text = "\n".join(trace(machine, FOREVER))
    for mode in ("real16", "smm16", "prot16", "prot32", "long64"):
        assert f" {mode} " in text
    assert "RSM" in text
    assert "smm=1 smm_shadow=2" in text
    assert "REP MOVSB es:[di], ds:[si]" in text
    assert "(bad)" not in text
    assert "(not present)" not in text


def test_code_is_read_through_paging_without_a_trace_in_memory():
    plain, traced = (Machine(GUESTS["ticker32"].config({"ticks": 1, "pit_count": 2000})) for _ in range(2))
    assert plain.run(15_000).reason == StopReason.BUDGET
    assert traced.run(15_000).reason == StopReason.BUDGET
    lines = list(trace(traced, 300))
    plain.run(300)
    assert bytes(traced.memory.ram) == bytes(plain.memory.ram)
    assert all(" prot32 " in line or " smm16 " in line for line in lines)
    assert not any("(not present)" in line for line in lines)
