import pytest

from migsvc.backends.base import PAUSE_CONDITIONS, SHADOW_MOV_SS, SHADOW_STI, Moment, SavedState
from migsvc.backends.config import VmConfig
from migsvc.backends.control import VmControl
from migsvc.errors import ConflictError, IllegalStateError, InputError, NotOwnerError


class Driver:
    """A control over the fake VM, with the answers and events that it gave and a clock that the test moves."""

    def __init__(self, fake, *, incoming=False, paced=False, **params):
        self.events, self.answers, self.now_ns = [], [], 0
        self.control = VmControl("vm-1", fake.BACKENDS, self.events.append, self.clock)
        self.control.create(VmConfig("fake", guest_params=params, incoming=incoming, paced=paced))

    def clock(self):
        self.now_ns += 1_000_000
        return self.now_ns

    def pause(self, when="any", limit=10_000, call_id=1):
        self.control.pause(when, limit, call_id, self.answers.append)

    def step(self, n, call_id=1):
        self.control.step(n, call_id, self.answers.append)

    def work(self, slices=10_000):
        while self.control.busy and slices:
            self.control.slice()
            slices -= 1
        return self.answers[-1] if self.answers else None


@pytest.fixture
def driver(fake):
    drivers = []

    def make(**options):
        drivers.append(Driver(fake, **options))
        return drivers[-1]

    yield make
    for each in drivers:
        each.control.close()


def test_the_conditions_are_those_of_the_service():
    from migsvc.service.records import PauseWhen

    assert set(PAUSE_CONDITIONS) == {when.value for when in PauseWhen}


@pytest.mark.parametrize(
    ("moment", "held"),
    [
        (Moment(False, 0, 0), {"any", "no_smm_shadow"}),
        (Moment(False, SHADOW_STI, 0), {"any", "interrupt_shadow", "sti_shadow", "no_smm_shadow"}),
        (Moment(False, SHADOW_MOV_SS, 0), {"any", "interrupt_shadow", "mov_ss_shadow", "no_smm_shadow"}),
        (Moment(True, 0, 0), {"any", "smm", "no_smm_shadow"}),
        (Moment(True, SHADOW_STI, 0), {"any", "smm", "no_smm_shadow"}),
        (Moment(True, 0, SHADOW_MOV_SS), {"any", "smm", "smm_shadow"}),
    ],
)
def test_each_condition_holds_at_its_moments_only(moment, held):
    assert {name for name, condition in PAUSE_CONDITIONS.items() if condition(moment)} == held


def test_a_step_is_exact_over_many_slices(driver):
    vm = driver()
    vm.step(12_345)
    assert vm.work() == {"steps": 12_345, "reason": "done", "retired": 12_345, "registers": {"rip": "0x3039"}}
    assert vm.control.status == "paused"


def test_a_step_of_a_running_vm_is_refused(driver):
    vm = driver()
    vm.control.run(1)
    with pytest.raises(ConflictError, match="pause it before step"):
        vm.step(1)


def test_a_step_ends_early_when_the_guest_does(driver):
    vm = driver(stop_after=100)
    vm.step(1000)
    assert (vm.work()["steps"], vm.answers[0]["reason"]) == (100, "debug_exit")
    assert vm.control.status == "stopped"
    with pytest.raises(ConflictError, match="has stopped"):
        vm.control.run(1)


@pytest.mark.parametrize(
    ("when", "retired"), [("sti_shadow", 5), ("interrupt_shadow", 5), ("smm", 200), ("smm_shadow", 200)]
)
def test_a_pause_finds_the_first_moment_exactly(driver, when, retired):
    vm = driver()
    vm.control.run(1)
    vm.pause(when)
    answer = vm.work()
    assert (answer["found"], answer["retired"], answer["steps"]) == (True, retired, retired)
    assert vm.control.status == "paused"


def test_a_pause_at_a_moment_that_holds_now_runs_nothing(driver):
    vm = driver()
    vm.step(200)
    vm.work()
    vm.pause("smm")
    assert (vm.answers[-1]["found"], vm.answers[-1]["steps"], vm.control.busy) == (True, 0, False)


def test_a_pause_not_found_within_its_limit_lets_a_running_vm_run_on(driver):
    vm = driver()
    vm.control.run(1)
    vm.pause("mov_ss_shadow", limit=5000)
    vm.work(slices=3)
    assert vm.answers == [{**vm.answers[0], "found": False, "steps": 5000, "reason": "done", "retired": 5000}]
    assert vm.control.status == "running"


def test_a_pause_not_found_leaves_a_paused_vm_paused(driver):
    vm = driver()
    vm.pause("mov_ss_shadow", limit=10)
    assert vm.work()["found"] is False
    assert (vm.control.status, vm.control.vm.retired) == ("paused", 10)


def test_a_search_that_nobody_waits_for_ends_and_the_vm_runs_on(driver):
    vm = driver()
    vm.control.run(1)
    vm.pause("mov_ss_shadow", limit=10**9, call_id=7)
    vm.control.slice()
    vm.control.cancel(6)
    assert vm.control.describe_status()["searching"]
    vm.control.cancel(7)
    assert not vm.control.describe_status()["searching"]
    assert (vm.control.status, vm.answers) == ("running", [])


def test_a_second_pause_answers_the_first_as_superseded(driver):
    vm = driver()
    vm.control.run(1)
    vm.pause("mov_ss_shadow", limit=10**9)
    vm.pause("any", call_id=2)
    assert [(answer["found"], answer["reason"]) for answer in vm.answers] == [(False, "superseded"), (True, "found")]
    assert vm.control.status == "paused"


def test_a_halted_vm_waits_and_wakes_by_an_event(driver):
    vm = driver(halt_after=100)
    vm.control.run(1)
    vm.work()
    assert (vm.control.status, vm.control.busy) == ("halted", False)
    assert vm.events[-1]["event"] == "stopped"
    assert vm.events[-1]["stop_reason"] == "halted"
    vm.control.inject(lambda machine: machine.nmi())
    assert (vm.control.status, vm.control.busy) == ("running", True)
    vm.pause()
    assert vm.control.status == "paused"


def test_a_halted_vm_can_be_paused_and_run_again(driver):
    vm = driver(halt_after=100)
    vm.control.run(1)
    vm.work()
    vm.pause()
    assert (vm.control.status, vm.answers[-1]["found"]) == ("paused", True)
    vm.control.run(1)
    vm.work()
    assert vm.control.status == "halted"


def test_the_end_of_the_guest_is_reported_with_its_exit_code(driver):
    vm = driver(stop_after=3000)
    vm.control.run(1)
    vm.work()
    assert [event["event"] for event in vm.events] == ["stopped", "console"]
    assert (vm.events[0]["status"], vm.events[0]["stop_reason"], vm.events[0]["exit_code"]) == (
        "stopped",
        "debug_exit",
        7,
    )


def test_a_backend_that_fails_stops_its_vm_and_says_so(driver):
    vm = driver(crash_after=50)
    vm.control.run(1)
    vm.work()
    assert vm.control.status == "stopped"
    assert (vm.events[0]["stop_reason"], vm.events[0]["stop_detail"]) == (
        "internal_error",
        "RuntimeError: the fake broke",
    )


def test_an_incoming_vm_runs_only_after_its_grant(driver):
    vm = driver(incoming=True)
    assert vm.control.status == "incoming"
    for call in (
        lambda: vm.control.run(1),
        lambda: vm.step(1),
        lambda: vm.pause("smm"),
        lambda: vm.control.inject(lambda machine: machine.smi()),
    ):
        with pytest.raises(NotOwnerError):
            call()
    assert vm.control.vm.retired == 0
    vm.control.grant(2)
    vm.control.run(2)
    assert vm.control.status == "running"


def test_a_fenced_vm_never_runs_again(driver):
    vm = driver()
    vm.control.run(1)
    vm.control.slice()
    vm.control.fence(2)
    retired = vm.control.vm.retired
    for call in (lambda: vm.control.run(1), lambda: vm.control.run(2), lambda: vm.control.grant(3), lambda: vm.step(1)):
        with pytest.raises(NotOwnerError):
            call()
    with pytest.raises(NotOwnerError):
        vm.control.load(vm.control.save())
    assert (vm.control.busy, vm.control.vm.retired) == (False, retired)


def test_a_fence_answers_a_search_under_way(driver):
    vm = driver()
    vm.control.run(1)
    vm.pause("mov_ss_shadow", limit=10**9)
    vm.control.fence(2)
    assert (vm.answers[0]["found"], vm.answers[0]["reason"]) == (False, "fenced")


def test_a_run_under_another_epoch_is_refused(driver):
    vm = driver()
    with pytest.raises(NotOwnerError, match="epoch 1, not 2"):
        vm.control.run(2)


def test_state_is_saved_and_loaded_only_while_the_vm_does_not_run(driver):
    vm = driver()
    vm.control.run(1)
    for call in (vm.control.save, lambda: vm.control.load(SavedState({}))):
        with pytest.raises(ConflictError):
            call()


def test_a_refused_load_changes_nothing(driver):
    vm = driver()
    vm.step(100)
    vm.work()
    with pytest.raises(IllegalStateError):
        vm.control.load(SavedState({"fake": b"short"}))
    assert vm.control.vm.retired == 100


def test_the_console_runs_on_without_a_gap_in_another_worker(driver):
    source, destination = driver(print_every=10), driver(incoming=True, print_every=10)
    source.step(1005)
    source.work()
    source.pause()
    saved, (offset, kept) = source.control.save(), source.control.console.read(0, 1 << 20)
    with pytest.raises(InputError, match="load the VM's state first"):
        destination.control.console.load(offset, kept)
    destination.control.load(saved)
    destination.control.console.load(offset, kept)
    destination.control.grant(2)
    destination.step(10)
    destination.work()
    assert destination.control.console.read(99, 100) == (99, b"**")
    assert destination.control.console.base == 0


def test_without_the_history_the_console_begins_at_its_offset(driver):
    source, destination = driver(print_every=10), driver(incoming=True)
    source.step(1005)
    source.work()
    destination.control.load(source.control.save())
    assert (destination.control.console.base, destination.control.console.end) == (100, 100)


def test_a_created_worker_takes_no_second_vm_and_no_unknown_backend(driver, fake):
    vm = driver()
    with pytest.raises(ConflictError):
        vm.control.create(VmConfig("fake"))
    fresh = VmControl("vm-2", fake.BACKENDS, vm.events.append)
    with pytest.raises(InputError, match="no backend 'kvm'"):
        fresh.create(VmConfig("kvm"))
    assert fresh.status == "creating"
    with pytest.raises(ConflictError, match="no VM yet"):
        fresh.save()
