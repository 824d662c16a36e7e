"""The methods of a worker, one row each: name, parameters with their bounds, and what it does."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from migsvc.backends.base import PAUSE_CONDITIONS, SavedState
from migsvc.backends.config import parse_config
from migsvc.backends.console import RETAINED_BYTES
from migsvc.backends.control import Answer, VmControl
from migsvc.backends.params import Param
from migsvc.errors import InputError

MAX_SECTIONS = 64
MAX_SECTION_BYTES = 1 << 20
MAX_VCPUS = 1024
MAX_STEPS = 1 << 48

LATER = object()
"""A handler's result when the answer comes by itself, once a job has ended."""

Params = Mapping[str, Any]


class Call(NamedTuple):
    """One request: its number on this connection, and where its answer goes."""

    id: int
    answer: Answer


class Method(NamedTuple):
    """One row of METHODS."""

    doc: str
    handle: Callable[[VmControl, Params, Call], Any]
    params: tuple[Param, ...] = ()
    sends_ram: bool = False


def _hello(control: VmControl, _params: Params, _call: Call) -> dict[str, Any]:
    return {"pid": os.getpid(), "vm": control.vm_id, **control.describe_status()}


def _create(control: VmControl, params: Params, _call: Call) -> dict[str, Any]:
    control.create(parse_config(params["config"]))
    return control.describe_status()


def _run(control: VmControl, params: Params, _call: Call) -> dict[str, Any]:
    control.run(params["epoch"])
    return control.describe_status()


def _pause(control: VmControl, params: Params, call: Call) -> object:
    control.pause(params["when"], params["limit_instructions"], call.id, call.answer)
    return LATER


def _step(control: VmControl, params: Params, call: Call) -> object:
    control.step(params["n"], call.id, call.answer)
    return LATER


def _inject(name: str) -> Callable[[VmControl, Params, Call], dict[str, Any]]:
    def handle(control: VmControl, params: Params, _call: Call) -> dict[str, Any]:
        control.inject(lambda vm: getattr(vm, name)(*params.values()))
        return control.describe_status()

    return handle


def _console(control: VmControl, params: Params, _call: Call) -> dict[str, Any]:
    offset, data = control.console.read(params["since"], params["max_bytes"])
    return {"offset": offset, "data": data, "base": control.console.base, "end": control.console.end}


def _console_export(control: VmControl, _params: Params, _call: Call) -> dict[str, Any]:
    offset, data = control.console.read(0, RETAINED_BYTES)
    return {"offset": offset, "data": data}


def _console_import(control: VmControl, params: Params, _call: Call) -> dict[str, Any]:
    control.console.load(params["offset"], params["data"])
    return {"base": control.console.base, "end": control.console.end}


def _save(control: VmControl, _params: Params, _call: Call) -> dict[str, Any]:
    saved = control.save()
    return {"vm": saved.vm, "vcpus": saved.vcpus}


def _load(control: VmControl, params: Params, _call: Call) -> dict[str, Any]:
    vcpus = [_sections(f"vcpus[{n}]", raw) for n, raw in enumerate(params["vcpus"])]
    control.load(SavedState(_sections("vm", params["vm"]), vcpus))
    return control.describe_status()


def _sections(where: str, raw: object) -> dict[str, bytes]:
    """Return sections as checked: names to bytes. Their contents are the backend's to check."""
    if not isinstance(raw, dict) or len(raw) > MAX_SECTIONS:
        raise InputError(f"load: {where} must be a map of at most {MAX_SECTIONS} sections")
    for name, data in raw.items():
        if not isinstance(name, str) or not isinstance(data, bytes) or len(data) > MAX_SECTION_BYTES:
            raise InputError(
                f"load: {where}: section {str(name)[:64]!r} must be at most {MAX_SECTION_BYTES} bytes under a name"
            )
    return dict(raw)


def _call_control(name: str, *, epoch: bool = False) -> Callable[[VmControl, Params, Call], dict[str, Any]]:
    def handle(control: VmControl, params: Params, _call: Call) -> dict[str, Any]:
        getattr(control, name)(*([params["epoch"]] if epoch else []))
        return control.describe_status()

    return handle


def _dirty_start(control: VmControl, _params: Params, _call: Call) -> dict[str, Any]:
    control.vm.dirty_start()
    return {}


def _dirty_fetch(control: VmControl, _params: Params, _call: Call) -> dict[str, Any]:
    return {"bitmap": control.vm.dirty_fetch()}


def _dirty_stop(control: VmControl, _params: Params, _call: Call) -> dict[str, Any]:
    control.vm.dirty_stop()
    return {}


_EPOCH = Param("epoch", int, least=1, most=(1 << 63) - 1)

METHODS: Mapping[str, Method] = {
    "hello": Method("who the worker is, and the VM's status", _hello),
    "create": Method("make the VM", _create, (Param("config", dict),)),
    "status": Method("the VM's status", lambda control, _params, _call: control.describe_status()),
    "describe": Method(
        "memory map, vCPUs and machine, for `create` on another host", lambda c, _p, _c: c.vm.describe()
    ),
    "ram_fd": Method(
        "guest RAM's memfd, as SCM_RIGHTS", lambda c, _p, _c: {"ram_bytes": c.vm.ram_bytes}, sends_ram=True
    ),
    "run": Method("let the VM run under its epoch", _run, (_EPOCH,)),
    "pause": Method(
        "pause at the next moment `when`; not found within the limit: go on as before",
        _pause,
        (
            Param("when", str, "any", choices=tuple(PAUSE_CONDITIONS)),
            Param("limit_instructions", int, 50_000_000, least=1, most=MAX_STEPS),
        ),
    ),
    "step": Method("run exactly n steps of a paused VM", _step, (Param("n", int, least=1, most=MAX_STEPS),)),
    "smi": Method("make an SMI pending", _inject("smi")),
    "nmi": Method("make an NMI pending", _inject("nmi")),
    "interrupt": Method("ask for an external interrupt", _inject("interrupt"), (Param("vector", int, most=255),)),
    "console": Method(
        "retained serial output from an offset on",
        _console,
        (Param("since", int, 0), Param("max_bytes", int, 65536, least=1, most=RETAINED_BYTES)),
    ),
    "console_export": Method("all retained serial output, for another host", _console_export),
    "console_import": Method(
        "output that another host retained; it ends where this VM's begins",
        _console_import,
        (Param("offset", int), Param("data", bytes, most=RETAINED_BYTES)),
    ),
    "save": Method("the state of a paused VM: sections of the VM and of each vCPU", _save),
    "load": Method(
        "replace the state of a paused VM, all or nothing",
        _load,
        (Param("vm", dict, most=MAX_SECTIONS), Param("vcpus", list, least=1, most=MAX_VCPUS)),
    ),
    "dirty_start": Method("begin a dirty log, empty", _dirty_start),
    "dirty_fetch": Method("the dirty log as a bitmap over the backing; clears it", _dirty_fetch),
    "dirty_stop": Method("end the dirty log", _dirty_stop),
    "grant": Method("give the right to run under a new epoch", _call_control("grant", epoch=True), (_EPOCH,)),
    "fence": Method(
        "stop, and never run again: another host owns the VM", _call_control("fence", epoch=True), (_EPOCH,)
    ),
    "quit": Method("end the worker and its VM", lambda _control, _params, _call: {}),
}
"""Every method; `quit` is answered here and done by the worker."""
