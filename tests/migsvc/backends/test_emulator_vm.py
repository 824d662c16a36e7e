import asyncio
import mmap
import os
import struct
import time

import numpy as np
import pytest

from emulator import instruction
from migsvc.backends import BACKENDS
from migsvc.backends.base import PAUSE_CONDITIONS, SavedState
from migsvc.backends.client import WorkerHandle
from migsvc.backends.config import Boot, Image, VmConfig
from migsvc.errors import ConflictError, IllegalStateError, InputError, LimitError
from migsvc.transport.pages import pages_of_bitmap
from schemas.compat import check_compat
from schemas.memory import MemoryMap
from schemas.state import MachineState

NEVER_IDLE = 1 << 62


@pytest.fixture
def make():
    made = []

    def create(**config):
        made.append(BACKENDS["emulator"].create(VmConfig(**config)))
        return made[-1]

    yield create
    for vm in made:
        vm.close()


def ticker(make, guest="ticker32", **params):
    return make(guest=guest, guest_params={"ticks": 40, "working_set_pages": 4, **params}, ram_bytes=2 << 20)


def ram_of(vm):
    return os.pread(vm.ram_fd, vm.ram_bytes, 0)


def state_of(vm):
    saved = vm.save()
    return saved.vm, saved.vcpus, ram_of(vm), vm.retired


def move(make, vm):
    """A copy of a VM, made as a destination makes it: describe, RAM, save, load."""
    copy = make(machine=vm.describe(), incoming=True)
    os.pwrite(copy.ram_fd, ram_of(vm), 0)
    copy.load(vm.save())
    return copy


@pytest.mark.parametrize("guest", ["ticker32", "ticker64"])
@pytest.mark.parametrize("when", sorted(set(PAUSE_CONDITIONS) - {"any"}))
def test_each_moment_is_found_and_the_vm_moves_there_without_a_trace(make, guest, when):
    vm, reference = ticker(make, guest), ticker(make, guest)
    console = vm.take_console()
    while not (result := vm.run_until(PAUSE_CONDITIONS[when], 100_000, NEVER_IDLE)).found:
        assert result.stop is None
    assert PAUSE_CONDITIONS[when](vm.moment())
    console += vm.take_console()
    copy = move(make, vm)
    assert state_of(copy) == state_of(vm)
    assert copy.moment() == vm.moment()
    while copy.run_slice(100_000, NEVER_IDLE).stop is None:
        pass
    while reference.run_slice(100_000, NEVER_IDLE).stop is None:
        pass
    assert copy.stopped() == reference.stopped()
    assert copy.stopped().reason == "debug_exit"
    assert state_of(copy) == state_of(reference)
    assert console + copy.take_console() == reference.take_console()


def test_a_slice_is_exact_and_idle_time_ends_it(make):
    # mov eax,1000000; mov dx,0xb8; out dx,eax (an SMI in 1 ms); hlt; jmp to the start. The SMI handler is RSM.
    code = bytes.fromhex("66b840420f00 bab800 66ef f4 ebf2")
    vm = make(images=(Image(0, 0x1000, code), Image(1, 0x38000, bytes.fromhex("0faa"))), ram_bytes=1 << 20)
    assert vm.run_slice(101, NEVER_IDLE).steps == vm.retired == 101
    result = vm.run_slice(1 << 20, 5_000_000)
    assert result.stop is None
    assert 5_000_000 <= result.idle_ns < 9_000_000
    assert result.virtual_ns == result.idle_ns + result.steps * 1000
    busy = ticker(make).run_slice(20_000, 1)
    assert (busy.steps, busy.idle_ns) == (20_000, 0)


def test_searching_costs_no_step(make):
    one, other = ticker(make), ticker(make)
    one.run_until(lambda moment: False, 5000, NEVER_IDLE)
    other.run_slice(5000, NEVER_IDLE)
    assert state_of(one) == state_of(other)


def test_the_dirty_log_holds_every_page_that_changed(make):
    vm = ticker(make, working_set_pages=16)
    vm.run_slice(20_000, NEVER_IDLE)
    vm.dirty_start()
    before = ram_of(vm)
    vm.run_slice(20_000, NEVER_IDLE)
    after = ram_of(vm)
    memory = MemoryMap.model_validate(vm.describe()["memory"])
    dirty = pages_of_bitmap(vm.dirty_fetch(), memory)
    rows = [np.frombuffer(raw, np.uint64).reshape(-1, 512) for raw in (before, after)]
    changed = np.flatnonzero((rows[0] != rows[1]).any(axis=1))
    assert changed.size
    assert set(changed.tolist()) <= set(dirty.tolist())
    vm.run_slice(20_000, NEVER_IDLE)
    assert pages_of_bitmap(vm.dirty_fetch(), memory).size
    assert not pages_of_bitmap(vm.dirty_fetch(), memory).size


def test_an_illegal_state_is_refused_with_every_finding_and_nothing_changes(make):
    vm = ticker(make)
    vm.run_slice(1000, NEVER_IDLE)
    before, saved = state_of(vm), vm.save()
    vcpu = dict(saved.vcpus[0])
    del vcpu["regs"]
    vcpu["events"] = b"short"
    with pytest.raises(IllegalStateError) as caught:
        vm.load(SavedState(saved.vm, [{**vcpu, "bogus": b""}]))
    assert len(caught.value.findings) == 3
    assert state_of(vm) == before


def test_the_host_can_hold_what_its_own_backend_saves(make):
    vm = ticker(make)
    vm.run_slice(1000, NEVER_IDLE)
    saved = vm.save()
    memory = MemoryMap.model_validate(vm.describe()["memory"])
    state = MachineState.from_sections(memory, saved.vm, saved.vcpus)
    profile = BACKENDS["emulator"].profile("north")
    assert profile.name == "north"
    assert check_compat(state, profile).verdict == "exact"


def test_flat_images_begin_at_the_first_one_in_real_mode(make):
    code = bytes.fromhex("b84200 bbf400 89da ee f4".replace(" ", ""))  # mov ax,0x42; mov bx,0xf4; mov dx,bx; out dx,al
    vm = make(images=(Image(1, 0x5000, b"\xaa"), Image(0, 0x12345, code)), ram_bytes=1 << 20)
    result = vm.run_slice(100, NEVER_IDLE)
    assert (result.steps, result.stop.reason, result.stop.exit_code) == (4, "debug_exit", 0x42)
    assert vm.describe()["memory"]["ram_bytes"] == 1 << 20


def test_hlt_without_an_end_is_halted_and_an_nmi_wakes_it(make):
    vm = make(images=(Image(0, 0x1000, b"\xf4\xf4"),), ram_bytes=1 << 20)
    result = vm.run_slice(100, NEVER_IDLE)
    assert (result.steps, result.stop.reason) == (1, "halted")
    vm.nmi()
    assert vm.run_slice(1, NEVER_IDLE).stop is None


def test_an_instruction_that_is_not_built_stops_the_vm_and_names_it(make, monkeypatch):
    find = instruction.find_block
    monkeypatch.setattr(instruction, "find_block", lambda insn: None if insn.code == b"\x0f\xa2" else find(insn))
    vm = make(images=(Image(0, 0x1000, bytes.fromhex("90 0fa2")),), ram_bytes=1 << 20)  # nop; cpuid
    saved, result = vm.save(), vm.run_slice(100, NEVER_IDLE)
    assert (result.steps, result.stop.reason, vm.registers()["rip"]) == (1, "unsupported_instruction", "0x1001")
    assert "0f a2" in result.stop.detail
    assert vm.stopped() == vm.run_slice(1, NEVER_IDLE).stop == result.stop
    vm.load(saved)
    assert vm.stopped() is None


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"guest": "nobody"}, "there is no guest 'nobody'"),
        ({"guest": "ticker32", "guest_params": {"x": 1}}, "no parameter 'x'"),
        ({}, "needs a guest, a ROM, a kernel, or a flat image"),
        ({"images": (Image(0, 1 << 21, b"x"),)}, "real mode reaches"),
        ({"images": (Image(0, 0, b"x"), Image(0, 1 << 30, b"x"))}, "there is no RAM"),
        ({"machine": {}}, "memory is missing"),
        ({"machine": {"memory": {"slots": [], "ram_bytes": 4096}, "vcpus": 2, "machine": {}}}, "vcpus must be 1 to 1"),
        ({"machine": {"memory": {"slots": 1, "ram_bytes": 1}, "machine": {}}}, "slots"),
        ({"machine": {"memory": {"slots": [], "ram_bytes": 4096}, "machine": {"cpu_model": "z80"}}}, "z80"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_in_words(make, config, text):
    with pytest.raises(InputError, match=text):
        make(**config)


def test_too_much_ram_is_refused(make):
    with pytest.raises((LimitError, InputError)):
        make(guest="ticker32", ram_bytes=(64 << 30) + 4096)


def test_an_interrupt_that_cannot_be_delivered_is_refused(make):
    vm = make(images=(Image(0, 0x1000, b"\x90"),), ram_bytes=1 << 20)
    with pytest.raises(InputError, match="vector 3"):
        vm.interrupt(3)
    with pytest.raises(ConflictError, match="local APIC"):
        vm.interrupt(32)


def test_every_bundled_guest_is_listed_with_its_parameters():
    guests = {guest.name: guest for guest in BACKENDS["emulator"].guests}
    assert {"ticker32", "ticker64", "smm_corners"} <= set(guests)
    ticks = guests["ticker64"].params["ticks"]
    assert ticks.minimum <= ticks.default <= ticks.maximum


def test_a_real_worker_moves_a_running_guest_to_another_one(tmp_path, run):
    async def work():
        config = VmConfig(guest="ticker64", guest_params={"ticks": 60, "working_set_pages": 8}, paced=False)
        source = await WorkerHandle.spawn(tmp_path, "source", config)
        await source.call("run", epoch=1)
        paused = await source.call("pause", when="smm_shadow", limit_instructions=1 << 30, timeout_s=60)
        assert paused["found"]
        machine, state = await source.call("describe"), await source.call("save")
        config = VmConfig(machine=machine, incoming=True, paced=False)
        destination = await WorkerHandle.spawn(tmp_path, "destination", config)
        (await destination.ram())[:] = (await source.ram())[:]
        history = await source.call("console_export")
        await destination.call("load", **state)
        await destination.call("console_import", **history)
        assert (await destination.call("status"))["registers"] == paused["registers"]
        await source.call("fence", epoch=2)
        await destination.call("grant", epoch=2)
        await destination.call("run", epoch=2)
        deadline = time.monotonic() + 60
        while (status := await destination.call("status"))["status"] != "stopped":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        assert status["stop_reason"] == "debug_exit"
        console = await destination.call("console", since=0, max_bytes=1 << 20)
        assert (console["offset"], console["base"]) == (0, 0)
        assert console["data"].startswith(history["data"])
        assert len(console["data"]) == status["console_end"] > len(history["data"])
        await source.quit()
        await destination.quit()

    run(work())


def test_a_rom_and_a_kernel_begin_where_they_say(make):
    rom = bytearray(4096)
    rom[0xFF0:0xFF6] = bytes.fromhex("b002 e6f4 ebfe")  # mov al, 2; out 0xf4, al
    vm = make(boot=Boot("bios", bytes(rom)), cpu_model="pentium", ram_bytes=1 << 20)
    assert vm.run_slice(10, NEVER_IDLE).stop.exit_code == 2
    assert vm.describe()["machine"]["cpu_model"] == "pentium"
    assert vm.describe()["memory"]["ram_bytes"] == (1 << 20) + 4096
    head = struct.pack(
        "<8I", 0x1BADB002, 1 << 16, -(0x1BADB002 + (1 << 16)) & 0xFFFFFFFF, *[0x100000] * 2, 0, 0, 0x100020
    )
    code = bytes.fromhex("8b4310 8a4007 e6f4")  # mov eax, [ebx+16]; mov al, [eax+7]; out 0xf4, al
    vm = make(boot=Boot("multiboot", head + code, "x"), ram_bytes=2 << 20)
    assert vm.run_slice(10, NEVER_IDLE).stop.exit_code == ord("x")


def test_a_machine_with_a_rom_is_moved_with_it(make):
    rom = bytearray(4096)
    rom[0xFF0:0xFF6] = bytes.fromhex("90 b002 e6f4 f4")
    vm = make(boot=Boot("bios", bytes(rom)), ram_bytes=1 << 20)
    vm.run_slice(1, NEVER_IDLE)
    other = make(machine=vm.describe())
    memory = MemoryMap.model_validate(vm.describe()["memory"])
    offset = memory.translate(0, 0xFFFFF000)
    assert offset == memory.translate(1, 0xFF000) == 1 << 20
    with mmap.mmap(vm.ram_fd, 0) as here, mmap.mmap(other.ram_fd, 0) as there:
        there[:] = here[:]
    other.load(vm.save())
    assert other.run_slice(10, NEVER_IDLE).stop.exit_code == 2


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "needs a guest"),
        ({"boot": Boot("bios", b"x")}, "a ROM of 1 bytes"),
        ({"boot": Boot("multiboot", b"x")}, "no multiboot header"),
        ({"boot": Boot("bios", bytes(4096)), "entry": 0}, "begins where it says"),
        ({"boot": Boot("bios", bytes(4096)), "guest": "ticker32"}, "brings its images"),
        ({"guest": "ticker32", "board": "pc"}, "brings its images"),
        ({"images": (Image(0, 0, b"x"),), "board": "atari"}, "atari"),
        ({"images": (Image(0, 0, b"x"),), "cpu_model": "6502"}, "6502"),
    ],
)
def test_images_that_do_not_load_are_refused_with_a_reason(make, options, why):
    with pytest.raises(InputError, match=why):
        make(**options, ram_bytes=None if "guest" in options else 1 << 20)


def test_flat_images_begin_at_the_entry(make):
    vm = make(images=(Image(0, 0x1000, b"\xf4\x90\x90"),), entry=0x1001, ram_bytes=1 << 20)
    assert vm.registers()["rip"] == "0x1001"
