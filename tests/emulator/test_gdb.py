import random
import xml.etree.ElementTree as ElementTree

import pytest

from emulator.bridge import save_sections
from emulator.config import MIB
from emulator.gdb import GdbSession
from emulator.gdb.packets import MAX_PACKET_BYTES, PacketReader, checksum, frame
from emulator.guests import GUESTS
from emulator.loaders import FlatImage, load_flat, machine_config
from emulator.machine import Machine
from emulator.registers import CS, RAX


def flat(code, gpa=0x7C00, cpu_model="x86-64"):
    return Machine(machine_config(load_flat([FlatImage(gpa, bytes.fromhex(code))]), MIB, cpu_model=cpu_model))


def talk(session, text):
    """Send one packet; what comes back, without its frame."""
    reply = session.feed(b"$" + text.encode() + b"#" + checksum(text.encode()))
    assert reply[:1] == b"+"
    return content(reply[1:])


def content(reply):
    """Data of the last packet of a reply; checksums are checked."""
    packets, _ = PacketReader().feed(reply)
    return packets[-1].decode() if packets else None


def go(session, command, chunk=1000):
    assert talk(session, command) is None
    while session.running:
        reply = session.run(chunk)
    return content(reply)


# mov ax, 0x1234; inc ax; inc ax; mov [0x500], ax; mov al, 3; out 0xf4, al
CODE = "b83412 40 40 a30005 b003 e6f4"


@pytest.fixture
def session():
    return GdbSession(flat(CODE))


def test_registers_by_name_in_the_order_of_the_description(session):
    found = talk(session, "qXfer:features:read:target.xml:0,ffff")
    text = found[1:]
    while found[0] == "m":
        found = talk(session, f"qXfer:features:read:target.xml:{len(text):x},ffff")
        text += found[1:]
    tree = ElementTree.fromstring(text)
    assert tree.findtext("architecture") == "i386:x86-64"
    rows = [(row.get("name"), int(row.get("bitsize"))) for row in tree.iter("reg")]
    digits = talk(session, "g")
    assert len(digits) == sum(bits for _, bits in rows) // 4
    values, at = {}, 0
    for number, (name, bits) in enumerate(rows):
        values[name] = digits[at : at + bits // 4]
        assert talk(session, f"p{number:x}") == values[name]
        at += bits // 4
    assert values["rip"] == "007c000000000000"
    assert values["eflags"] == "02000000"
    assert values["st0"] == "x" * 20


def test_a_cpu_without_long_mode_is_described_as_i386():
    session = GdbSession(flat(CODE, cpu_model="pentium"))
    assert "<architecture>i386</architecture>" in talk(session, "qXfer:features:read:target.xml:0,fff")
    assert talk(session, "p8") == "007c0000"


def test_steps_and_breakpoints(session):
    machine = session._machine
    assert talk(session, "?") == "T05thread:1;"
    assert go(session, "s") == "T05thread:1;"
    assert (machine.retired, machine.cpu.state.rip) == (1, 0x7C03)
    assert talk(session, "Z0,7c05,1") == "OK"
    assert go(session, "vCont;c") == "T05thread:1;swbreak:;"
    assert (machine.retired, machine.cpu.state.rip, machine.cpu.state.gpr[RAX]) == (3, 0x7C05, 0x1236)
    assert machine.memory.read(0, 0x7C05, 1) == 0xA3
    assert go(session, "vCont;s:1") == "T05thread:1;"
    assert machine.cpu.state.rip == 0x7C08
    assert talk(session, "z0,7c05,1") == "OK"
    assert go(session, "c") == "W07"
    assert session.ended == "exited"


@pytest.mark.parametrize("chunk", [1, 2, 1000])
def test_a_breakpoint_is_met_again_and_again_in_whatever_chunks(chunk):
    session = GdbSession(flat("40 ebfd"))
    talk(session, "Z1,7c00,1")
    for count in range(1, 5):
        assert go(session, "c", chunk) == "T05thread:1;swbreak:;"
        assert session._machine.cpu.state.gpr[RAX] == count


def test_a_breakpoint_on_the_first_instruction_of_a_handler():
    machine = flat("cd80 f4")
    machine.memory.write(0, 4 * 0x80, 4, 0x7D00)
    session = GdbSession(machine)
    talk(session, "Z0,7d00,1")
    assert go(session, "c") == "T05thread:1;swbreak:;"


def test_a_handler_entered_by_an_nmi_under_way_is_met():
    machine = flat("90 90 90 f4")
    machine.memory.write(0, 4 * 2, 4, 0x7D00)
    session = GdbSession(machine)
    assert go(session, "s")
    machine.inject_nmi()
    talk(session, "Z0,7d00,1")
    assert go(session, "c") == "T05thread:1;swbreak:;"
    assert machine.cpu.state.rip == 0x7D00
    assert machine.retired == 1


def test_a_debugged_run_is_the_run():
    plain, debugged = (Machine(GUESTS["smm_corners"].config()) for _ in range(2))
    plain.run(1 << 40)
    session = GdbSession(debugged)
    talk(session, "Z0,38000,1")
    replies = [go(session, "c") for _ in range(40) if session.ended is None]
    assert "T05thread:1;swbreak:;" in replies
    assert replies[-1].startswith("W")
    assert save_sections(debugged) == save_sections(plain)
    assert bytes(debugged.memory.ram) == bytes(plain.memory.ram)


def test_memory_is_read_and_written_by_linear_address(session):
    assert talk(session, "m7c00,3") == "b83412"
    assert talk(session, "M7c01,2:7856") == "OK"
    assert go(session, "s")
    assert session._machine.cpu.state.gpr[RAX] == 0x5678
    assert talk(session, "Mfffff,4:01020304") == "E0e"
    assert session._machine.memory.read(0, 0xFFFFF, 1) == 0
    assert talk(session, f"m{MIB:x},4") == "E0e"
    assert talk(session, f"m{MIB - 2:x},4") == "0000"


def test_registers_are_written(session):
    machine = session._machine
    assert talk(session, "P0=8877665544332211") == "OK"
    assert machine.cpu.state.gpr[RAX] == 0x1122334455667788
    assert talk(session, "P12=50c30000") == "OK"
    assert machine.cpu.state.segs[CS].base == 0xC3500
    everything = talk(session, "g")
    assert talk(session, "G" + everything) == "OK"
    assert talk(session, "g") == everything
    names = [register.name for register in session._registers]
    assert talk(session, f"P{names.index('cr0'):x}=00000000") == "E01"


@pytest.mark.parametrize(
    ("packet", "answer"),
    [
        ("vMustReplyEmpty", ""), ("qAttached", "1"), ("qC", "QC1"), ("vCont?", "vCont;c;C;s;S"), ("Hg0", "OK"),
        ("m1", "E16"), ("mzz,1", "E16"), ("M0,2:00", "E16"), ("M0,1:zz", "E16"), ("P0=00", "E16"), ("Pfff=00", "E16"),
        ("p99999", "E16"), ("Z2,0,1", ""), ("Z0", "E16"), ("Z0,x,1", "E16"), ("vCont;x", "E16"), ("!", ""), ("", ""),
        ("qXfer:features:read:target.xml:zz", "E16"), ("p-1", "E16"),
    ],
)  # fmt: skip
def test_answers(session, packet, answer):
    assert talk(session, packet) == answer
    assert talk(session, "?") == "T05thread:1;"


def test_an_interrupt_stops_a_running_guest():
    session = GdbSession(flat("ebfe"))
    talk(session, "c")
    assert session.run(10) == b""
    assert content(session.feed(b"\x03")) == "T02thread:1;"
    assert not session.running
    assert session.feed(b"\x03") == b""


def test_a_guest_that_cannot_go_on_is_told_of():
    session = GdbSession(flat("f4"))
    assert go(session, "c") == "T05thread:1;"
    assert go(session, "c") == "T05thread:1;"


def test_detach_and_kill(session):
    assert talk(session, "D") == "OK"
    assert session.ended == "detached"
    other = GdbSession(flat(CODE))
    assert other.feed(b"$k#6b") == b"+"
    assert other.ended == "killed"


def test_packets_in_pieces_damaged_and_too_long():
    reader = PacketReader()
    assert reader.feed(b"+$m0,") == ([], b"")
    assert reader.feed(b"4#" + checksum(b"m0,4") + b"\x03") == ([b"m0,4", b"\x03"], b"+")
    assert reader.feed(b"$m0,4#00") == ([], b"-")
    assert reader.feed(b"$" + b"a" * (MAX_PACKET_BYTES + 9))[1] == b"-"
    assert reader.feed(b"$g#67") == ([b"g"], b"+")
    assert frame(b"a}$") == b"$a}]}\x04#" + checksum(b"a}]}\x04")
    session = GdbSession(flat(CODE))
    assert talk(session, "QStartNoAckMode") == "OK"
    assert session.feed(b"$qC#b4") == frame(b"QC1")


def test_noise_does_no_harm(session):
    chance = random.Random(7)
    for _ in range(3000):
        body = bytes(chance.choice(b"gGmMpPZzqQvHTD?,:;=0123456789abcdef#$}\x03") for _ in range(chance.randrange(12)))
        if body[:1] in b"cskDv":
            continue
        session.feed(b"$" + body + b"#" + checksum(body))
        session.running = False
    session.feed(b"#00")
    assert session.ended in (None, "detached")
