"""The page of a state as people read it."""

from __future__ import annotations

from typing import Any

import typer

from migsvc.cli.documents import StateDocument, VcpuDocument
from migsvc.cli.output import print_rows
from migsvc.units import shadow_text

GENERAL_REGISTERS = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags"),
)
CONTROL_REGISTERS = ("cr0", "cr2", "cr3", "cr4", "efer")


def print_page(document: StateDocument, *, everything: bool) -> None:
    """Print the registers and events of every vCPU; `everything` adds the sections that are there."""
    vcpus = [document.state] if isinstance(document, VcpuDocument) else document.state.vcpus
    for vcpu in vcpus:
        typer.secho(f"vCPU {vcpu.index}", bold=True)
        print_rows(("register", "value"), rows_of(vcpu.model_dump(mode="json")))
        if everything:
            print_rows(("section", "bytes"), [(name, str(len(raw))) for name, raw in vcpu.to_sections().items()])


def rows_of(state: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what people want to see first: registers, then events."""
    regs, sregs, events = state["regs"], state["sregs"], state["events"]
    rows = [(name, str(regs[name])) for name in GENERAL_REGISTERS]
    rows += [(name, str(sregs[name])) for name in CONTROL_REGISTERS if name in sregs]
    shadow, smi = events["interrupt"]["shadow"], events["smi"]
    rows.append(("shadow", shadow_text(shadow["current"])))
    rows.append(("smm", "yes" if smi["smm"] else "no"))
    rows.append(("smm shadow", shadow_text(shadow["smm"])))
    rows.append(("smi pending", "yes" if smi["pending"] else "no"))
    return rows
