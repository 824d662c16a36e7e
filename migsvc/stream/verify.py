"""The verifier: a second implementation of FORMAT.md that shares only the record table with the reader.

It goes on after a violation as long as it can tell where the next record begins, looks at reserved octets that the
reader ignores, and computes every digest itself. Memory is bounded: one record body, and guest pages up to a budget.

    with open(path, "rb") as file:
        report = verify_stream(file.read)
    print(report.ok, report.violations, report.summary)
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import google_crc32c

from schemas.versions import SUPPORTED_SCHEMA_VERSIONS

from .records import (
    CONTROL_BIT,
    FILE_HEADER_BYTES,
    MAGIC,
    MAX_OPTIONAL_BODY,
    OPTIONAL_BIT,
    RECORD_BY_TYPE,
    RECORD_HEADER_BYTES,
    STREAM_VERSIONS_READ,
    StreamFlag,
    type_name,
)
from .verify_bodies import Machine, check_body
from .verify_values import RefusedError

DEFAULT_MEMORY_BUDGET_BYTES = 1 << 30
"""Guest pages held at once. Snapshots need 1 MiB, for their pages ascend; only migration streams need more."""

MAX_VIOLATIONS = 1000
"""Then the verifier stops: the rest would say the same."""

ALLOWED_PAIRS = {
    "start": "CONFIG",
    "CONFIG": "MEMORY ZERO ROUND_END",
    "MEMORY": "MEMORY ZERO ROUND_END",
    "ZERO": "MEMORY ZERO ROUND_END",
    "ROUND_END": "MEMORY ZERO ROUND_END VM_STATE",
    "VM_STATE": "VCPU_STATE",
    "VCPU_STATE": "VCPU_STATE DIGEST",
    "DIGEST": "END",
}
"""Which record may follow which."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule broken at one place. Not `fatal`: the reader takes such a stream, a writer must not make it."""

    rule: str
    offset: int
    text: str
    fatal: bool = True

    def to_finding(self) -> dict[str, Any]:
        """Return the violation as one JSON object of a findings list."""
        severity = "error" if self.fatal else "warning"
        return {"rule": self.rule, "where": f"octet {self.offset}", "message": self.text, "severity": severity}


@dataclass(slots=True)
class VerifyReport:
    """What was found. `summary` is JSON-ready and holds what could be learnt, however damaged the stream is."""

    violations: list[Violation] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    memory_checked: bool = False

    @property
    def ok(self) -> bool:
        """Whether the reader may take the stream, its memory digest compared."""
        return self.memory_checked and not any(v.fatal for v in self.violations)

    @property
    def clean(self) -> bool:
        """Whether no rule at all is broken."""
        return self.memory_checked and not self.violations


def verify_stream(
    read: Callable[[int], bytes], *, memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET_BYTES
) -> VerifyReport:
    """Verify a whole stream; `read(n)` returns up to n octets, none at the end."""
    verifier = _Verifier(read, memory_budget_bytes)
    verifier.run()
    return verifier.report


class _CutError(Exception):
    """The input ended, or the next record cannot be found."""


class _Verifier:
    def __init__(self, read: Callable[[int], bytes], budget: int) -> None:
        self._read = read
        self._offset = 0
        self._headers = 0
        self._count = 0
        self._sequence = 0
        self._last = "start"
        self._types: dict[str, int] = {}
        self.report = VerifyReport()
        self._machine = Machine(budget)

    def run(self) -> None:
        try:
            self._file_header()
            while self._last != "END" and len(self.report.violations) < MAX_VIOLATIONS:
                self._record()
            if self._last == "END" and self._read(1):
                self._say("STR-017", "Octets follow END")
        except _CutError:
            pass
        self.report.memory_checked = self._machine.memory_checked
        self.report.summary.update(self._machine.summary(), records=self._types, stream_bytes=self._offset)

    def _say(self, rule: str, text: str, *, at: int | None = None, fatal: bool = True) -> None:
        self.report.violations.append(Violation(rule, self._offset if at is None else at, text, fatal))

    def _take(self, size: int) -> bytes:
        got = bytearray()
        while len(got) < size:
            piece = self._read(size - len(got))
            if not piece:
                self._offset += len(got)
                self._say("STR-016", f"The input ends after {self._offset} octets, before END is complete")
                raise _CutError
            got += piece
        self._offset += size
        return bytes(got)

    def _file_header(self) -> None:
        raw = self._take(FILE_HEADER_BYTES)
        version, length, schema, flags = struct.unpack_from("<4H", raw, 8)
        if raw[:8] != MAGIC:
            self._say("STR-001", f"The magic is {raw[:8].hex()}", at=0)
            raise _CutError
        if version not in STREAM_VERSIONS_READ:
            self._say("STR-002", f"Stream version {version} is not known", at=8)
            raise _CutError
        if length != FILE_HEADER_BYTES:
            self._say("STR-003", f"The header length is {length}", at=10)
            raise _CutError
        if google_crc32c.value(raw[:60]) != int.from_bytes(raw[60:], "little"):
            self._say("STR-004", "The CRC of the file header does not match", at=60)
        if schema not in SUPPORTED_SCHEMA_VERSIONS:
            self._say("STR-006", f"Schema version {schema} is not known", at=12)
        if any(raw[40:60]) or flags & ~int(StreamFlag.SNAPSHOT):
            self._say("STR-005", "Reserved octets or flags of the file header are not zero", at=14, fatal=False)
        self._machine.schema_version = schema
        self._machine.snapshot = bool(flags & StreamFlag.SNAPSHOT)
        self.report.summary.update(
            stream_version=version,
            schema_version=schema,
            snapshot=self._machine.snapshot,
            stream_id=raw[16:32].hex(),
            created_unix_ns=int.from_bytes(raw[32:40], "little"),
        )

    def _record(self) -> None:
        at = self._offset
        raw = self._take(RECORD_HEADER_BYTES)
        number, sequence, length, body_crc, reserved1, reserved2, crc = struct.unpack("<IIQIIII", raw)
        if google_crc32c.value(raw[:28]) != crc:
            self._say("STR-010", "The CRC of a record header does not match; the rest cannot be found", at=at)
            raise _CutError
        if reserved1 or reserved2:
            self._say("STR-005", "Reserved octets of a record header are not zero", at=at + 20, fatal=False)
        if sequence != self._sequence:
            self._say("STR-011", f"Sequence number {sequence} where {self._sequence} was due", at=at + 4)
        self._sequence = sequence + 1
        self._types[type_name(number)] = self._types.get(type_name(number), 0) + 1
        self._check_turn(number, length, at)
        body = self._take(length)
        if google_crc32c.value(body) != body_crc:
            self._say("STR-015", f"The CRC of the body of {type_name(number)} does not match", at=at)
        elif number in RECORD_BY_TYPE:
            self._check_body(number, body, at)
        self._headers = google_crc32c.extend(self._headers, raw)
        self._count += 1

    def _check_turn(self, number: int, length: int, at: int) -> None:
        spec = RECORD_BY_TYPE.get(number)
        if spec is None:
            if number & CONTROL_BIT or not number & OPTIONAL_BIT:
                self._say("STR-012", f"Record type {number:#010x} is not known and not optional", at=at)
            else:
                self._say("STR-013", f"Optional record type {number:#010x} is not known", at=at, fatal=False)
        least, most = (spec.min_body, spec.max_body) if spec else (0, MAX_OPTIONAL_BODY)
        if not least <= length <= most:
            self._say("STR-014", f"{type_name(number)} has a body of {length} octets, not {least} to {most}", at=at + 8)
            raise _CutError
        if spec is None and self._last == "start":
            self._say("STR-020", "An optional record before CONFIG", at=at)
        if spec is not None:
            if spec.name not in ALLOWED_PAIRS[self._last].split():
                rule = "STR-020" if self._last == "start" else "STR-021"
                self._say(rule, f"{spec.name} after {self._last}", at=at)
            self._last = spec.name

    def _check_body(self, number: int, body: bytes, at: int) -> None:
        name = RECORD_BY_TYPE[number].name
        if name == "END":
            count, headers, reserved = struct.unpack("<QII", body)
            if count != self._count:
                self._say("STR-080", f"END counts {count} records, there were {self._count}", at=at)
            if headers != self._headers:
                self._say("STR-081", "The CRC over the record headers does not match", at=at)
            if reserved:
                self._say("STR-005", "Reserved octets of END are not zero", at=at, fatal=False)
            return
        try:
            for rule, text in check_body(name, body, self._machine):
                self._say(rule, text, at=at, fatal=rule != "STR-005")
        except RefusedError as error:
            self._say(error.rule, f"{name}: {error}", at=at)
