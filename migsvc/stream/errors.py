"""The errors of the stream format.

StreamError          the input breaks a rule of FORMAT.md; carries the rule, the offset and a hint
└── RecordError      the same, inside one record; also carries the record's number in the stream and its type
StreamUsageError     the caller misused the reader or the writer; the input is not to blame
"""

from __future__ import annotations


class StreamError(ValueError):
    """A stream breaks a rule of FORMAT.md.

    `rule` is the rule's id, `offset` the octet of the stream at which it was noticed, `detail` what is wrong,
    `hint` what to do about it.
    """

    def __init__(self, rule: str, detail: str, *, offset: int = 0, hint: str = "") -> None:
        """Keep the parts; the text of the exception is built of them."""
        super().__init__(detail)
        self.rule = rule
        self.detail = detail
        self.offset = offset
        self.hint = hint or HINTS.get(rule, HINT_DAMAGED)

    def where(self) -> str:
        """Return the place in words."""
        return f"octet {self.offset}"

    def __str__(self) -> str:
        """Return rule, place, detail and hint in one line."""
        return f"[{self.rule}] {self.detail} (at {self.where()}; {self.hint})"

    def to_finding(self) -> dict[str, str | int]:
        """Return the error as one JSON object of a findings list."""
        return {
            "rule": self.rule,
            "where": self.where(),
            "offset": self.offset,
            "message": self.detail,
            "hint": self.hint,
        }


class RecordError(StreamError):
    """One record of a stream breaks a rule of FORMAT.md."""

    def __init__(
        self, rule: str, detail: str, *, offset: int = 0, hint: str = "", sequence: int = 0, record: str = "?"
    ) -> None:
        """Keep the parts; `record` is the name of the record's type."""
        super().__init__(rule, detail, offset=offset, hint=hint)
        self.sequence = sequence
        self.record = record

    def where(self) -> str:
        """Return the place in words."""
        return f"record {self.sequence} ({self.record}), octet {self.offset}"


class StreamUsageError(RuntimeError):
    """The caller of a reader or writer did something out of turn."""


HINT_DAMAGED = "the stream is damaged or was not written by migsvc; take it again from its source"

HINTS: dict[str, str] = {
    "STR-001": "this is not a migsvc stream",
    "STR-002": "read it with a migsvc that supports this stream version",
    "STR-006": "read it with a migsvc that supports this schema version",
    "STR-012": "the stream needs a newer migsvc",
    "STR-016": "the stream was cut off; transfer it again",
    "STR-017": "remove what follows the stream, or transfer it again",
    "STR-060": "the writer saved sections that these schemas do not know or hold",
}
"""What to do, per rule; rules without a row get HINT_DAMAGED."""
