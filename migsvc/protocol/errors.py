"""Blame is a type: who broke the protocol.

ProtocolError
├── LocalProtocolError      this side misused the connection; nothing was sent
└── RemoteProtocolError     the peer broke a rule of PROTOCOL.md or FORMAT.md; the connection is unusable
"""

from __future__ import annotations


class ProtocolError(Exception):
    """A rule of PROTOCOL.md or FORMAT.md is broken; `rule` is its id, `detail` says what is wrong."""

    def __init__(self, rule: str, detail: str, *, hint: str = "") -> None:
        """Keep the parts; `hint` says what to do."""
        super().__init__(f"[{rule}] {detail}" + (f" ({hint})" if hint else ""))
        self.rule = rule
        self.detail = detail
        self.hint = hint

    def to_finding(self) -> dict[str, str]:
        """Return the error as one JSON object of a findings list."""
        return {"rule": self.rule, "where": "the migration connection", "message": self.detail, "hint": self.hint}


class LocalProtocolError(ProtocolError):
    """This side tried something that the protocol does not allow; the connection is as it was."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow; close the connection."""
