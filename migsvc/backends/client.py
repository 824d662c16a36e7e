"""The agent's end: start, adopt, command and watch the worker of one VM."""

from __future__ import annotations

import asyncio
import itertools
import mmap
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from migsvc.backends.config import VmConfig
from migsvc.backends.files import Identity, WorkerFiles, connect
from migsvc.backends.process import PROGRAM, WorkerExit, collect, open_pidfd, spawn_process
from migsvc.backends.ram import map_ram
from migsvc.backends.rpc import FrameDecoder, FrameError, Message, encode, error_from_map
from migsvc.errors import WorkerError

READ_BYTES = 1 << 18
MAX_DESCRIPTORS = 4
START_TIMEOUT_S = 30.0
CALL_TIMEOUT_S = 10.0
QUIT_TIMEOUT_S = 5.0
POLL_S = 0.01

EventHandler = Callable[[dict[str, Any]], None]


class WorkerHandle:
    """The worker of one VM. Make it with `spawn` or `adopt`; end it with `quit`, or `detach` to leave it running.

    `exited` is done as soon as the process has ended, expected or not. `on_event` takes what the worker reports:
    `{"event": "stopped", ...status}` and `{"event": "console", "end": offset}`.
    """

    def __init__(self, files: WorkerFiles, identity: Identity, pidfd: int, peer: socket.socket) -> None:
        """Watch a live process over a connected socket."""
        self.files = files
        self.vm_id = files.vm_id
        self.pid = identity.pid
        self.hello: dict[str, Any] = {}
        self.on_event: EventHandler | None = None
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[WorkerExit] = self._loop.create_future()
        self._pidfd = pidfd
        self._peer = peer
        self._decoder = FrameDecoder()
        self._output = bytearray()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._descriptors: deque[int] = deque()
        self._ram: mmap.mmap | None = None
        self._connected = True
        self._loop.add_reader(peer, self._readable)
        self._loop.add_reader(pidfd, self._ended)

    @classmethod
    async def spawn(
        cls,
        run_dir: Path,
        vm_id: str,
        config: VmConfig,
        *,
        program: Sequence[str] = PROGRAM,
        timeout_s: float = START_TIMEOUT_S,
    ) -> Self:
        """Start a worker and make its VM.

        Raises:
            WorkerError: it does not start, or the VM has a worker already.
            MigsvcError: the VM cannot be made; the worker is ended again.
        """
        files = WorkerFiles(run_dir, vm_id)
        files.prepare()
        if files.identity() is not None:
            raise WorkerError(f"VM {vm_id} has a worker already", hint="adopt it")
        files.remove(log=True)
        pid = spawn_process(files, program)
        handle = await cls._connect_to(files, pid, time.monotonic() + timeout_s)
        try:
            await handle.call("create", timeout_s=timeout_s, config=config.to_map())
            handle.hello = await handle.call("hello")
        except BaseException:
            handle.kill()
            await asyncio.shield(handle._gone(QUIT_TIMEOUT_S))
            files.remove(log=True)
            raise
        return handle

    @classmethod
    async def adopt(cls, run_dir: Path, vm_id: str, *, timeout_s: float = CALL_TIMEOUT_S) -> Self:
        """Take over a worker that an earlier agent started.

        Raises:
            WorkerError: it is gone (what it left is removed, but for its log), or does not answer.
        """
        files = WorkerFiles(run_dir, vm_id)
        identity = files.identity()
        if identity is None:
            files.remove()
            raise WorkerError(f"the worker of VM {vm_id} is gone", log_tail=files.log_tail())
        handle = cls._attach(files, identity)
        try:
            handle.hello = await handle.call("hello", timeout_s=timeout_s)
            if handle.hello.get("vm") != vm_id or handle.hello.get("pid") != identity.pid:
                raise WorkerError(f"the socket of VM {vm_id} answers for another process")
        except BaseException:
            handle.detach()
            raise
        return handle

    @classmethod
    async def _connect_to(cls, files: WorkerFiles, pid: int, deadline: float) -> Self:
        """Wait until a worker that was just started listens."""
        pidfd = os.pidfd_open(pid)
        try:
            while time.monotonic() < deadline:
                with suppress(OSError, WorkerError):
                    identity = files.identity()
                    if identity is not None and identity.pid == pid:
                        return cls._attach(files, identity)
                ended = _ended_child(pidfd, files, pid)
                if ended is not None:
                    raise WorkerError(f"{ended} before it was ready", log_tail=ended.log_tail)
                await asyncio.sleep(POLL_S)
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            await asyncio.to_thread(os.waitid, os.P_PIDFD, pidfd, os.WEXITED)
            raise WorkerError(f"worker process {pid} was not ready in time", log_tail=files.log_tail())
        except asyncio.CancelledError:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
            raise
        finally:
            os.close(pidfd)

    @classmethod
    def _attach(cls, files: WorkerFiles, identity: Identity) -> Self:
        """Connect to a live worker.

        Raises:
            OSError: it does not listen yet.
            WorkerError: it is gone.
        """
        pidfd = open_pidfd(identity)
        try:
            peer = connect(files)
        except BaseException:
            os.close(pidfd)
            raise
        return cls(files, identity, pidfd, peer)

    @property
    def alive(self) -> bool:
        """Whether the process lives and the connection stands."""
        return self._connected and not self.exited.done()

    async def call(self, method: str, *, timeout_s: float | None = CALL_TIMEOUT_S, **params: Any) -> Any:
        """Send a request and return its result. When the caller gives up, the worker is told.

        Raises:
            WorkerError: the worker has ended, has hung up, or does not answer in time.
            MigsvcError: what the worker answered, as its own class.
        """
        if not self.alive:
            raise self._lost()
        frame = encode({"id": (number := next(self._numbers)), "method": method, "params": params})
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._waiting[number] = answer
        self._send(frame)
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            self._cancel(number)
            raise WorkerError(f"the worker of VM {self.vm_id} did not answer {method} within {timeout_s} s") from None
        except asyncio.CancelledError:
            self._cancel(number)
            raise
        finally:
            self._waiting.pop(number, None)

    async def ram(self) -> mmap.mmap:
        """Map guest RAM; the same mapping each time.

        Raises:
            WorkerError: the worker sent no descriptor.
        """
        if self._ram is None:
            answer = await self.call("ram_fd")
            if not self._descriptors:
                raise WorkerError(f"the worker of VM {self.vm_id} sent no descriptor of its RAM")
            descriptor = self._descriptors.popleft()
            try:
                self._ram = map_ram(descriptor, answer["ram_bytes"])
            finally:
                os.close(descriptor)
        return self._ram

    async def quit(self, timeout_s: float = QUIT_TIMEOUT_S) -> None:
        """End the worker and its VM, by request or, if it does not answer, by force; its files go, the log too."""
        if self.alive:
            with suppress(WorkerError):
                await self.call("quit", timeout_s=timeout_s)
        if not await self._gone(timeout_s):
            self.kill()
            await self._gone(timeout_s)
        self._unmap()
        self.files.remove(log=True)

    def kill(self) -> None:
        """End the process at once (SIGKILL), by its pidfd: never another of the same number."""
        if not self.exited.done() and self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def detach(self) -> None:
        """Hang up and leave the worker as it is; another agent may adopt it. `exited` is cancelled."""
        self._disconnect()
        self._unwatch()
        self._unmap()
        if not self.exited.done():
            self.exited.cancel()

    def _unmap(self) -> None:
        """Unmap guest RAM; a view that somebody still holds keeps it."""
        if self._ram is not None:
            with suppress(BufferError):
                self._ram.close()
            self._ram = None

    async def _gone(self, timeout_s: float) -> bool:
        """Wait for the end of the process."""
        if not self.exited.done():
            await asyncio.wait({self.exited}, timeout=timeout_s)
        return self.exited.done()

    # The socket

    def _send(self, frame: bytes) -> None:
        self._output += frame
        self._writable()

    def _writable(self) -> None:
        try:
            while self._output:
                sent = self._peer.send(memoryview(self._output)[: 1 << 20])
                del self._output[:sent]
        except (BlockingIOError, InterruptedError):
            self._loop.add_writer(self._peer, self._writable)
            return
        except OSError:
            self._disconnect()
            return
        self._loop.remove_writer(self._peer)

    def _readable(self) -> None:
        try:
            data, descriptors, _flags, _address = socket.recv_fds(
                self._peer, READ_BYTES, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, descriptors = b"", []
        self._descriptors.extend(descriptors)
        if not data:
            self._disconnect()
            return
        try:
            for message in self._decoder.feed(data):
                self._take(message)
        except FrameError:
            self._disconnect()

    def _take(self, message: Message) -> None:
        if "event" in message:
            if self.on_event is not None:
                self.on_event(message)
            return
        answer = self._waiting.get(message.get("id", 0))
        if answer is None or answer.done():
            return
        if "error" in message:
            answer.set_exception(error_from_map(message["error"]))
        else:
            answer.set_result(message.get("result"))

    def _cancel(self, number: int) -> None:
        if self._connected:
            self._send(encode({"cancel": number}))

    def _disconnect(self) -> None:
        """Close the socket; whoever waits for an answer gets an error."""
        if not self._connected:
            return
        self._connected = False
        self._loop.remove_reader(self._peer)
        self._loop.remove_writer(self._peer)
        self._peer.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(self._lost())

    def _lost(self) -> WorkerError:
        if self.exited.done() and not self.exited.cancelled():
            ended = self.exited.result()
            return WorkerError(f"VM {self.vm_id}: {ended}", log_tail=ended.log_tail)
        return WorkerError(f"the connection to worker process {self.pid} of VM {self.vm_id} is closed")

    # The process

    def _ended(self) -> None:
        """Run by the loop when the pidfd says that the process has ended."""
        ended = collect(self._pidfd, self.pid, self.files.log_tail())
        self._unwatch()
        if not self.exited.done():
            self.exited.set_result(ended)
        self._disconnect()
        self.files.remove()

    def _unwatch(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


def _ended_child(pidfd: int, files: WorkerFiles, pid: int) -> WorkerExit | None:
    """Return how a child that was just started ended, None if it lives."""
    if Identity.of(pid) is not None:
        return None
    return collect(pidfd, pid, files.log_tail())
