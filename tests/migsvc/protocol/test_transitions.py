"""Laws over the tables of transitions, and the whole product of roles, states and events."""

import itertools

import pytest

from migsvc.protocol import TERMINAL, TRANSITIONS, Cancel, Commit, Disconnected, Failed, Gone, Role, State
from migsvc.protocol.events import EVENTS, Ping, Pong, StreamBegan, StreamEnded, StreamRecord
from migsvc.protocol.transitions import next_state

ALL_EVENTS = [spec.cls for spec in EVENTS] + [StreamBegan, StreamRecord, StreamEnded, Disconnected]
BEFORE_COMMIT = [s for s in TRANSITIONS[Role.SOURCE] if s not in TERMINAL | {State.COMMITTED}]


def reachable(role, start, without=frozenset()):
    """States that can be reached from `start` by events other than `without`."""
    seen, todo = {start}, [start]
    while todo:
        for event, state in TRANSITIONS[role][todo.pop()].items():
            if event not in without and state not in seen:
                seen.add(state)
                todo.append(state)
    return seen


@pytest.mark.parametrize("role", Role)
def test_every_event_in_every_state_leads_to_a_state_of_the_role_or_to_nothing(role):
    for state, event in itertools.product(State, ALL_EVENTS):
        found = next_state(role, state, event)
        assert found is None or found in TRANSITIONS[role], (state, event)


@pytest.mark.parametrize("role", Role)
def test_only_events_of_the_table_occur_and_every_state_can_be_reached(role):
    for row in TRANSITIONS[role].values():
        assert set(row) <= set(ALL_EVENTS)
    assert set(TRANSITIONS[role]) - TERMINAL <= reachable(role, State.IDLE)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("state", State)
def test_terminal_states_have_empty_rows_and_all_others_can_end(role, state):
    if state in TERMINAL:
        assert TRANSITIONS[role][state] == {}
    elif state in TRANSITIONS[role]:
        assert TRANSITIONS[role][state][Disconnected] in TERMINAL


@pytest.mark.parametrize("state", BEFORE_COMMIT)
def test_source_before_the_commit_point_can_always_abort(state):
    # By its own word ...
    assert State.ABORTED in reachable(Role.SOURCE, state, without={Commit})
    # ... and at once when the connection is lost.
    assert TRANSITIONS[Role.SOURCE][state][Disconnected] is State.ABORTED


@pytest.mark.parametrize("state", [s for s in BEFORE_COMMIT if s not in {State.IDLE, State.GREETING, State.CANCELLING}])
def test_source_may_say_cancel_until_the_commit_point(state):
    assert TRANSITIONS[Role.SOURCE][state][Cancel] is State.CANCELLING


def test_source_beyond_the_commit_point_never_aborts():
    assert State.ABORTED not in reachable(Role.SOURCE, State.COMMITTED)
    assert Cancel not in TRANSITIONS[Role.SOURCE][State.COMMITTED]


def test_source_commits_only_what_is_prepared():
    before = [s for s, row in TRANSITIONS[Role.SOURCE].items() if Commit in row]
    assert before == [State.PREPARED, State.COMMITTED]


def test_destination_never_runs_without_commit():
    for state in TRANSITIONS[Role.DESTINATION]:
        if state not in {State.COMMITTED, State.RUNNING}:
            assert State.RUNNING not in reachable(Role.DESTINATION, state, without={Commit})


@pytest.mark.parametrize("role", Role)
def test_lost_connection_never_leads_to_a_running_vm(role):
    for row in TRANSITIONS[role].values():
        lost = row.get(Disconnected)
        assert lost not in {State.RUNNING, State.COMMITTED}


def test_prepared_destination_is_in_doubt_when_the_connection_is_lost():
    row = TRANSITIONS[Role.DESTINATION][State.PREPARED]
    assert row[Disconnected] is State.IN_DOUBT
    assert Gone not in row  # bound by its word
    assert set(row) == {Commit, Cancel, Failed, Disconnected, Ping, Pong}


def test_what_may_be_sent_may_be_received():
    # For each pair of states that the two ends can be in together, what one may send the other has a row for, unless
    # the two words cross; then the receiver is cancelling or has ended.
    def crossing(state):
        return state in TERMINAL | {State.CANCELLING}

    senders = {spec.cls: spec.sender for spec in EVENTS}
    seen, todo = set(), [(State.IDLE, State.IDLE)]
    while todo:
        pair = todo.pop()
        if pair in seen:
            continue
        seen.add(pair)
        for event in senders:
            source, destination = (
                next_state(r, s, event) for r, s in zip((Role.SOURCE, Role.DESTINATION), pair, strict=True)
            )
            sends = source if senders[event] is Role.SOURCE.side else destination
            other = destination if senders[event] is Role.SOURCE.side else source
            if sends is None:
                continue
            listening = pair[1] if senders[event] is Role.SOURCE.side else pair[0]
            # What only the recovery role sends to a destination is not in the source's table, nor the other way round.
            if other is None:
                assert crossing(listening), (pair, event)
                continue
            todo.append((source, destination))
        for event in (StreamBegan, StreamRecord, StreamEnded):
            both = [next_state(r, s, event) for r, s in zip((Role.SOURCE, Role.DESTINATION), pair, strict=True)]
            assert (both[0] is None) or (both[1] is not None), (pair, event)
            if None not in both:
                todo.append(tuple(both))
    assert (State.COMPLETED, State.RUNNING) in seen
