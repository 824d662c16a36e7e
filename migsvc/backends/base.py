"""What a backend is: one VM as its worker process drives it, and the row that makes one.

A VM is driven by one thread, in slices. RAM is one memfd, which the agent maps as well; everything else crosses the
worker's socket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from migsvc.backends.config import VmConfig
    from schemas.compat import HostProfile

SHADOW_MOV_SS = 1
"""KVM_X86_SHADOW_INT_MOV_SS: the shadow of MOV SS and POP SS."""

SHADOW_STI = 2
"""KVM_X86_SHADOW_INT_STI."""


class Moment(NamedTuple):
    """Where a vCPU is: inside SMM or not, its interrupt shadow, and the one set aside by the SMI."""

    smm: bool
    shadow: int
    smm_shadow: int


PAUSE_CONDITIONS: Mapping[str, Callable[[Moment], bool]] = {
    "any": lambda _moment: True,
    "interrupt_shadow": lambda moment: not moment.smm and moment.shadow != 0,
    "sti_shadow": lambda moment: not moment.smm and bool(moment.shadow & SHADOW_STI),
    "mov_ss_shadow": lambda moment: not moment.smm and bool(moment.shadow & SHADOW_MOV_SS),
    "smm": lambda moment: moment.smm,
    "smm_shadow": lambda moment: moment.smm and moment.smm_shadow != 0,
    "no_smm_shadow": lambda moment: not (moment.smm and moment.smm_shadow),
}
"""The moments at which a VM can be paused; their names are those of the service's PauseWhen."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a VM cannot go on: `reason` is a stable word, `exit_code` what the guest wrote to its debug-exit port.

    `halted` is the one a later event (SMI, NMI, interrupt) can end; the others are final.
    """

    reason: str
    exit_code: int | None = None
    detail: str = ""


HALTED = "halted"
"""The reason of a `Stop` when the vCPU waits in HLT and no timer will ever wake it."""


@dataclass(frozen=True, slots=True)
class SliceResult:
    """What a slice did: steps, virtual time that passed (ns) and how much of it idle in HLT.

    `found` says that the condition of `run_until` holds now; `stop` is set when the VM cannot go on.
    """

    steps: int
    virtual_ns: int = 0
    idle_ns: int = 0
    found: bool = False
    stop: Stop | None = None


@dataclass(frozen=True, slots=True)
class SavedState:
    """A machine's state without its RAM: section name -> raw UAPI struct, for the VM and for each vCPU by index."""

    vm: dict[str, bytes]
    vcpus: list[dict[str, bytes]] = field(default_factory=list)


class Vm(Protocol):
    """One VM inside its worker."""

    @property
    def ram_fd(self) -> int:
        """The memfd of guest RAM."""

    @property
    def ram_bytes(self) -> int:
        """Size of the backing."""

    @property
    def retired(self) -> int:
        """Instructions retired since the VM began, on whatever host."""

    @property
    def console_bytes(self) -> int:
        """Bytes that the serial port has sent since the VM began, on whatever host."""

    def stopped(self) -> Stop | None:
        """Return why the VM cannot go on, as the last slice or the loaded state says; None if it can."""

    def run_slice(self, max_steps: int, max_idle_ns: int) -> SliceResult:
        """Run at most `max_steps` steps; fewer once the guest has idled `max_idle_ns` of virtual time or more."""

    def run_until(self, condition: Callable[[Moment], bool], max_steps: int, max_idle_ns: int) -> SliceResult:
        """Run like `run_slice`, until `condition` holds at a boundary; 0 steps if it holds now."""

    def moment(self) -> Moment:
        """Return where the first vCPU is."""

    def registers(self) -> dict[str, Any]:
        """Return rip and what else says where the first vCPU is, JSON-ready."""

    def describe(self) -> dict[str, Any]:
        """Return what a host needs to build the same machine: `memory`, `vcpus`, `machine`."""

    def save(self) -> SavedState:
        """Return the state."""

    def load(self, saved: SavedState) -> None:
        """Replace the state; all checks come first. RAM may have been changed from outside before.

        Console output from before is no longer given by `take_console`.

        Raises:
            IllegalStateError: with every finding; nothing is changed.
        """

    def smi(self) -> None:
        """Make an SMI pending."""

    def nmi(self) -> None:
        """Make an NMI pending."""

    def interrupt(self, vector: int) -> None:
        """Ask for an external interrupt."""

    def take_console(self) -> bytes:
        """Return what the serial port has sent since the last call."""

    def dirty_start(self) -> None:
        """Begin a dirty log, empty."""

    def dirty_fetch(self) -> bytes:
        """Return the log as a bitmap over the backing (bit n of byte n // 8 = page n), and clear it."""

    def dirty_stop(self) -> None:
        """End the dirty log."""

    def close(self) -> None:
        """Give RAM back."""


class GuestParamInfo(NamedTuple):
    """A number that a bundled guest takes: its default, its bounds and what it means."""

    default: int
    minimum: int
    maximum: int
    description: str


@dataclass(frozen=True, slots=True)
class GuestInfo:
    """A guest that a backend brings along."""

    name: str
    description: str
    ram_bytes: int
    params: Mapping[str, GuestParamInfo]


@dataclass(frozen=True, slots=True)
class Backend:
    """One row of BACKENDS: how to make a VM, what a host of a given name can hold with it, and its bundled guests."""

    name: str
    create: Callable[[VmConfig], Vm]
    profile: Callable[[str], HostProfile]
    guests: tuple[GuestInfo, ...] = ()
