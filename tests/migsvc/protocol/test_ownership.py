"""The decisions after a crash: none missing, and together they leave exactly one owner."""

import itertools

import pytest

from migsvc.protocol import Action, Outcome, Owner, answer_of, decide_destination, decide_source
from migsvc.protocol.docs import tables
from migsvc.protocol.ownership import ANSWERS, JOURNAL_STATES
from migsvc.service.records import MigrationState
from migsvc.stream.docs import renew

# What the two journals can hold at the same time, in the order in which a migration writes them (source, destination);
# either host may have stopped anywhere. A destination without a row has nothing to run.
TOGETHER = [
    ("queued", None),
    ("connecting", None),
    ("connecting", "negotiating"),
    ("negotiating", "negotiating"),
    ("negotiating", "precopy"),
    ("precopy", "precopy"),
    ("stop_and_copy", "precopy"),
    ("stop_and_copy", "verifying"),
    ("verifying", "precopy"),
    ("verifying", "verifying"),
    ("verifying", "prepared"),
    ("committed", "prepared"),
    ("committed", "committed"),
    ("committed", "completed"),
    ("completed", "completed"),
    ("failed", "negotiating"),
    ("failed", "precopy"),
    ("failed", "verifying"),
    ("failed", "prepared"),
    ("failed", "failed"),
    ("cancelled", "prepared"),
    ("cancelled", "cancelled"),
]


def test_journal_states_are_those_of_the_service():
    assert set(JOURNAL_STATES) == {state.value for state in MigrationState}


def test_every_state_and_answer_has_a_decision_with_a_reason():
    for state in JOURNAL_STATES:
        decisions = [decide_source(state), *(decide_destination(state, answer) for answer in (None, *ANSWERS))]
        for decision in decisions:
            assert decision.explanation.endswith(".")
            assert decision.rule.startswith("PRO-")


def test_unheard_of_states_are_errors_not_guesses():
    for bad in (
        lambda: decide_source("?"),
        lambda: decide_destination("?"),
        lambda: decide_destination("prepared", "?"),
    ):
        with pytest.raises(KeyError):
            bad()


def may_run_source(state):
    return decide_source(state).owner is Owner.SOURCE


def may_run_destination(state, answer):
    return state is not None and decide_destination(state, answer).owner is Owner.DESTINATION


@pytest.mark.parametrize(("source", "destination"), TOGETHER)
def test_exactly_one_host_may_run_the_vm_once_they_have_spoken(source, destination):
    assert may_run_source(source) != may_run_destination(destination, source)


@pytest.mark.parametrize(("source", "destination"), TOGETHER)
def test_never_do_both_run_it_before_they_have_spoken(source, destination):
    assert not (may_run_source(source) and may_run_destination(destination, None))


@pytest.mark.parametrize(("source", "destination"), TOGETHER)
def test_recovery_ends(source, destination):
    # The source acts first where it can; its journal then says so, and the destination decides by the answer.
    after = {Action.ABORT_AND_RESUME: "failed"}.get(decide_source(source).action, source)
    if destination is not None:
        decision = decide_destination(destination, after)
        assert decision.action in {Action.RUN, Action.DISCARD, Action.KEEP}
        assert (decision.owner is Owner.DESTINATION) != may_run_source(after)


def test_an_answer_with_another_epoch_is_a_contradiction():
    def outcome(state, epoch):
        return Outcome("m", state, "alpha", epoch, "")

    for state, epoch in itertools.product(("committed", "completed"), (3, 5)):
        answer = answer_of(outcome(state, epoch), 4)
        assert decide_destination("prepared", answer).action is Action.HOLD
    assert answer_of(outcome("committed", 4), 4) == "committed"
    assert answer_of(outcome("failed", 3), 4) == "failed"
    assert answer_of(outcome("no such state", 4), 4) == "unknown"


def test_tables_of_the_document_are_up_to_date():
    assert renew("migsvc.protocol", "PROTOCOL.md", tables(), []) == 0
