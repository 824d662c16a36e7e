"""Use cases on one VM: make it, run it, stop it, look into it, change its state."""

from __future__ import annotations

from migsvc.service.records import ConsoleChunk, Page, PauseWhen, StepResult, VmCreate, VmRecord
from schemas.state import MachineState, VcpuState


class Vms:
    """The VMs of this host; `ref` is an id or a name everywhere."""

    async def create(self, request: VmCreate) -> VmRecord:
        """Make a VM in a worker process of its own."""
        raise NotImplementedError

    async def list(self, cursor: str | None = None, limit: int = 100) -> Page[VmRecord]:
        """Return one page of the VMs, oldest first."""
        raise NotImplementedError

    async def get(self, ref: str) -> VmRecord:
        """Return one VM."""
        raise NotImplementedError

    async def delete(self, ref: str) -> None:
        """End the VM's worker and forget the VM."""
        raise NotImplementedError

    async def run(self, ref: str) -> VmRecord:
        """Let the VM run."""
        raise NotImplementedError

    async def pause(
        self, ref: str, when: PauseWhen = PauseWhen.ANY, limit_instructions: int = 50_000_000
    ) -> VmRecord:
        """Pause the VM at the next boundary at which `when` holds."""
        raise NotImplementedError

    async def step(self, ref: str, n: int) -> StepResult:
        """Run exactly n instructions of a paused VM."""
        raise NotImplementedError

    async def smi(self, ref: str) -> VmRecord:
        """Make an SMI pending."""
        raise NotImplementedError

    async def nmi(self, ref: str) -> VmRecord:
        """Make an NMI pending."""
        raise NotImplementedError

    async def interrupt(self, ref: str, vector: int) -> VmRecord:
        """Ask for an external interrupt with that vector."""
        raise NotImplementedError

    async def console(self, ref: str, offset: int = 0, max_bytes: int = 65536, wait_s: float = 0) -> ConsoleChunk:
        """Return console output from `offset` on; wait up to `wait_s` for the first byte."""
        raise NotImplementedError

    async def get_state(self, ref: str, vcpu: int) -> VcpuState:
        """Return the state of one vCPU."""
        raise NotImplementedError

    async def put_state(self, ref: str, vcpu: int, state: VcpuState) -> VcpuState:
        """Replace the state of one vCPU of a paused VM; all or nothing."""
        raise NotImplementedError

    async def get_machine(self, ref: str) -> MachineState:
        """Return the state of the whole machine."""
        raise NotImplementedError
