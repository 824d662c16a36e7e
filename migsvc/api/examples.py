"""Examples for OpenAPI. A test parses each with its model, so that they cannot drift."""

from __future__ import annotations

from typing import Any

from schemas.compat import HostProfile
from schemas.shadow import SmmCarrier
from schemas.state import VcpuState
from schemas.uapi import VCPU_SECTIONS, VM_SECTIONS
from schemas.uapi.cpuid2 import KvmCpuid2

AT = "2026-11-22T10:00:00Z"

VM: dict[str, Any] = {
    "id": "8f0c2a51c3d94d0b8a7e6f5d4c3b2a19",
    "name": "web-1",
    "backend": "emulator",
    "guest": "ticker64",
    "status": "running",
    "stop_reason": None,
    "exit_code": None,
    "owner": "host-a",
    "epoch": 1,
    "ram_bytes": 16777216,
    "vcpus": 1,
    "retired_instructions": 1200000,
    "console_bytes": 512,
    "worker_pid": 4711,
    "migration": None,
    "created_at": AT,
}
PAUSED_VM = {**VM, "status": "paused"}

CONSOLE: dict[str, Any] = {"offset": 0, "next_offset": 6, "text": "tick 1", "data_base64": "dGljayAx"}

STEP: dict[str, Any] = {"steps": 1, "reason": "budget", "retired_instructions": 1200001, "rip": "0x0000000000100042"}

CARRIED: dict[str, Any] = {
    "vcpu": 0,
    "rip": "0x8042",
    "smm": True,
    "shadow": "none",
    "smm_shadow": "sti",
    "flags": "0x5d",
    "retired_instructions": 1200000,
    "console_bytes": 512,
}
SNAPSHOT: dict[str, Any] = {
    "id": "5b1d0c6e7f8a4b2c9d3e1f0a2b4c6d8e",
    "name": "before-upgrade",
    "status": "ready",
    "vm": VM["id"],
    "vm_name": "web-1",
    "epoch": 1,
    "size_bytes": 1058816,
    "ram_bytes": 16777216,
    "state_digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "summary": [CARRIED],
    "error": None,
    "created_at": AT,
}
WRITING_SNAPSHOT = {**SNAPSHOT, "status": "writing", "size_bytes": 0, "state_digest": "", "summary": []}

PEER: dict[str, Any] = {
    "name": "host-b",
    "url": "http://127.0.0.1:7702",
    "host_id": "0d9f3c1b2a4e5f60718293a4b5c6d7e8",
    "migration_address": "127.0.0.1:40711",
    "created_at": AT,
}

OPTIONS: dict[str, Any] = {
    "downtime_limit_ms": 300,
    "bandwidth_limit_bytes": None,
    "max_rounds": 30,
    "timeout_s": 3600.0,
    "pause_when": "smm_shadow",
    "pause_limit_instructions": 50000000,
    "smm_shadow_loss": "refuse",
}

TRANSLATION: dict[str, Any] = {
    "schema_version": 2,
    "smm_carrier": "events_nibble",
    "waited": False,
    "losses": [],
    "notes": [],
}

MIGRATION: dict[str, Any] = {
    "id": "c0ffee00112233445566778899aabbcc",
    "role": "source",
    "vm": VM["id"],
    "vm_name": "web-1",
    "peer": "host-b",
    "state": "completed",
    "owner": "host-b",
    "epoch": 2,
    "explanation": "host-b owns the VM: the handover was committed as epoch 2",
    "options": OPTIONS,
    "stats": {
        "rounds": [
            {
                "round": 0,
                "pages": 300,
                "zero_pages": 3796,
                "bytes": 1230000,
                "duration_ns": 21000000,
                "dirty_pages_after": 12,
            }
        ],
        "pages": 312,
        "zero_pages": 3796,
        "bytes": 1280000,
        "phases_ns": {"precopy": 21000000, "stop_and_copy": 4000000},
        "downtime_ns": 9000000,
        "total_ns": 60000000,
        "carried": [CARRIED],
        "translation": TRANSLATION,
    },
    "error": None,
    "created_at": AT,
    "updated_at": AT,
}
QUEUED_MIGRATION: dict[str, Any] = {
    **MIGRATION,
    "state": "queued",
    "owner": "host-a",
    "epoch": 1,
    "explanation": "host-a owns the VM: nothing has been handed over",
    "stats": {},
}
EVENT: dict[str, Any] = {"seq": 1, "at": AT, "type": "state", "data": {"state": "connecting"}}


def page(item: dict[str, Any]) -> dict[str, Any]:
    """Return a page that holds one item and has a next page."""
    return {"items": [item], "next": "b2Zmc2V0OjE"}


def vcpu_state() -> dict[str, Any]:
    """Return a whole vCPU state, zeros but for what the rules ask for, in real mode at 0x8042."""
    empty = {name: bytes(row.model.SIZE) for name, row in VCPU_SECTIONS.items() if row.required}
    document: dict[str, Any] = VcpuState.from_sections(empty).model_dump(mode="json")
    document["regs"].update(rip="0x8042", rflags="0x2")
    document["tsc_khz"]["tsc_khz"] = 1_000_000
    return document


def host_profile() -> dict[str, Any]:
    """Return the profile of a host that holds every section."""
    profile = HostProfile(
        name="host-b",
        vendor="emulated",
        backends=("emulator",),
        schema_versions=(1, 2),
        stream_versions=(1,),
        smm=True,
        smm_carriers=(SmmCarrier.EVENTS_NIBBLE, SmmCarrier.SMRAM),
        event_flags=0x7F,
        vcpu_sections=tuple(VCPU_SECTIONS),
        vm_sections=tuple(VM_SECTIONS),
        max_vcpus=1,
        max_ram_bytes=1 << 36,
        cpuid=KvmCpuid2.unpack(bytes(KvmCpuid2.SIZE)),
        msr_indices=(0x10, 0x1B, 0xC0000080),
        xcr0_mask=7,
        xsave_bytes=4096,
        tsc_khz_min=1_000_000,
        tsc_khz_max=1_000_000,
    )
    document: dict[str, Any] = profile.model_dump(mode="json")
    return document
