"""When to stop copying behind a running VM and pause it: pure decisions on figures that the driver measured.

Source of the rule: QEMU docs/devel/migration/features.rst and migration.c migration_iteration_run: stop when what
remains can be sent within the downtime limit at the bandwidth measured so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from migsvc.stream import PAGE_BYTES

NS_PER_S = 1_000_000_000


class PrecopyVerdict(Enum):
    """What to do after a round."""

    NEXT_ROUND = "next_round"
    STOP_AND_COPY = "stop_and_copy"


@dataclass(frozen=True, slots=True)
class RoundFigures:
    """What one round took: octets on the wire and the time from its first octet to its RoundAck."""

    round: int
    pages: int
    zero_pages: int
    wire_bytes: int
    duration_ns: int


@dataclass(frozen=True, slots=True)
class PrecopyDecision:
    """A verdict, its reason in one sentence, and the downtime to expect if the VM is paused now."""

    verdict: PrecopyVerdict
    reason: str
    estimated_downtime_ns: int


def bandwidth_bytes_per_s(rounds: Sequence[RoundFigures]) -> int:
    """Return the bandwidth of the last round that moved enough to be measured, 0 when none has.

    Rounds below 64 KiB measure latency, not bandwidth; then all rounds together are the better figure.
    """
    for figures in reversed(rounds):
        if figures.wire_bytes >= 64 << 10 and figures.duration_ns > 0:
            return figures.wire_bytes * NS_PER_S // figures.duration_ns
    duration_ns = sum(figures.duration_ns for figures in rounds)
    return sum(figures.wire_bytes for figures in rounds) * NS_PER_S // duration_ns if duration_ns > 0 else 0


def estimated_downtime_ns(remaining_pages: int, bandwidth: int, page_bytes: int = PAGE_BYTES, fixed_ns: int = 0) -> int:
    """Return how long the remaining pages take at `bandwidth` octets a second, plus what does not depend on them.

    Without a bandwidth nothing can be promised: the result is then 2^63 - 1.
    """
    if remaining_pages == 0:
        return fixed_ns
    if bandwidth <= 0:
        return (1 << 63) - 1
    return remaining_pages * page_bytes * NS_PER_S // bandwidth + fixed_ns


@dataclass(frozen=True, slots=True)
class PrecopyPolicy:
    """The limits of one migration. `fixed_ns` is the part of the downtime that no round shortens (state, handover)."""

    downtime_limit_ns: int = 300_000_000
    max_rounds: int = 30
    page_bytes: int = PAGE_BYTES
    fixed_ns: int = 0

    def decide(self, rounds: Sequence[RoundFigures], remaining_pages: int, bandwidth: int) -> PrecopyDecision:
        """Decide after a round. `remaining_pages` are dirty now; `bandwidth` is in octets a second.

        The first round is always followed by a decision, so that at least one round is copied behind the running VM.
        """
        estimate = estimated_downtime_ns(remaining_pages, bandwidth, self.page_bytes, self.fixed_ns)
        if estimate <= self.downtime_limit_ns:
            return PrecopyDecision(
                PrecopyVerdict.STOP_AND_COPY,
                f"{remaining_pages} pages remain: {estimate} ns, within the limit of {self.downtime_limit_ns} ns",
                estimate,
            )
        if len(rounds) >= self.max_rounds:
            return PrecopyDecision(
                PrecopyVerdict.STOP_AND_COPY,
                f"{len(rounds)} rounds were made, the most allowed; {remaining_pages} pages remain",
                estimate,
            )
        return PrecopyDecision(
            PrecopyVerdict.NEXT_ROUND,
            f"{remaining_pages} pages remain: {estimate} ns, over the limit of {self.downtime_limit_ns} ns",
            estimate,
        )
