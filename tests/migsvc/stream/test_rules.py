"""One forged stream per rule of FORMAT.md: the reader refuses it, the verifier reports it, both by the rule's id."""

import ast
import re
import struct
from pathlib import Path

import msgpack
import pytest

from migsvc.stream import StreamError

ROOT = Path(__file__).parents[3]
STREAM = ROOT / "migsvc" / "stream"
CONFIG, MEMORY, ZERO, ROUND_END, VM_STATE, VCPU_STATE, DIGEST, END = range(1, 9)
OPTIONAL, CONTROL = 0x8000_0000, 0x4000_0000


def flip(stream, at):
    return stream[:at] + bytes([stream[at] ^ 1]) + stream[at + 1 :]


def head(smith, **over):
    return smith.file_header(**over) + smith.snapshot()[64:]


def state(smith, body):
    stream = smith.snapshot()
    return smith.edit(stream, smith.index(stream, VM_STATE), body)


def runs(smith, number, runs, pages=None, as_id=0, count=None):
    """A migration whose first record of a type has these runs."""
    stream = smith.migration()
    table = struct.pack("<II", as_id, len(runs) if count is None else count)
    table += b"".join(struct.pack("<QQ", gpa, n) for gpa, n in runs)
    body = table + bytes(4096 * pages) if pages else table
    return smith.edit(stream, smith.index(stream, number), body)


def reorder(smith, change):
    header, parts = smith.split(smith.snapshot())
    return smith.join(header, change(parts))


def patch(smith, number, offset, raw):
    stream = smith.snapshot()
    index = smith.index(stream, number)
    body = bytearray(smith.split(stream)[1][index].body)
    body[offset : offset + len(raw)] = raw
    return smith.edit(stream, index, bytes(body))


def end(smith, count_more=0, crc_more=0):
    header, parts = smith.split(smith.snapshot())
    count, crc, _ = struct.unpack("<QII", parts[-1].body)
    parts[-1] = type(parts[-1])(END, struct.pack("<QII", count + count_more, crc ^ crc_more, 0))
    return smith.join(header, parts, fix_end=False)


def optional(smith, number=OPTIONAL | 77, at=1):
    header, parts = smith.split(smith.snapshot())
    parts.insert(at, type(parts[0])(number, b"from the future"))
    return smith.join(header, parts)


def second_round(smith):
    stream = smith.snapshot()
    index = smith.index(stream, ROUND_END)
    header, parts = smith.split(stream)
    parts.insert(index + 1, type(parts[0])(ROUND_END, struct.pack("<IIQQ", 2, 0, 0, 0)))
    return smith.join(header, parts)


def deep(levels):
    return b"\x81\xa1a" * levels + b"\xc0"


CASES = {
    "STR-001": [lambda s: head(s, magic=b"\x8bMIGSVC\r")],
    "STR-002": [lambda s: head(s, version=2), lambda s: head(s, version=0)],
    "STR-003": [lambda s: head(s, octets=72)],
    "STR-004": [lambda s: flip(s.snapshot(), 20)],
    "STR-006": [lambda s: head(s, schema=99)],
    "STR-010": [lambda s: flip(s.snapshot(), 64 + 8)],
    "STR-011": [
        lambda s: s.snapshot()[:64] + s.record_header(CONFIG, 1, 3, 0) + b"abc",
        # A record lost: what follows has a sequence number too high.
        lambda s: s.snapshot()[:64] + s.snapshot()[64 + 32 + len(s.split(s.snapshot())[1][0].body) :],
    ],
    "STR-012": [lambda s: optional(s, 77), lambda s: optional(s, 0), lambda s: optional(s, OPTIONAL | CONTROL | 1)],
    "STR-014": [
        lambda s: s.snapshot()[:64] + s.record_header(CONFIG, 0, 1 << 60, 0),
        lambda s: s.snapshot()[:64] + s.record_header(OPTIONAL | 77, 0, (1 << 20) + 1, 0),
        lambda s: patch(s, DIGEST, 104, b"x"),
    ],
    "STR-015": [lambda s: flip(s.snapshot(), 64 + 32), lambda s: flip(s.snapshot(), s.snapshot().index(b"page two"))],
    "STR-016": [lambda s: s.snapshot()[:-1], lambda s: b"", lambda s: s.snapshot()[:64]],
    "STR-017": [lambda s: s.snapshot() + b"\0"],
    "STR-020": [lambda s: reorder(s, lambda p: p[1:]), lambda s: optional(s, at=0)],
    "STR-021": [
        lambda s: reorder(s, lambda p: [p[0], *p]),
        lambda s: reorder(s, lambda p: [q for q in p if q.type != ROUND_END]),
        lambda s: reorder(s, lambda p: [p[0], *p[3:]]),
        lambda s: reorder(s, lambda p: [q for q in p if q.type != DIGEST]),
        lambda s: reorder(s, lambda p: [*p[:3], p[4], p[3], *p[5:]]),
    ],
    "STR-022": [
        lambda s: patch(s, VCPU_STATE, 0, struct.pack("<I", 1)),
        lambda s: reorder(s, lambda p: [q for q in p for _ in range(2 if q.type == VCPU_STATE else 1)]),
        lambda s: s.edit_config(vcpus=2),
    ],
    "STR-030": [
        lambda s: state(s, b"\x81\xa1a"),
        lambda s: state(s, b"\x80\x80"),
        lambda s: state(s, b"\x90"),
        lambda s: state(s, b"\x81\xa1\xff\xc0"),
        lambda s: state(s, b"\xdf\xff\xff\xff\xff"),
    ],
    "STR-031": [
        lambda s: state(s, b"\x82\xa1a\xc0\xa1a\xc0"),
        lambda s: state(s, b"\x81\x01\xc0"),
        lambda s: state(s, b"\x81\xc4\x01a\xc0"),
    ],
    "STR-032": [
        lambda s: state(s, b"\x81\xa1a\xcb" + bytes(8)),
        lambda s: state(s, b"\x81\xa1a\xc7\x01\x05x"),
        lambda s: state(s, b"\x81\xa1a\xd6\xff" + bytes(4)),
        lambda s: state(s, b"\x81\xa1a\xc1"),
    ],
    "STR-033": [lambda s: state(s, deep(9)), lambda s: state(s, b"\x81\xa1a\xdc\xff\xff" + b"\x80" * 0xFFFF)],
    "STR-040": [
        lambda s: s.edit_config(extra=1),
        lambda s: s.edit_config(vcpus=0),
        lambda s: s.edit_config(vcpus=True),
        lambda s: s.edit_config(epoch=-1),
        lambda s: s.edit_config(vm_id=""),
        lambda s: s.edit_config(machine={"a": None}),
        lambda s: s.edit_config(memory={"ram_bytes": 4096, "slots": [[0, 0, 0, 4096, 0]]}),
    ],
    "STR-041": [
        lambda s: s.edit_config(memory={"ram_bytes": 16384, "slots": [[0, 0, 0, 12288, 0, 0]]}),
        lambda s: s.edit_config(memory={"ram_bytes": 16384, "slots": [[0, 0, 1, 16384, 0, 0]]}),
        lambda s: s.edit_config(memory={"ram_bytes": 1 << 50, "slots": [[0, 0, 0, 1 << 50, 0, 0]]}),
        lambda s: s.edit_config(memory={"ram_bytes": 16384, "slots": []}),
    ],
    "STR-042": [lambda s: s.edit_config(digest_algorithm=2)],
    "STR-043": [lambda s: s.edit_config(schema_version=2)],
    "STR-050": [
        lambda s: runs(s, MEMORY, [(4096, 1)], pages=2),
        lambda s: runs(s, MEMORY, [(4096, 1)], pages=1, count=0),
        lambda s: runs(s, MEMORY, [(0, 1)], pages=1, count=257),
        lambda s: runs(s, ZERO, [(0, 1), (4096, 1)], count=1),
        lambda s: runs(s, ZERO, [(0, 1)], count=0xFFFF_FFFF),
    ],
    "STR-051": [
        lambda s: runs(s, MEMORY, [(3 * 4096, 2)], pages=2),
        lambda s: runs(s, MEMORY, [(1, 1)], pages=1),
        lambda s: runs(s, MEMORY, [(0, 1)], pages=1, as_id=1),  # an alias: extents name it by address space 0
        lambda s: runs(s, ZERO, [(0, 0)]),
        lambda s: runs(s, ZERO, [(1 << 63, 1 << 63)]),
    ],
    "STR-053": [
        lambda s: runs(s, MEMORY, [(8192, 1), (4096, 1)], pages=2),
        lambda s: runs(s, ZERO, [(0, 2), (4096, 1)]),
    ],
    "STR-054": [
        lambda s: head(s, flags=1)[:64] + s.migration()[64:],
        second_round,
    ],
    "STR-055": [lambda s: patch(s, ROUND_END, 0, struct.pack("<I", 2))],
    "STR-056": [lambda s: patch(s, ROUND_END, 8, struct.pack("<Q", 3))],
    "STR-060": [
        lambda s: state(s, msgpack.packb({"no_such": b""})),
        lambda s: state(s, msgpack.packb({"regs": bytes(144)})),
        lambda s: state(s, msgpack.packb({"clock": bytes(47)})),
        lambda s: state(s, msgpack.packb({"clock": None})),
        lambda s: state(s, msgpack.packb({"ioapic": bytes(520)})),  # of schema version 2, the stream is of 1
        lambda s: s.edit(s.snapshot(), s.index(s.snapshot(), VCPU_STATE), bytes(8) + b"\x80"),
    ],
    "STR-070": [lambda s: patch(s, DIGEST, 0, struct.pack("<I", 2))],
    "STR-071": [lambda s: patch(s, DIGEST, 8, b"forged")],
    "STR-072": [lambda s: forged_memory(s)],
    "STR-073": [lambda s: patch(s, DIGEST, 72, b"forged")],
    "STR-080": [lambda s: end(s, count_more=1)],
    "STR-081": [lambda s: end(s, crc_more=1)],
}  # fmt: skip
"""Rule -> forged streams that break it, each in the hands of a reader that must refuse."""

TOLERATED = {
    "STR-005": [
        lambda s: head(s, flags=2 | 1),
        lambda s: reserved_in_header(s),
        lambda s: patch(s, ROUND_END, 4, b"\1"),
        lambda s: patch(s, VCPU_STATE, 4, b"\1"),
        lambda s: patch(s, DIGEST, 4, b"\1"),
    ],
    "STR-013": [optional, lambda s: optional(s, at=4)],
}
"""Rule -> streams that a reader takes and the verifier remarks on."""


def reserved_in_header(smith):
    """A stream whose last record header, END's, has a reserved octet set."""
    stream = smith.snapshot()
    body = stream[-16:]
    _, sequence, length, crc = struct.unpack_from("<IIQI", stream, len(stream) - 48)
    return stream[:-48] + smith.record_header(END, sequence, length, crc, reserved=1) + body


def forged_memory(smith):
    """A stream whose page was changed by someone who mended every CRC, but not the digest."""
    stream = smith.snapshot()
    index = smith.index(stream, MEMORY)
    return smith.edit(stream, index, smith.split(stream)[1][index].body.replace(b"page two", b"page 2!!"))


def cases(table):
    return [
        pytest.param(rule, make, id=f"{rule}-{n}") for rule, found in table.items() for n, make in enumerate(found, 1)
    ]


@pytest.mark.parametrize(("rule", "forge"), cases(CASES))
def test_reader_refuses_by_the_rule(smith, rule, forge):
    with pytest.raises(StreamError) as caught:
        smith.read(forge(smith))
    assert caught.value.rule == rule
    assert rule in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(("rule", "forge"), cases(CASES))
def test_verifier_reports_the_rule(smith, rule, forge):
    report = smith.verify(forge(smith))
    assert rule in {violation.rule for violation in report.violations if violation.fatal}
    assert not report.ok


@pytest.mark.parametrize(("rule", "forge"), cases(TOLERATED))
def test_reader_takes_what_the_verifier_only_remarks_on(smith, rule, forge):
    stream = forge(smith)
    smith.read(stream)
    report = smith.verify(stream)
    assert {violation.rule for violation in report.violations} == {rule}
    assert report.ok
    assert not report.clean


def literals(*files):
    """Every rule id that occurs as a string in the code (not in docstrings)."""
    found = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and re.fullmatch(r"STR-\d{3}", node.value)
            ):
                found.add(node.value)
    return found


def test_rules_of_the_document_the_reader_the_verifier_and_the_tests_are_the_same_set():
    document = set(re.findall(r"\[(STR-\d{3})\]", (STREAM / "FORMAT.md").read_text()))
    tested = CASES.keys() | TOLERATED.keys()
    verifier = literals(*STREAM.glob("verify*.py"))
    reader = literals(*(set(STREAM.glob("*.py")) - set(STREAM.glob("verify*.py")) - {STREAM / "errors.py"}))
    assert document == tested
    assert verifier == document
    assert reader == document - TOLERATED.keys()


def test_every_must_of_the_document_has_a_rule():
    text = (STREAM / "FORMAT.md").read_text()
    paragraphs = re.split(r"\n\n|\n(?=[-|0-9])", text)
    missing = [p for p in paragraphs if "MUST" in p and "STR-" not in p and "**MUST** binds" not in p]
    # "All three MUST match" sums up the three rules above it.
    assert [p for p in missing if not p.startswith("All three MUST match")] == []


def test_verifier_shares_only_the_record_table_with_the_reader():
    allowed = {"records", "verify_bodies", "verify_values"}
    for path in STREAM.glob("verify*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.module in allowed, (path.name, node.module)
