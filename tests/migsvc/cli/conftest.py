"""A scripted HTTP host: what the CLI sends is kept, what it gets is chosen by the test."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from migsvc.api import examples
from migsvc.cli import app
from migsvc.stream import Config, StreamHeader, write_machine
from schemas.edit import edit_state
from schemas.memory import MemoryMap, MemorySlot
from schemas.state import MachineState, VcpuState, VmState
from schemas.uapi.clock import KvmClockData


class ScriptedHost:
    """Answers `METHOD /path` from a table; unknown requests are answered 404 as a problem."""

    def __init__(self):
        self.answers = {}
        self.requests = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self):
                length = int(self.headers.get("Content-Length") or 0)
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = b""
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    body = self.rfile.read(length)
                key = f"{self.command} {self.path.partition('?')[0]}"
                host.requests.append((f"{self.command} {self.path}", body, dict(self.headers)))
                problem = {
                    "type": "/problems/not-found",
                    "title": "Not found",
                    "status": 404,
                    "detail": f"no {self.path}",
                }
                answer = host.answers.get(key, (404, problem))
                if isinstance(answer, list):
                    answer = answer.pop(0) if len(answer) > 1 else answer[0]
                status, document, *missing = answer  # missing: bytes announced and not sent
                data = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data) + sum(missing)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_DELETE = handle_any

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    @property
    def bodies(self):
        return [json.loads(body) for _, body, _ in self.requests if body]


@pytest.fixture
def host():
    scripted = ScriptedHost()
    yield scripted
    scripted.close()


@pytest.fixture
def run(host, monkeypatch):
    for name in ("MIGSVC_SERVER", "MIGSVC_OUTPUT", "MIGSVC_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)

    def invoke(*arguments, server=True, **options):
        extra = ["--server", host.url] if server else []
        return CliRunner().invoke(app, [*arguments, *extra], **options)

    return invoke


@pytest.fixture
def vcpu():
    """A legal vCPU in SMM, the shadow of an STI put aside in the events."""
    state = VcpuState.model_validate(examples.vcpu_state())
    assignments = (
        "msrs.MSR_IA32_SMBASE=0x30000",
        "events.smi.smm=1",
        "events.interrupt.shadow.smm=sti",
        "sregs.cr0=0x60000010",
        "debugregs.dr6=0xffff0ff0",
        "debugregs.dr7=0x400",
    )
    return edit_state(state, assignments).state


@pytest.fixture
def machine(vcpu):
    """One vCPU, a clock, and 1 MiB of RAM in both address spaces."""
    slots = tuple(MemorySlot(as_id=n, slot=0, gpa=0, size_bytes=1 << 20, backing_offset_bytes=0) for n in (0, 1))
    return MachineState(
        memory=MemoryMap(slots=slots, ram_bytes=1 << 20), vm=VmState(clock=KvmClockData.zero()), vcpus=[vcpu]
    )


@pytest.fixture
def machine_file(machine, tmp_path):
    """The machine as a snapshot; the second page of its RAM begins with 1."""
    file = tmp_path / "machine.migsvc"
    config = Config("vm-1", "web", "emulator", None, 3, "host-a", 2, machine.memory, 1, {"tsc_khz": 1_000_000})
    header = StreamHeader(bytes(range(16)), 1_700_000_000_000_000_000, 2)
    ram = bytearray(machine.memory.ram_bytes)
    ram[4096] = 1
    sections = machine.to_sections()
    file.write_bytes(b"".join(write_machine(header, config, ram, [(1, 1)], sections.vm, sections.vcpus)))
    return str(file)
