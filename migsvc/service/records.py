"""The records that the service answers with and the requests that it takes, as Pydantic models.

They are the API's JSON and what the CLI prints. Names of states are stable: clients compare them.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
"""A name of a VM, snapshot or peer: it becomes part of paths and URLs, hence the narrow alphabet."""

T = TypeVar("T")

Name = Annotated[str, Field(pattern=NAME_PATTERN, examples=["web-1"])]


class Record(BaseModel):
    """Base of all records: unknown members are refused, so that a misspelt option is an error."""

    model_config = ConfigDict(extra="forbid")


class VmStatus(StrEnum):
    """What a VM does on this host."""

    CREATING = "creating"
    PAUSED = "paused"
    RUNNING = "running"
    HALTED = "halted"  # HLT with nothing that can ever wake the vCPU
    STOPPED = "stopped"  # debug exit or shutdown (triple fault); `stop_reason` says which
    INCOMING = "incoming"  # a migration is bringing it here; it must not run yet
    MIGRATED = "migrated"  # another host owns it now
    LOST = "lost"  # its worker process died; only a snapshot can bring it back


class PauseWhen(StrEnum):
    """The architectural moment at which a running vCPU is to be paused."""

    ANY = "any"  # the next instruction boundary
    INTERRUPT_SHADOW = "interrupt_shadow"  # in an STI or MOV SS shadow, outside SMM
    STI_SHADOW = "sti_shadow"  # in an STI shadow, outside SMM
    MOV_SS_SHADOW = "mov_ss_shadow"  # in a MOV SS or POP SS shadow, outside SMM
    SMM = "smm"  # inside the SMI handler
    SMM_SHADOW = "smm_shadow"  # inside the SMI handler, with a shadow set aside
    NO_SMM_SHADOW = "no_smm_shadow"  # with no shadow set aside: outside SMM, or entered without one


class ImageSpec(Record):
    """A flat image that is written into guest memory before the first instruction."""

    gpa: int = Field(ge=0, description="guest physical address of the first byte")
    as_id: Literal[0, 1] = Field(default=0, description="address space: 0 normal, 1 SMM")
    data_base64: str = Field(max_length=96 * 1024 * 1024, description="the bytes, base64")


class BootSpec(Record):
    """An image that says itself where it goes: a firmware ROM, or a multiboot kernel with its command line."""

    kind: Literal["bios", "multiboot"]
    data_base64: str = Field(max_length=96 * 1024 * 1024, description="the file, base64")
    append: str = Field(default="", max_length=4000, description="command line of a multiboot kernel")


class VmCreate(Record):
    """A request for a new VM: a bundled guest, or a ROM or kernel, or flat images."""

    name: Name
    backend: str = Field(default="emulator", max_length=32)
    guest: str | None = Field(default=None, max_length=64, description="a bundled guest, e.g. ticker64")
    guest_params: dict[str, int] = Field(default_factory=dict, description="the guest's parameters, e.g. ticks")
    images: list[ImageSpec] = Field(default_factory=list, max_length=64)
    boot: BootSpec | None = Field(default=None, description="a firmware ROM or a multiboot kernel, in place of images")
    entry: int | None = Field(
        default=None, ge=0, le=0x10FFEF, description="linear address at which flat images begin, in real mode"
    )
    cpu_model: str | None = Field(default=None, max_length=32, description="CPU model; default x86-64")
    board: Literal["minimal", "pc"] | None = Field(default=None, description="devices around the vCPU; default minimal")
    ram_bytes: int | None = Field(default=None, ge=64 * 1024, le=64 << 30, description="multiple of 4096")
    run: bool = Field(default=False, description="run at once")


class VmRecord(Record):
    """One VM as this host knows it."""

    id: str
    name: str
    backend: str
    guest: str | None
    status: VmStatus
    stop_reason: str | None = None
    exit_code: int | None = Field(default=None, description="what the guest wrote to the debug-exit port")
    owner: str = Field(description="name of the host that owns the VM")
    epoch: int = Field(description="ownership epoch; grows by one at each handover")
    ram_bytes: int
    vcpus: int
    retired_instructions: int | None = None
    console_bytes: int | None = None
    worker_pid: int | None = None
    migration: str | None = Field(default=None, description="id of the migration in progress")
    created_at: datetime


class ConsoleChunk(Record):
    """A piece of the guest's serial output; offsets count from the VM's first byte ever, on whatever host."""

    offset: int
    next_offset: int
    text: str
    data_base64: str


class StepResult(Record):
    """What an exact step did."""

    steps: int
    reason: str
    retired_instructions: int
    rip: str


class PeerCreate(Record):
    """Another host, by name. Migrations name peers, never URLs."""

    name: Name
    url: str = Field(max_length=256, pattern=r"^https?://", examples=["http://127.0.0.1:7702"])
    token_file: str | None = Field(default=None, max_length=4096, description="file with the peer's bearer token")


class PeerRecord(Record):
    """A registered peer."""

    name: str
    url: str
    host_id: str | None = None
    migration_address: str | None = None
    created_at: datetime


class SnapshotCreate(Record):
    """A request for a snapshot of one VM."""

    vm: str
    name: Name | None = None


class SnapshotStatus(StrEnum):
    """Life of a snapshot."""

    WRITING = "writing"
    READY = "ready"
    FAILED = "failed"


class SnapshotRecord(Record):
    """A snapshot: a stream file that `migsvc stream verify` accepts."""

    id: str
    name: str | None
    status: SnapshotStatus
    vm: str | None = Field(description="id of the VM it was taken of; null when uploaded")
    vm_name: str
    epoch: int
    size_bytes: int
    ram_bytes: int
    state_digest: str = Field(description="hex digest of every vCPU, device and memory byte")
    summary: list[dict[str, Any]] = Field(default_factory=list, description="per vCPU: rip, smm, shadows")
    error: dict[str, Any] | None = None
    created_at: datetime


class SnapshotRestore(Record):
    """A request to make a new VM of a snapshot."""

    name: Name
    run: bool = False


class SmmShadowLoss(StrEnum):
    """What to do if the destination has no place for an interrupt shadow that an SMI has put aside."""

    REFUSE = "refuse"  # the migration fails, the VM goes on
    WAIT = "wait"  # the guest runs on to its RSM, then it moves
    ACCEPT = "accept"  # it moves without; the record says what was lost


class MigrationOptions(Record):
    """How a migration is to run."""

    downtime_limit_ms: int = Field(default=300, ge=1, le=2_000_000, description="as QEMU: 300 ms by default")
    bandwidth_limit_bytes: int | None = Field(default=None, ge=65536, description="bytes a second on the wire")
    max_rounds: int = Field(default=30, ge=1, le=1000, description="then stop-and-copy whatever remains")
    timeout_s: float = Field(default=3600, gt=0, le=86_400, description="then the migration is cancelled")
    pause_when: PauseWhen = Field(default=PauseWhen.ANY, description="moment of the stop-and-copy")
    pause_limit_instructions: int = Field(
        default=50_000_000, ge=1, description="how far to run in search of that moment before the migration fails"
    )
    smm_shadow_loss: SmmShadowLoss = Field(
        default=SmmShadowLoss.REFUSE,
        description="if the peer would lose a shadow put aside by an SMI (Linux before 6.2): refuse, wait until RSM "
        "within pause_limit_instructions, or accept the loss",
    )


class MigrationCreate(Record):
    """A request to move one VM to a peer."""

    vm: str
    peer: str
    options: MigrationOptions = Field(default_factory=MigrationOptions)


class MigrationState(StrEnum):
    """Phases of a migration, as both hosts name them."""

    QUEUED = "queued"
    CONNECTING = "connecting"
    NEGOTIATING = "negotiating"
    PRECOPY = "precopy"
    STOP_AND_COPY = "stop_and_copy"
    VERIFYING = "verifying"  # the destination compares digests
    PREPARED = "prepared"  # destination: holds a verified copy, awaits COMMIT
    COMMITTED = "committed"  # ownership has moved; the destination is being told
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


class RoundStats(Record):
    """One pre-copy round, or the final one."""

    round: int
    pages: int
    zero_pages: int
    bytes: int
    duration_ns: int
    dirty_pages_after: int


class Translation(Record):
    """How the state was said so that the other host understands it, and what that lost."""

    schema_version: int = Field(description="the highest that both hosts speak")
    smm_carrier: str | None = Field(description="where a shadow put aside by an SMI travels; null: nowhere")
    waited: bool = Field(default=False, description="the guest ran on until no shadow was put aside")
    losses: list[dict[str, Any]] = Field(default_factory=list, description="findings; empty: nothing was lost")
    notes: list[dict[str, Any]] = Field(default_factory=list, description="findings: what was said differently")


class MigrationStats(Record):
    """Figures of one migration; durations in ns on the host that measured them."""

    rounds: list[RoundStats] = Field(default_factory=list)
    pages: int = 0
    zero_pages: int = 0
    bytes: int = Field(default=0, description="bytes on the wire, source to destination")
    phases_ns: dict[str, int] = Field(default_factory=dict, description="phase -> duration")
    downtime_ns: int | None = Field(default=None, description="from the pause to the destination's Running")
    total_ns: int | None = None
    carried: list[dict[str, Any]] = Field(
        default_factory=list,
        description="per vCPU at the switch-over: rip, smm, shadow, smm_shadow, retired_instructions",
    )
    translation: Translation | None = Field(default=None, description="null until both hosts have greeted each other")


class MigrationRecord(Record):
    """One migration as this host knows it."""

    id: str
    role: Literal["source", "destination"]
    vm: str
    vm_name: str
    peer: str = Field(description="name of the other host")
    state: MigrationState
    owner: str = Field(description="who owns the VM now, as far as this host knows")
    epoch: int
    explanation: str = Field(description="why that host is the owner, in one sentence")
    options: MigrationOptions
    stats: MigrationStats
    error: dict[str, Any] | None = None
    created_at: datetime
    updated_at: datetime


class MigrationEvent(Record):
    """One entry of a migration's event list (SSE `id:` is `seq`)."""

    seq: int
    at: datetime
    type: Literal["state", "round", "progress", "error", "end"]
    data: dict[str, Any]


class Page(BaseModel, Generic[T]):
    """One page of a list, and the cursor of the next."""

    items: list[T]
    next: str | None = None
