"""Cancelling work that is partly in threads: one token per piece of work, looked at between bounded steps."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from migsvc.errors import CancelledError

T = TypeVar("T")


class CancelToken:
    """A request to stop that both the event loop and worker threads can see.

    The engine calls `check` between bounded pieces of work and `race` around waits; `close` is the point
    of no return, after which a request to cancel is refused.
    """

    def __init__(self) -> None:
        """Start uncancelled and open."""
        self._flag = threading.Event()
        self._event = asyncio.Event()
        self._closed = False
        self.reason = ""

    @property
    def requested(self) -> bool:
        """Whether somebody has asked to stop."""
        return self._flag.is_set()

    @property
    def closed(self) -> bool:
        """Whether it is too late to ask."""
        return self._closed

    def cancel(self, reason: str) -> bool:
        """Ask to stop; return False if it is too late. Call it in the event loop."""
        if self._closed:
            return False
        if not self._flag.is_set():
            self.reason = reason
            self._flag.set()
            self._event.set()
        return True

    def close(self) -> None:
        """Pass the point of no return.

        Raises:
            CancelledError: somebody had asked before.
        """
        self.check()
        self._closed = True

    def check(self) -> None:
        """Raise if somebody has asked to stop; safe in any thread.

        Raises:
            CancelledError: with the reason that was given.
        """
        if self._flag.is_set():
            raise CancelledError(self.reason)

    async def until_done(self, work: asyncio.Future[T]) -> None:
        """Wait until `work` is done or somebody asks to stop; raise in neither case."""
        stop = asyncio.ensure_future(self._event.wait())
        try:
            waiting: list[asyncio.Future[Any]] = [work, stop]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()

    async def sleep(self, seconds: float) -> None:
        """Sleep, but stop at once when asked.

        Raises:
            CancelledError: as `check`.
        """
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return
        self.check()

    async def race(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`, but give it up when asked to stop.

        `work` is cancelled then; a thread behind it goes on until its own check, or until its socket is shut.

        Raises:
            CancelledError: as `check`.
        """
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self.check()
            return await task
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
