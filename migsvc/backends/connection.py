"""The worker's end of the connection to its agent: requests in, answers and events out, never blocking."""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from migsvc.backends.control import VmControl
from migsvc.backends.methods import LATER, METHODS, Call, Method
from migsvc.backends.params import MAX_U64, check_params
from migsvc.backends.rpc import FrameDecoder, FrameError, Message, encode, error_to_map
from migsvc.errors import InputError, MigsvcError, WorkerError

log = logging.getLogger(__name__)

READ_BYTES = 1 << 18
MAX_OUTPUT_BYTES = 128 << 20
"""An agent that does not read its answers is cut off here: two of the longest frames."""


class AgentConnection:
    """One connected agent. `closed` turns true when the connection has ended, for whatever reason."""

    def __init__(self, peer: socket.socket, control: Callable[[], VmControl]) -> None:
        """Serve `peer`, a non-blocking stream socket."""
        self._peer = peer
        self._control = control
        self._decoder = FrameDecoder()
        self._output: deque[tuple[memoryview, int]] = deque()
        self._output_bytes = 0
        self.closed = False
        self.quit = False

    def fileno(self) -> int:
        """Return the socket's descriptor, for a selector."""
        return self._peer.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether output waits for room in the socket."""
        return bool(self._output)

    def close(self) -> None:
        """Hang up."""
        self.closed = True
        self._peer.close()

    def receive(self) -> None:
        """Read what there is and answer it."""
        try:
            data = self._peer.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        try:
            for message in self._decoder.feed(data):
                self._dispatch(message)
                if self.closed or self.quit:
                    return
        except FrameError as error:
            log.warning("the agent's connection sent %s; closing it", error)
            self.send({"error": error_to_map(InputError(f"closing the connection: {error}"))})
            self.close()

    def send(self, message: Message, descriptor: int = -1) -> None:
        """Queue a message, with a descriptor beside it if one is given, and send what fits."""
        if self.closed:
            return
        frame = encode(message)
        self._output.append((memoryview(frame), descriptor))
        self._output_bytes += len(frame)
        if self._output_bytes > MAX_OUTPUT_BYTES:
            log.warning("the agent does not read its answers; closing its connection")
            self.close()
        else:
            self.flush()

    def flush(self) -> None:
        """Send what the socket takes now."""
        try:
            while self._output:
                view, descriptor = self._output[0]
                fds = [] if descriptor < 0 else [descriptor]
                sent = socket.send_fds(self._peer, [view], fds) if fds else self._peer.send(view)
                self._output_bytes -= sent
                if sent == len(view):
                    self._output.popleft()
                else:
                    self._output[0] = (view[sent:], -1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()

    def _dispatch(self, message: Message) -> None:
        if "cancel" in message:
            self._control().cancel(message["cancel"])
            return
        number = message.get("id")
        if not isinstance(number, int) or not 0 <= number <= MAX_U64:
            raise FrameError("a request without a number")
        try:
            self._serve(number, message)
        except MigsvcError as error:
            self.send({"id": number, "error": error_to_map(error)})
        except Exception as error:
            log.exception("request %s failed", message.get("method"))
            failure = WorkerError(f"the worker failed: {type(error).__name__}: {error}", hint="its log says more")
            self.send({"id": number, "error": error_to_map(failure)})

    def _serve(self, number: int, message: Message) -> None:
        name = message.get("method")
        method = METHODS.get(name) if isinstance(name, str) else None
        if method is None:
            raise InputError(f"the worker has no method {str(name)[:64]!r}")
        control = self._control()
        params = check_params(str(name), method.params, message.get("params", {}))
        result = method.handle(control, params, Call(number, lambda answer: self._answer(number, answer)))
        if result is not LATER:
            self._answer(number, result, self._descriptor(method, control))
        self.quit = name == "quit"

    def _descriptor(self, method: Method, control: VmControl) -> int:
        return control.vm.ram_fd if method.sends_ram else -1

    def _answer(self, number: int, result: Any, descriptor: int = -1) -> None:
        self.send({"id": number, "result": result}, descriptor)
