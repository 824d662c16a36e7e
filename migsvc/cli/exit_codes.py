"""Exit codes of the command line, documented in `migsvc --help`."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a shell script can tell from `$?`."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    REFUSED = 5
    UNREACHABLE = 6
    INTEGRITY = 7


MEANINGS = {
    ExitCode.OK: "done, or the verdict is good",
    ExitCode.FAILED: "failed, or the verdict is bad",
    ExitCode.USAGE: "wrong usage or settings",
    ExitCode.NOT_FOUND: "no such VM, snapshot, peer or migration",
    ExitCode.CONFLICT: "contradicts the present state, or another host owns the VM",
    ExitCode.REFUSED: "refused: illegal or incompatible state, a limit, a missing token",
    ExitCode.UNREACHABLE: "the host or its peer cannot be reached",
    ExitCode.INTEGRITY: "a stream is damaged, truncated or not ours",
}
"""One line for each code."""

BY_PROBLEM = {
    "bad-request": ExitCode.USAGE,
    "invalid-request": ExitCode.USAGE,
    "no-such-route": ExitCode.USAGE,
    "not-found": ExitCode.NOT_FOUND,
    "conflict": ExitCode.CONFLICT,
    "not-owner": ExitCode.CONFLICT,
    "precondition-failed": ExitCode.CONFLICT,
    "request-in-progress": ExitCode.CONFLICT,
    "cancelled": ExitCode.CONFLICT,
    "unauthorized": ExitCode.REFUSED,
    "foreign-origin": ExitCode.REFUSED,
    "illegal-state": ExitCode.REFUSED,
    "incompatible": ExitCode.REFUSED,
    "limit-exceeded": ExitCode.REFUSED,
    "body-too-large": ExitCode.REFUSED,
    "stream-rejected": ExitCode.INTEGRITY,
    "peer-failed": ExitCode.UNREACHABLE,
    "not-ready": ExitCode.UNREACHABLE,
}
"""Exit code of each problem type; types that are not listed are failures of the host (1)."""

EPILOG = "Exit codes: " + "; ".join(f"{code.value} {text}" for code, text in MEANINGS.items()) + "."
"""Shown at the end of every help page."""
