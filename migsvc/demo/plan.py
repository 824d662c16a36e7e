"""What the demonstration moves, and at which architectural moments."""

from __future__ import annotations

from dataclasses import dataclass, field

MOMENTS = ("any", "sti_shadow", "smm_shadow", "mov_ss_shadow", "smm", "interrupt_shadow")
"""Moments of the stop-and-copy, hop after hop; more hops begin again at the front."""

MIN_HOPS = 6
"""Every moment at least once, back and forth."""

MAX_HOPS = 60
"""The guest has an end; see `Plan.guest_params`."""

TICKS_BEFORE = 100
"""Timer ticks (10 ms of virtual time each) that the guest gets beyond the hops."""

TICKS_PER_HOP = 200
"""Ticks for one hop: the run before it, its rounds, and the search for the moment; about 110 are used."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One demonstration."""

    hops: int = MIN_HOPS
    guest: str = "ticker64"
    line_ticks: int = 10
    smi_ticks: int = 1
    run_s: float = 0.25
    extra_params: dict[str, int] = field(default_factory=dict)

    @property
    def moments(self) -> tuple[str, ...]:
        """The moment of each hop."""
        return tuple(MOMENTS[i % len(MOMENTS)] for i in range(self.hops))

    @property
    def guest_params(self) -> dict[str, int]:
        """Parameters of the guest: long enough for all hops, a line now and then, SMIs in shadows all the time."""
        ticks = TICKS_BEFORE + self.hops * TICKS_PER_HOP
        return {
            "ticks": ticks,
            "line_ticks": self.line_ticks,
            "smi_ticks": self.smi_ticks,
            **self.extra_params,
        }
