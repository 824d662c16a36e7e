"""One breach per rule of PROTOCOL.md: the end that breaks it is told, and the end that hears it blames the peer."""

import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from migsvc.protocol import (
    Accept,
    Commit,
    Hello,
    LocalProtocolError,
    Offer,
    Outcome,
    Owner,
    Ping,
    Pong,
    Prepare,
    Prepared,
    Query,
    RemoteProtocolError,
    Role,
    RoundAck,
    Running,
    Welcome,
    decide_destination,
    decide_source,
)
from migsvc.protocol.events import EVENTS
from migsvc.protocol.ownership import ANSWERS, JOURNAL_STATES, Action
from migsvc.stream import config_map

ROOT = Path(__file__).parents[3]
PROTOCOL = ROOT / "migsvc" / "protocol"
NUMBER = {spec.cls: spec.number for spec in EVENTS}


def body(event):
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(event).items()}


def sent(kit, connection, event):
    """Make one end send an event that its own checks would refuse."""
    return kit.frame(kit.control | NUMBER[type(event)], body(event), sequence=connection._sent)


def hear(kit, phase, event, *, by_dialer=False, role=Role.SOURCE):
    """The other end breaks the protocol by saying this."""
    pair = kit.pair(role).up_to(phase) if phase else kit.pair(role)
    speaker, listener = (pair.listener, pair.dialer) if by_dialer else (pair.dialer, pair.listener)
    pair.deliver(listener, sent(kit, speaker, event))


def hear_after(pair, kit, first, event):
    """One event as it should be, then the destination breaks the protocol by saying this."""
    pair.say(first)
    pair.deliver(pair.dialer, sent(kit, pair.listener, event))


def root(kit):
    return kit.pair().up_to("finish").writer.sent_digest.root


def raw(kit, octets):
    pair = kit.pair()
    pair.deliver(pair.listener, octets)


HELLO = Hello(1, 1, 1, "m-1", "vm-1", "web", 3, "alpha", None)
HELLO_TYPE = 0x4000_0001


def other_config(kit):
    pair = kit.pair().up_to("accept")
    config = config_map(kit.smith.config)
    config["machine"] = {"tsc_khz": 2}
    pair.listener._agreement._offer = config
    pair.begin()


def asked(kit, event):
    pair = kit.pair(Role.RECOVERY).greet()
    pair.say(Query("m-1"))
    pair.deliver(pair.dialer, sent(kit, pair.listener, event))


def many_pings(kit):
    pair = kit.pair().greet()
    for number in range(17):
        pair.deliver(pair.listener, kit.frame(0x4000_0010, {"number": number}, sequence=1 + number))


REMOTE = {
    "STR-010": [lambda k: raw(k, bytes(32))],
    "PRO-001": [lambda k: raw(k, k.frame(HELLO_TYPE, body(HELLO), crc_more=1))],
    "PRO-002": [lambda k: raw(k, k.frame(HELLO_TYPE, body(HELLO), sequence=1))],
    "PRO-003": [lambda k: raw(k, k.frame(0x4000_0000, {})), lambda k: raw(k, k.frame(0x4000_0063, {}))],
    "PRO-005": [
        lambda k: raw(k, k.frame(HELLO_TYPE, b"", length=(1 << 20) + 1)),
        lambda k: raw(k, k.frame(0xC000_0063, b"", length=1 << 40)),
    ],
    "PRO-006": [
        lambda k: raw(k, k.frame(HELLO_TYPE, b"")),
        lambda k: raw(k, k.frame(HELLO_TYPE, b"\x80")),
        lambda k: raw(k, k.frame(HELLO_TYPE, {**body(HELLO), "more": 1})),
        lambda k: raw(k, k.frame(HELLO_TYPE, {**body(HELLO), "epoch": -1})),
        lambda k: raw(k, k.frame(HELLO_TYPE, {**body(HELLO), "epoch": True})),
        lambda k: raw(k, k.frame(HELLO_TYPE, {**body(HELLO), "token": "x" * 4097})),
        lambda k: raw(k, k.frame(HELLO_TYPE, {**body(HELLO), "epoch": 1.5})),
        lambda k: hear(k, "finish", Prepare(1, b"short"), by_dialer=False),
    ],
    "PRO-007": [lambda k: hear_after(k.pair(), k, HELLO, Welcome(2, "h", "n", {}))],
    "PRO-008": [
        lambda k: hear(k, "greet", Offer({}, {})),
        lambda k: hear(k, "greet", Offer({**config_map(k.smith.config), "vcpus": 0}, {})),
        lambda k: hear(k, "greet", Offer({**config_map(k.smith.config), "epoch": 4}, {})),
    ],
    "PRO-019": [lambda k: hear(k, "greet", Offer({**config_map(k.smith.config), "schema_version": 2}, {}))],
    "PRO-010": [
        lambda k: hear(k, "greet", Accept(), by_dialer=True),
        lambda k: hear(k, "offer", Commit(4)),
        lambda k: hear(k, "offer", Accept()),  # said by the wrong side
        lambda k: hear(k, None, Commit(4)),
    ],
    "PRO-011": [
        lambda k: (p := k.pair().up_to("offer"), p.deliver(p.listener, k.smith.snapshot()[:64])),
        lambda k: (p := k.pair().up_to("accept"), p.deliver(p.listener, k.smith.snapshot()[64:])),
        lambda k: (p := k.pair().up_to("accept"), p.deliver(p.dialer, k.smith.snapshot())),
        lambda k: (p := k.pair().up_to("finish"), p.deliver(p.listener, k.smith.record_header(8, 0, 16, 0))),
    ],
    "PRO-012": [other_config],
    "PRO-013": [
        lambda k: hear(k, "round", RoundAck(2), by_dialer=True),
        lambda k: hear(k, "begin", RoundAck(1), by_dialer=True),
        lambda k: hear_after(k.pair().up_to("round"), k, RoundAck(1), RoundAck(1)),
    ],
    "PRO-014": [
        lambda k: hear(k, "finish", Prepare(1, bytes(32))),
        lambda k: hear(k, "finish", Prepare(2, root(k))),
    ],
    "PRO-015": [lambda k: hear(k, "prepare", Prepared(bytes(32), 4), by_dialer=True)],
    "PRO-016": [
        lambda k: hear(k, "prepare", Prepared(root(k), 3), by_dialer=True),
        lambda k: hear(k, "prepared", Commit(5)),
        lambda k: hear(k, "commit", Running(3), by_dialer=True),
        lambda k: hear(k, "greet", Commit(3), role=Role.RECOVERY),
    ],
    "PRO-017": [
        lambda k: hear(k, "greet", Pong(1), by_dialer=True),
        lambda k: hear_after(k.pair().greet(), k, Ping(1), Pong(2)),
        many_pings,
    ],
    "PRO-018": [lambda k: asked(k, Outcome("m-2", "failed", "alpha", 3, "why"))],
}  # fmt: skip
"""Rule -> ways for a peer to break it."""


def pairs(table):
    return [
        pytest.param(rule, breach, id=f"{rule}-{n}")
        for rule, found in table.items()
        for n, breach in enumerate(found, 1)
    ]


@pytest.mark.parametrize(("rule", "breach"), pairs(REMOTE))
def test_peer_is_blamed_by_the_rule(kit, rule, breach):
    with pytest.raises(RemoteProtocolError) as caught:
        breach(kit)
    assert caught.value.rule == rule
    assert rule in str(caught.value)


LOCAL = {
    "PRO-005": [lambda k: k.pair().dialer.send(replace(HELLO, source_host="x" * 4096)) and k.pair().up_to("greet").say(
        Offer(config_map(k.smith.config), {"a": b"x" * (1 << 20)}))],
    "PRO-006": [
        lambda k: k.pair().dialer.send(replace(HELLO, epoch=-1)),
        lambda k: k.pair().greet().say(Offer(config_map(k.smith.config), {"a": 1.5})),
        lambda k: k.pair().greet().say(Offer(config_map(k.smith.config), {"a": object()})),
    ],
    "PRO-007": [lambda k: (p := k.pair(), p.say(replace(HELLO, protocol_version=9)), p.say(Welcome(9, "h", "n", {})))],
    "PRO-010": [lambda k: k.pair().dialer.send(Accept()), lambda k: k.pair().listener.send(Commit(1))],
    "PRO-011": [
        lambda k: k.pair().greet().dialer.send_stream(k.smith.snapshot()[:64]),
        lambda k: k.pair().up_to("accept").listener.send_stream(k.smith.snapshot()[:64]),
    ],
    "PRO-016": [lambda k: k.pair().up_to("prepared").say(Commit(3))],
    "PRO-017": [lambda k: [p.dialer.send(Ping(n)) for p in [k.pair().greet()] for n in range(17)]],
    "PRO-020": [
        lambda k: k.pair().listener.fill(b"short"),
        lambda k: k.pair().listener.filled(bytearray(4096), 1),
    ],
}  # fmt: skip
"""Rule -> ways for this end to break it."""


@pytest.mark.parametrize(("rule", "breach"), pairs(LOCAL))
def test_this_end_is_told_before_anything_is_sent(kit, rule, breach):
    with pytest.raises(LocalProtocolError) as caught:
        breach(kit)
    assert caught.value.rule == rule


def test_pro_004_unknown_optional_frames_are_skipped_and_checked(kit):
    pair = kit.pair()
    assert pair.deliver(pair.listener, kit.frame(0xC000_0063, bytes(200_000))) == []
    assert pair.deliver(pair.listener, kit.frame(0xC000_0064, b"", sequence=1)) == []
    octets = kit.frame(HELLO_TYPE, body(HELLO), sequence=2)
    assert pair.deliver(pair.listener, octets) == [HELLO]
    with pytest.raises(RemoteProtocolError, match="PRO-001"):
        pair.deliver(pair.listener, kit.frame(0xC000_0063, b"damaged", sequence=3, crc_more=1))


def test_stream_that_breaks_its_format_ends_the_connection_with_the_format_s_rule(kit):
    pair = kit.pair().up_to("begin")
    with pytest.raises(RemoteProtocolError) as caught:
        pair.deliver(pair.listener, kit.smith.record_header(7, 1, 104, 0))
    assert caught.value.rule == "STR-021"


def test_pro_031_copy_that_is_not_prepared_is_discarded():
    for state in ("queued", "connecting", "negotiating", "precopy", "stop_and_copy", "verifying"):
        for answer in (None, *ANSWERS):
            decision = decide_destination(state, answer)
            assert (decision.action, decision.owner, decision.rule) == (Action.DISCARD, Owner.SOURCE, "PRO-031")


def test_pro_032_prepared_copy_runs_only_when_the_source_says_that_it_committed():
    runs = {answer for answer in (None, *ANSWERS) if decide_destination("prepared", answer).action is Action.RUN}
    assert runs == {"committed", "completed"}
    assert decide_destination("prepared", "committed").rule == "PRO-032"


def test_pro_033_source_beyond_the_commit_point_never_runs_the_vm():
    for state in ("committed", "completed"):
        assert decide_source(state).owner is Owner.DESTINATION
        assert decide_source(state).action in {Action.RESEND_COMMIT, Action.KEEP}
    assert decide_source("completed").rule == "PRO-033"


def test_pro_034_destination_that_took_the_ownership_keeps_it_whatever_the_source_says():
    for state in ("committed", "completed"):
        for answer in (None, *ANSWERS):
            decision = decide_destination(state, answer)
            assert (decision.owner, decision.rule) == (Owner.DESTINATION, "PRO-034")


def test_pro_035_without_a_clear_answer_the_prepared_copy_waits():
    undecided = (
        None,
        "unknown",
        "queued",
        "connecting",
        "negotiating",
        "precopy",
        "stop_and_copy",
        "verifying",
        "prepared",
    )
    for answer in undecided:
        decision = decide_destination("prepared", answer)
        assert decision.action in {Action.ASK_SOURCE, Action.HOLD}
        assert decision.rule == "PRO-035"


def test_pro_036_committed_source_repeats_commit():
    assert decide_source("committed").action is Action.RESEND_COMMIT
    assert decide_source("committed").rule == "PRO-036"


def test_pro_037_source_that_has_not_committed_keeps_the_vm():
    for state in JOURNAL_STATES:
        if state not in {"committed", "completed"}:
            decision = decide_source(state)
            assert (decision.owner, decision.rule) == (Owner.SOURCE, "PRO-037")
            assert decision.action is (Action.KEEP if state in {"cancelled", "failed"} else Action.ABORT_AND_RESUME)


def test_rules_of_the_document_the_code_and_the_tests_are_the_same_set():
    document = set(re.findall(r"\[(PRO-\d{3})\]", (PROTOCOL / "PROTOCOL.md").read_text().split("## Recovery")[0]))
    code = {rule for path in PROTOCOL.glob("*.py") for rule in re.findall(r"PRO-\d{3}", path.read_text())}
    named = {
        name.replace("_", "-").upper() for name in re.findall(r"def test_(pro_\d{3})_", Path(__file__).read_text())
    }
    tested = {rule for rule in REMOTE.keys() | LOCAL.keys() | named if rule.startswith("PRO")}
    assert document == code == tested


def test_every_must_of_the_document_has_a_rule():
    text = (PROTOCOL / "PROTOCOL.md").read_text()
    assert [p for p in re.split(r"\n\n|\n(?=[-|])", text) if "MUST" in p and "PRO-" not in p] == []
