"""Wakes those who wait for news of an object; the news themselves are in the catalogue or the worker."""

from __future__ import annotations

import asyncio


class Hub:
    """One wake-up per topic. Take `watch` before looking, then await it: nothing told in between is missed."""

    def __init__(self) -> None:
        """Start with nobody waiting."""
        self._waiting: dict[str, asyncio.Event] = {}

    def watch(self, topic: str) -> asyncio.Event:
        """Return the event that the next `tell` of that topic sets."""
        return self._waiting.setdefault(topic, asyncio.Event())

    def tell(self, topic: str) -> None:
        """Wake everybody who watches the topic."""
        waiting = self._waiting.pop(topic, None)
        if waiting is not None:
            waiting.set()

    def tell_all(self) -> None:
        """Wake everybody, e.g. because the host stops."""
        for topic in list(self._waiting):
            self.tell(topic)


async def wait_for_news(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event that `Hub.watch` gave; return False if there was none in that time."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
