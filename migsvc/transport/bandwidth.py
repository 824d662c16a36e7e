"""A bound on bytes per second: a token bucket. The clock is passed in."""

from __future__ import annotations

from collections.abc import Callable

NS_PER_S = 1_000_000_000
BURST_S = 0.05
"""How much may go at once, as time at the full rate: short enough to share a link, long enough to keep it busy."""


class TokenBucket:
    """Lets `bytes_per_s` through, with bursts of 50 ms. What is taken beyond that is paid back by waiting."""

    def __init__(self, bytes_per_s: int, clock_ns: Callable[[], int]) -> None:
        """Begin full.

        Raises:
            ValueError: the rate is not positive.
        """
        if bytes_per_s <= 0:
            raise ValueError(f"a bandwidth of {bytes_per_s} bytes a second lets nothing through")
        self.bytes_per_s = bytes_per_s
        self._clock_ns = clock_ns
        self._burst = bytes_per_s * BURST_S
        self._tokens = self._burst
        self._at_ns = clock_ns()

    def take(self, size: int) -> float:
        """Take `size` bytes; return how many seconds to wait before they may go."""
        now_ns = self._clock_ns()
        earned = (now_ns - self._at_ns) * self.bytes_per_s / NS_PER_S
        self._at_ns = now_ns
        self._tokens = min(self._tokens + earned, self._burst) - size
        return max(0.0, -self._tokens / self.bytes_per_s)
