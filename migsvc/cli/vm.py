"""`migsvc vm`: make, run, pause, step and delete VMs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from migsvc.cli.exit_codes import ExitCode
from migsvc.cli.output import Column, print_done, print_record, print_records
from migsvc.cli.session import CliError, Session, api_command, group
from migsvc.units import human_bytes

app = group("vm", "Virtual machines on the host.")

VmArgument = Annotated[str, typer.Argument(metavar="VM", help="name or id of the VM")]

COLUMNS: tuple[Column, ...] = (
    ("name", "name"),
    ("status", lambda vm: vm["status"] + (f" ({vm['stop_reason']})" if vm.get("stop_reason") else "")),
    ("owner", "owner"),
    ("epoch", "epoch"),
    ("guest", "guest"),
    ("ram", lambda vm: human_bytes(vm["ram_bytes"])),
    ("instructions", "retired_instructions"),
    ("id", "id"),
)


class When(StrEnum):
    """The architectural moments of `--when`; the API's `PauseWhen`."""

    any = "any"
    interrupt_shadow = "interrupt_shadow"
    sti_shadow = "sti_shadow"
    mov_ss_shadow = "mov_ss_shadow"
    smm = "smm"
    smm_shadow = "smm_shadow"
    no_smm_shadow = "no_smm_shadow"


def path(vm: str, *rest: str) -> str:
    """Return the API's path of a VM."""
    from migsvc.client import segment

    return "/".join(("/v1/vms", segment(vm), *rest))


def parse_params(pairs: list[str]) -> dict[str, int]:
    """Turn `name=number` arguments into a guest's parameters.

    Raises:
        CliError: a pair is not of that form.
    """
    params = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            params[name] = int(text, 0)
        except ValueError as error:
            raise CliError(f"--param {pair}: must be name=number", ExitCode.USAGE) from error
    return params


def _number(text: str) -> int:
    return int(text, 0)


@api_command(app, "create")
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="name of the new VM")],
    guest: Annotated[str | None, typer.Option(help="bundled guest, e.g. ticker64")] = None,
    param: Annotated[list[str] | None, typer.Option(help="parameter of the guest, name=number; repeatable")] = None,
    image: Annotated[
        list[str] | None, typer.Option("--image", "--flat", help="flat image, FILE@ADDRESS; repeatable")
    ] = None,
    entry: Annotated[int | None, typer.Option(parser=_number, help="address at which flat images begin")] = None,
    bios: Annotated[Path | None, typer.Option(help="firmware ROM, begun at the reset vector")] = None,
    multiboot: Annotated[Path | None, typer.Option(help="multiboot 1 kernel")] = None,
    append: Annotated[str, typer.Option(help="command line of a multiboot kernel")] = "",
    cpu: Annotated[str | None, typer.Option(help="CPU model; default x86-64")] = None,
    board: Annotated[str | None, typer.Option(help="minimal or pc; default minimal")] = None,
    ram_mib: Annotated[int | None, typer.Option(min=1, help="RAM in MiB")] = None,
    run: Annotated[bool, typer.Option("--run", help="run it at once")] = False,
) -> None:
    """Make a VM from a bundled guest, a ROM, a kernel, or flat images. Files are read here and sent to the host."""
    body: dict[str, Any] = {"name": name, "guest": guest, "guest_params": parse_params(param or []), "run": run}
    body["images"] = [_image(text) for text in image or []]
    body.update({"boot": _boot(bios, multiboot, append), "entry": entry, "cpu_model": cpu, "board": board})
    body["ram_bytes"] = None if ram_mib is None else ram_mib << 20
    record = session.client.post("/v1/vms", body)
    print_done(record, f"VM {name} is {record['status']}, id {record['id']}", session.output)


def _boot(bios: Path | None, multiboot: Path | None, append: str) -> dict[str, Any] | None:
    import base64

    if bios is not None and multiboot is not None:
        raise CliError("--bios and --multiboot are given together", ExitCode.USAGE)
    file = bios or multiboot
    if file is None:
        return None
    data = base64.b64encode(file.read_bytes()).decode("ascii")
    return {"kind": "bios" if bios else "multiboot", "data_base64": data, "append": append}


def _image(text: str) -> dict[str, Any]:
    import base64

    file, _, address = text.rpartition("@")
    try:
        return {"gpa": int(address, 0), "data_base64": base64.b64encode(Path(file).read_bytes()).decode("ascii")}
    except ValueError as error:
        raise CliError(f"--image {text}: must be FILE@ADDRESS, e.g. boot.bin@0x7c00", ExitCode.USAGE) from error


@api_command(app, "list")
def list_(
    session: Session,
    status: Annotated[list[str] | None, typer.Option(help="only this status; repeatable")] = None,
    guest: Annotated[str | None, typer.Option(help="only this guest")] = None,
) -> None:
    """List the VMs."""
    print_records(session.client.pages("/v1/vms", status=status, guest=guest), COLUMNS, session.output)


@api_command(app, "show")
def show(session: Session, vm: VmArgument) -> None:
    """Show one VM."""
    print_record(session.client.get(path(vm)), session.output)


@api_command(app, "run")
def run_(session: Session, vm: VmArgument) -> None:
    """Let a VM run."""
    record = session.client.post(path(vm, "run"))
    print_done(record, f"VM {record['name']} is {record['status']}", session.output)


@api_command(app, "pause")
def pause(
    session: Session,
    vm: VmArgument,
    when: Annotated[When, typer.Option(help="moment to wait for")] = When.any,
    limit_instructions: Annotated[int | None, typer.Option(min=1, help="give up after this many")] = None,
) -> None:
    """Pause a VM, at a chosen architectural moment if wanted."""
    body: dict[str, Any] = {"when": when.value}
    if limit_instructions is not None:
        body["limit_instructions"] = limit_instructions
    record = session.client.post(path(vm, "pause"), body)
    sentence = f"VM {record['name']} is {record['status']} after {record['retired_instructions']} instructions"
    print_done(record, sentence, session.output)


@api_command(app, "step")
def step(
    session: Session, vm: VmArgument, n: Annotated[int, typer.Argument(metavar="[N]", min=1, help="how many")] = 1
) -> None:
    """Run exactly N instructions of a paused VM."""
    result = session.client.post(path(vm, "step"), {"instructions": n})
    print_done(result, f"{result['steps']} steps ({result['reason']}), rip {result['rip']}", session.output)


@api_command(app, "smi")
def smi(session: Session, vm: VmArgument) -> None:
    """Make a system management interrupt pending."""
    record = session.client.post(path(vm, "smi"))
    print_done(record, f"an SMI is pending in VM {record['name']}", session.output)


@api_command(app, "nmi")
def nmi(session: Session, vm: VmArgument) -> None:
    """Make a non-maskable interrupt pending."""
    record = session.client.post(path(vm, "nmi"))
    print_done(record, f"an NMI is pending in VM {record['name']}", session.output)


@api_command(app, "interrupt")
def interrupt(
    session: Session, vm: VmArgument, vector: Annotated[int, typer.Argument(min=0, max=255, help="vector")]
) -> None:
    """Ask for an external interrupt."""
    record = session.client.post(path(vm, "interrupt"), {"vector": vector})
    print_done(record, f"interrupt {vector} is asked for in VM {record['name']}", session.output)


@api_command(app, "delete")
def delete(session: Session, vm: VmArgument) -> None:
    """End and forget a VM; its snapshots stay."""
    session.client.delete(path(vm))
    print_done(None, f"VM {vm} is deleted", session.output)
