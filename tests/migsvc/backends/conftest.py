import asyncio
import importlib.util
import os
import signal
from pathlib import Path

import pytest

from migsvc.backends.client import WorkerHandle
from migsvc.backends.config import VmConfig


@pytest.fixture(scope="session")
def fake():
    path = Path(__file__).with_name("fake_vm.py")
    spec = importlib.util.spec_from_file_location("migsvc_tests_fake_vm", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Workers:
    """Starts workers of the fake backend; ends those that a test leaves."""

    def __init__(self, run_dir, fake):
        self.run_dir = run_dir
        self.fake = fake
        self.pids = []

    async def spawn(self, vm_id="vm-1", *, incoming=False, epoch=1, paced=False, ram_bytes=None, **params):
        config = VmConfig(
            backend="fake", guest_params=params, incoming=incoming, epoch=epoch, paced=paced, ram_bytes=ram_bytes
        )
        handle = await WorkerHandle.spawn(self.run_dir, vm_id, config, program=self.fake.PROGRAM)
        self.pids.append(handle.pid)
        return handle

    async def adopt(self, vm_id="vm-1"):
        return await WorkerHandle.adopt(self.run_dir, vm_id)


@pytest.fixture
def workers(tmp_path, fake):
    workers = Workers(tmp_path / "run", fake)
    yield workers
    for pid in workers.pids:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


@pytest.fixture
def run():
    return asyncio.run
