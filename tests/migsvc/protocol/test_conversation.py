"""Conversations, told by both ends over a fake wire."""

import io

import pytest

from migsvc.protocol import (
    Accept,
    Cancel,
    Commit,
    Disconnected,
    Failed,
    Gone,
    LocalProtocolError,
    Offer,
    Outcome,
    Ping,
    Pong,
    Prepared,
    Query,
    Refuse,
    RemoteProtocolError,
    Role,
    RoundAck,
    Running,
    State,
    StreamEnded,
    StreamRecord,
)
from migsvc.stream import Config, MemoryDigest, config_map
from migsvc.stream.verify import verify_stream


def states(pair):
    return pair.dialer.state, pair.listener.state


def test_a_whole_migration(kit):
    pair = kit.pair().up_to("running")
    assert states(pair) == (State.COMPLETED, State.RUNNING)
    assert bytes(pair.memory.ram) == bytes(kit.smith.ram)
    assert pair.dialer.expect() is None


def test_octets_without_the_frames_are_one_valid_stream(kit):
    pair = kit.pair().up_to("running")
    assert verify_stream(io.BytesIO(pair.wire).read).clean


def test_events_arrive_as_they_were_sent(kit):
    pair = kit.pair()
    assert pair.say(kit.hello) == [kit.hello]
    assert pair.say(kit.welcome) == [kit.welcome]
    offer = Offer(config_map(kit.smith.config), {"cpuid": b"\1\2", "list": [1, {"a": None}]})
    assert pair.say(offer) == [offer]
    findings = ({"rule": "CMP-001", "message": "no"},)
    assert pair.say(Refuse(findings)) == [Refuse(findings)]
    assert states(pair) == (State.ABORTED, State.ABORTED)


def test_records_of_the_stream_arrive_as_events(kit):
    pair = kit.pair().up_to("accept")
    pair.begin()
    (event,) = pair.stream(pair.writer.round_end())
    assert isinstance(event, StreamRecord)
    assert isinstance(pair.listener.reader.config, Config)


def test_acks_may_come_late(kit):
    pair = kit.pair().up_to("finish")
    pair.prepare()
    assert pair.say(RoundAck(1)) == [RoundAck(1)]
    assert states(pair) == (State.PREPARING, State.PREPARING)


@pytest.mark.parametrize("phase", ["greet", "offer", "accept", "begin", "round", "finish", "prepare", "prepared"])
def test_source_cancels_at_any_phase_before_the_commit_point(kit, phase):
    pair = kit.pair().up_to(phase)
    assert pair.say(Cancel("because")) == [Cancel("because")]
    assert states(pair) == (State.CANCELLING, State.CANCELLING)
    assert pair.say(Gone("discarded")) == [Gone("discarded")]
    assert states(pair) == (State.ABORTED, State.ABORTED)


@pytest.mark.parametrize("phase", ["commit", "running"])
def test_cancel_after_the_commit_point_is_refused_here(kit, phase):
    pair = kit.pair().up_to(phase)
    with pytest.raises(LocalProtocolError, match="PRO-010"):
        pair.say(Cancel("too late"))


@pytest.mark.parametrize("phase", ["offer", "accept", "begin", "round", "finish", "prepare"])
def test_destination_gives_up_at_any_phase_before_prepared(kit, phase):
    pair = kit.pair().up_to(phase)
    pair.say(Gone("an operator said so"))
    assert states(pair) == (State.ABORTED, State.ABORTED)


def test_prepared_destination_may_not_change_its_mind(kit):
    pair = kit.pair().up_to("prepared")
    with pytest.raises(LocalProtocolError, match="PRO-010"):
        pair.say(Gone("changed my mind"))


def test_cancel_crosses_prepared(kit):
    pair = kit.pair().up_to("prepare")
    octets = pair.listener.send(Prepared(pair.listener.reader.digest.root, 4))
    cancel = pair.dialer.send(Cancel("now"))
    assert pair.deliver(pair.dialer, octets) == [Prepared(pair.listener.reader.digest.root, 4)]
    assert pair.dialer.state is State.CANCELLING
    pair.deliver(pair.listener, cancel)
    pair.say(Gone("discarded"))
    assert states(pair) == (State.ABORTED, State.ABORTED)


def test_failure_crosses_commit_and_leaves_the_journals_to_decide(kit):
    pair = kit.pair().up_to("prepared")
    octets = pair.listener.send(Failed({"detail": "worker died"}))
    pair.dialer.send(Commit(4))
    pair.deliver(pair.dialer, octets)
    assert states(pair) == (State.IN_DOUBT, State.ABORTED)


def test_commit_may_be_repeated(kit):
    pair = kit.pair().up_to("commit")
    pair.say(Commit(4))
    pair.running()
    assert states(pair) == (State.COMPLETED, State.RUNNING)


def test_recovery_repeats_commit_on_a_new_connection(kit):
    pair = kit.pair(Role.RECOVERY).greet()
    pair.say(Commit(4))
    pair.say(Running(4))
    assert states(pair) == (State.COMPLETED, State.RUNNING)


def test_recovery_asks_and_may_ask_again(kit):
    pair = kit.pair(Role.RECOVERY).greet()
    for state in ("verifying", "committed"):
        pair.say(Query("m-1"))
        outcome = Outcome("m-1", state, "alpha", 4, "because")
        assert pair.say(outcome) == [outcome]
    pair.dialer.disconnected()
    assert pair.dialer.state is State.CLOSED


@pytest.mark.parametrize(
    ("phase", "source", "destination"),
    [
        ("greet", State.ABORTED, State.CLOSED),
        ("offer", State.ABORTED, State.ABORTED),
        ("round", State.ABORTED, State.ABORTED),
        ("prepare", State.ABORTED, State.ABORTED),
        ("prepared", State.ABORTED, State.IN_DOUBT),
        ("commit", State.IN_DOUBT, State.IN_DOUBT),
        ("running", State.COMPLETED, State.COMPLETED),
    ],
)
def test_lost_connection(kit, phase, source, destination):
    pair = kit.pair().up_to(phase)
    pair.dialer.disconnected()
    pair.listener.disconnected()
    assert states(pair) == (source, destination)
    assert pair.listener.next_event() == Disconnected()
    pair.listener.disconnected()
    assert pair.listener.next_event() is None


def test_pings_are_answered_in_any_phase(kit):
    for phase in ("greet", "accept", "round", "prepare", "commit"):
        pair = kit.pair().up_to(phase)
        before = states(pair)
        pair.say(Ping(1))
        pair.say(Ping(2))
        pair.say(Pong(1))
        assert pair.say(Pong(2)) == [Pong(2)]
        assert states(pair) == before


def test_refused_send_leaves_the_connection_as_it_was(kit):
    pair = kit.pair().up_to("offer")
    with pytest.raises(LocalProtocolError):
        pair.dialer.send(Commit(4))
    with pytest.raises(LocalProtocolError):
        pair.dialer.send(Accept())
    assert pair.say(Accept()) == [Accept()]


def test_peer_that_breaks_the_protocol_after_prepared_leaves_doubt_not_a_running_vm(kit):
    pair = kit.pair().up_to("prepared")
    with pytest.raises(RemoteProtocolError):
        pair.deliver(pair.listener, bytes(32))
    assert pair.listener.state is State.IN_DOUBT
    with pytest.raises(RemoteProtocolError):
        pair.listener.expect()
    with pytest.raises(LocalProtocolError):
        pair.listener.send(Running(4))


def test_end_of_the_stream_is_an_event(kit):
    pair = kit.pair().up_to("round")
    pair.stream(pair.writer.vm_state(kit.smith.vm))
    pair.stream(pair.writer.vcpu_state(0, kit.smith.vcpus[0]))
    digest = MemoryDigest(len(kit.smith.ram))
    digest.update(kit.smith.ram)
    pair.stream(pair.writer.digest(digest.root()))
    (event,) = pair.stream(pair.writer.end())
    assert isinstance(event, StreamEnded)
