import asyncio
import base64
import os
import signal

import pytest

from migsvc.errors import ConflictError, IllegalStateError, InputError, LimitError, NotFoundError, StorageError
from migsvc.service.records import BootSpec, PauseWhen, VmCreate, VmStatus
from schemas.uapi.vcpu_events import InterruptShadow


def test_a_vm_is_made_runs_pauses_steps_and_goes(lab, run, steps):
    async def work():
        host = await lab.start("a")
        vm = await steps.ticker(host, start=False)
        assert (vm.status, vm.owner, vm.epoch, vm.retired_instructions) == (VmStatus.PAUSED, "a", 1, 0)
        assert (await host.vms.get("vm")).id == (await host.vms.get(vm.id)).id == vm.id
        done = await host.vms.step("vm", 100)
        assert (done.steps, done.retired_instructions, done.reason) == (100, 100, "done")
        assert (await host.vms.run("vm")).status == VmStatus.RUNNING
        with pytest.raises(ConflictError):
            await host.vms.step("vm", 1)
        paused = await host.vms.pause("vm")
        assert paused.status == VmStatus.PAUSED
        assert paused.retired_instructions >= 100
        await host.vms.delete("vm")
        with pytest.raises(NotFoundError):
            await host.vms.get(vm.id)
        assert list((lab.root / "a" / "run").iterdir()) == []
        await lab.stop()

    run(work())


def test_a_guest_runs_to_its_end_and_its_console_waits_for_news(lab, run, steps):
    async def work():
        host = await lab.start("a")
        await steps.ticker(host)
        first = await host.vms.console("vm", 0, 8, 10)
        assert 0 < len(first.text) <= 8
        assert first.next_offset == len(first.text)
        code, console, _ = await steps.result(host, "vm")
        assert code is not None
        assert console.startswith(first.text)
        again = await host.vms.get("vm")
        assert (again.status, again.stop_reason) == (VmStatus.STOPPED, "debug_exit")
        with pytest.raises(ConflictError):
            await host.vms.run("vm")
        await lab.stop()

    run(work())


def test_names_are_unique_and_a_vm_that_cannot_be_made_leaves_nothing(lab, run, steps):
    async def work():
        host = await lab.start("a", max_vms=2, max_ram_bytes=8 << 20)
        await steps.ticker(host, start=False)
        with pytest.raises(ConflictError, match="name"):
            await steps.ticker(host, start=False)
        with pytest.raises(InputError, match="guest"):
            await host.vms.create(VmCreate(name="x", guest="nonesuch"))
        with pytest.raises(LimitError):
            await host.vms.create(VmCreate(name="x", guest="ticker64", ram_bytes=16 << 20))
        assert [vm.name for vm in (await host.vms.list()).items] == ["vm"]
        await steps.ticker(host, "second", start=False)
        with pytest.raises(LimitError, match="at most 2"):
            await steps.ticker(host, "third", start=False)
        page = await host.vms.list(None, 1)
        assert [vm.name for vm in page.items] == ["vm"]
        assert [vm.name for vm in (await host.vms.list(page.next, 1)).items] == ["second"]
        with pytest.raises(InputError, match="cursor"):
            await host.vms.list("junk")
        await lab.stop()

    run(work())


def test_an_illegal_state_is_refused_with_every_finding_and_nothing_is_applied(lab, run, steps):
    async def work():
        host = await lab.start("a")
        await steps.ticker(host, start=False)
        await host.vms.step("vm", 50)
        before = await host.vms.get_state("vm", 0)
        interrupt = before.events.interrupt.model_copy(update={"shadow": InterruptShadow(current=0, smm=2)})
        events = before.events.model_copy(update={"interrupt": interrupt})
        regs = before.regs.model_copy(update={"rflags": 0})
        with pytest.raises(IllegalStateError) as refused:
            await host.vms.put_state("vm", 0, before.model_copy(update={"events": events, "regs": regs}))
        places = " ".join(finding["where"] for finding in refused.value.findings)
        assert "events" in places
        assert "regs" in places
        assert await host.vms.get_state("vm", 0) == before
        legal = before.model_copy(update={"regs": before.regs.model_copy(update={"rbx": 0x1234})})
        assert (await host.vms.put_state("vm", 0, legal)).regs.rbx == 0x1234
        assert (await host.vms.get_state("vm", 0)).regs.rbx == 0x1234
        with pytest.raises(NotFoundError):
            await host.vms.get_state("vm", 1)
        await host.vms.run("vm")
        with pytest.raises(ConflictError, match="running"):
            await host.vms.put_state("vm", 0, legal)
        assert (await host.vms.get_machine("vm")).vcpus[0].index == 0
        assert (await host.vms.get("vm")).status == VmStatus.RUNNING
        await lab.stop()

    run(work())


def test_a_vm_pauses_at_the_moment_that_was_asked_for(lab, run, steps):
    async def work():
        host = await lab.start("a")
        await steps.ticker(host, ticks=100_000)
        for when, smm, current, aside in (
            (PauseWhen.STI_SHADOW, 0, 2, 0),
            (PauseWhen.MOV_SS_SHADOW, 0, 1, 0),
            (PauseWhen.SMM, 1, None, None),
            (PauseWhen.SMM_SHADOW, 1, 0, True),
        ):
            assert (await host.vms.pause("vm", when)).status == VmStatus.PAUSED
            events = (await host.vms.get_state("vm", 0)).events
            shadow = events.interrupt.shadow
            assert events.smi.smm == smm
            assert current is None or shadow.current == current
            assert aside is None or bool(shadow.smm) == bool(aside)
        await host.vms.run("vm")
        with pytest.raises(ConflictError, match="no moment"):
            await host.vms.pause("vm", PauseWhen.SMM_SHADOW, 1)
        assert (await host.vms.get("vm")).status == VmStatus.RUNNING
        await lab.stop()

    run(work())


def test_a_worker_that_dies_is_noticed_and_touches_no_other(lab, run, steps):
    async def work():
        host = await lab.start("a")
        vm = await steps.ticker(host)
        await steps.ticker(host, "other", start=False)
        os.kill(vm.worker_pid, signal.SIGKILL)
        lost = await steps.until(lambda: host.vms.get("vm"), lambda v: v.status == VmStatus.LOST)
        assert str(vm.worker_pid) in lost.stop_reason
        with pytest.raises(ConflictError, match="lost"):
            await host.vms.run("vm")
        assert (await host.vms.step("other", 10)).steps == 10
        await host.vms.delete("vm")
        await lab.stop()

    run(work())


def test_vms_live_through_a_restart_of_the_agent(lab, run, steps):
    async def work():
        host = await lab.start("a")
        running = await steps.ticker(host, ticks=1_000_000)
        await steps.ticker(host, "paused", start=False)
        await host.vms.step("paused", 77)
        with pytest.raises(StorageError):
            await lab.start("a")
        await host.stop(keep_vms=True)
        host = await lab.start("a")
        again = await host.vms.get("vm")
        assert (again.status, again.worker_pid) == (VmStatus.RUNNING, running.worker_pid)
        there = await host.vms.get("paused")
        assert (there.status, there.retired_instructions) == (VmStatus.PAUSED, 77)
        await host.stop(keep_vms=True)
        os.kill(running.worker_pid, signal.SIGKILL)
        await asyncio.sleep(0.1)
        host = await lab.start("a")
        assert (await host.vms.get("vm")).status == VmStatus.LOST
        await lab.stop()

    run(work())


def test_a_vm_is_made_of_a_rom_and_images_that_do_not_load_are_refused(lab, run):
    rom = bytearray(4096)
    rom[0xFF0:0xFF6] = bytes.fromhex("90 b002 e6f4 f4")  # nop; mov al, 2; out 0xf4, al
    boot = BootSpec(kind="bios", data_base64=base64.b64encode(rom).decode())

    async def work():
        host = await lab.start("a", max_vms=2)
        vm = await host.vms.create(VmCreate(name="rom", boot=boot, cpu_model="pentium", ram_bytes=1 << 20))
        assert vm.ram_bytes == (1 << 20) + 4096
        assert (await host.vms.step("rom", 10)).reason == "debug_exit"
        assert (await host.vms.get("rom")).exit_code == 2
        for change, why in (
            ({"entry": 0}, "begins where it says"),
            ({"boot": boot.model_copy(update={"kind": "multiboot"})}, "no multiboot header"),
            ({"boot": boot.model_copy(update={"data_base64": "?"})}, "not base64"),
        ):
            with pytest.raises(InputError, match=why):
                await host.vms.create(VmCreate(name="x", boot=boot).model_copy(update=change))
        await lab.stop()

    run(work())


def test_a_pc_board_that_cannot_be_saved_says_so(lab, run):
    boot = BootSpec(kind="bios", data_base64=base64.b64encode(bytes(4096)).decode())

    async def work():
        host = await lab.start("a")
        await host.vms.create(VmCreate(name="pc", boot=boot, board="pc", ram_bytes=2 << 20))
        with pytest.raises(ConflictError, match="PC board"):
            await host.vms.get_machine("pc")
        await lab.stop()

    run(work())
