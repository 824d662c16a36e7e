"""How long a slice is, and how long an idle guest sleeps: real time only, never what the guest sees."""

from __future__ import annotations

NS_PER_S = 1_000_000_000

TARGET_SLICE_NS = 2_000_000
"""A slice aims at 2 ms: requests wait at most that long, and looking for them costs nothing beside it."""

MIN_STEPS = 64
MAX_STEPS = 1 << 20
FIRST_STEPS = 2000
"""About 2 ms at the speed that an interpreter reaches; the real speed is known after one slice."""

MAX_AHEAD_NS = 1 * NS_PER_S
"""A guest that idles longer than this at a time is not made to wait for all of it."""

MAX_BEHIND_NS = 50_000_000
"""Time lost while busy is caught up from idle time, but no more than this much."""

MAX_IDLE_PER_SLICE_NS = 5_000_000
"""A slice of a paced VM ends when the guest has idled this long, so that sleeps are short and output flows evenly."""

NO_IDLE_LIMIT_NS = 1 << 62


class SliceSize:
    """How many steps make a slice of `TARGET_SLICE_NS`, by the speed of the slices before."""

    def __init__(self) -> None:
        """Begin with a guess."""
        self.steps = FIRST_STEPS

    def learn(self, steps: int, elapsed_ns: int) -> None:
        """Move towards the size that would have taken the target, half way at a time; never past double."""
        if steps <= 0:
            return
        fitting = steps * TARGET_SLICE_NS // max(elapsed_ns, 1)
        size = (self.steps + min(fitting, 2 * self.steps)) // 2
        self.steps = min(max(size, MIN_STEPS), MAX_STEPS)


class Pacer:
    """Keeps virtual time that a guest idles away from outrunning real time."""

    def __init__(self, *, paced: bool) -> None:
        """Begin in step; an unpaced VM never sleeps."""
        self._paced = paced
        self._ahead_ns = 0
        self._last_ns: int | None = None

    @property
    def max_idle_ns(self) -> int:
        """How much idle virtual time one slice may have."""
        return MAX_IDLE_PER_SLICE_NS if self._paced else NO_IDLE_LIMIT_NS

    def begin(self, now_ns: int) -> None:
        """Forget the past: the VM was paused until `now_ns` of real time."""
        self._ahead_ns = 0
        self._last_ns = now_ns

    def wait_ns(self, now_ns: int, virtual_ns: int, idle_ns: int) -> int:
        """Take note of a slice that ended at `now_ns` of real time; return how long to sleep before the next."""
        if not self._paced:
            return 0
        passed_ns = 0 if self._last_ns is None else now_ns - self._last_ns
        self._last_ns = now_ns
        ahead = self._ahead_ns + virtual_ns - passed_ns
        self._ahead_ns = min(max(ahead, -MAX_BEHIND_NS), MAX_AHEAD_NS)
        return max(self._ahead_ns, 0) if idle_ns > 0 else 0
