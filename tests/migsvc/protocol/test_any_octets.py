"""Any octets give events or RemoteProtocolError, nothing else, at every phase and for every role."""

from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migsvc.protocol import TERMINAL, MigrationConnection, RemoteProtocolError, Role, State
from migsvc.protocol.events import EVENTS
from migsvc.protocol.frames import KINDS, MAX_FRAME_BODY, decode_event, encode_event
from migsvc.stream import MachineMemory, MemoryBody
from migsvc.stream.framing import RecordHeader

NUMBERS = [0, *(spec.number for spec in EVENTS), 99]


def feed(connection, octets, memory=None):
    """Return (events, rule of the error) of octets fed as the connection asks for them."""
    view, events = memoryview(octets), []
    memory = memory or MachineMemory(connection.reader, lambda config: bytearray(config.memory.ram_bytes))
    try:
        while (want := connection.expect()) is not None and len(view) >= (
            1 if isinstance(want, MemoryBody) else want.size
        ):
            if isinstance(want, MemoryBody):
                target = want.buffers(memory.ram)[0]
                count = min(len(target), len(view))
                target[:count] = view[:count]
                connection.filled(memory.ram, count)
            else:
                count = want.size
                assert count <= MAX_FRAME_BODY
                connection.fill(view[:count])
            view = view[count:]
            while (event := connection.next_event()) is not None:
                events.append(event)
                if hasattr(event, "record"):
                    memory.take(event.record)
    except RemoteProtocolError as error:
        return events, error.rule
    return events, None


@settings(max_examples=300, deadline=None)
@given(octets=st.binary(max_size=300), role=st.sampled_from(Role))
def test_any_octets_at_the_start(octets, role):
    _, rule = feed(connection := MigrationConnection(role), octets)
    assert rule is None or connection.state in {*TERMINAL, State.IDLE}
    if len(octets) >= 32:
        assert rule is not None  # nobody guesses a CRC


VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**64 - 1) | st.text(max_size=4) | st.binary(max_size=33),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
FIELDS = sorted({name for spec in EVENTS for name in get_type_hints(spec.cls)})


@settings(max_examples=400, deadline=None)
@given(
    phase=st.sampled_from(
        [None, "greet", "offer", "accept", "begin", "round", "finish", "prepare", "prepared", "commit"]
    ),
    number=st.sampled_from(NUMBERS),
    value=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4) | st.binary(max_size=20),
    to_dialer=st.booleans(),
)
def test_any_well_framed_value_at_any_phase(kit, phase, number, value, to_dialer):
    pair = kit.pair().up_to(phase) if phase else kit.pair()
    hearer = pair.dialer if to_dialer else pair.listener
    before = hearer.state
    events, rule = feed(hearer, kit.frame(kit.control | number, value, sequence=hearer._received), pair.memory)
    if rule is None:
        assert len(events) == 1 or before in TERMINAL
    else:
        assert hearer.state in TERMINAL
        assert before is not State.PREPARED or hearer.state in {State.IN_DOUBT, State.ABORTED}


@settings(max_examples=300, deadline=None)
@given(part=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_between_hello_and_commit_is_noticed(kit, part, bit):
    whole = 0

    class FlippingPair(kit.pair):
        """Counts what goes to the listener, and flips one bit of it."""

        def deliver(self, connection, octets):
            nonlocal whole
            if connection is self.listener:
                start, whole = whole, whole + len(octets)
                if start <= flip_at < whole:
                    octets = bytearray(octets)
                    octets[flip_at - start] ^= 1 << bit
            return super().deliver(connection, octets)

    flip_at = -1
    FlippingPair().up_to("commit")
    flip_at, whole = int(whole * part), 0
    with pytest.raises(RemoteProtocolError):
        FlippingPair().up_to("commit")


@pytest.mark.parametrize("spec", EVENTS, ids=lambda spec: spec.cls.__name__)
def test_every_event_survives_its_frame(kit, spec):
    hints = {field: str(kind) for field, kind in spec.cls.__annotations__.items()}
    sample = {
        "int": 2**64 - 1, "str": "grüß", "str | None": None, "bytes": bytes(32), "Octets": b"\0\1", "bool": False,
        "Mapping[str, Any]": {"a": [1, b"\2", None]}, "tuple[Mapping[str, Any], ...]": ({"b": 1},),
    }  # fmt: skip
    assert set(sample) == set(KINDS)
    event = spec.cls(**{field: sample[kind] for field, kind in hints.items()})
    octets = encode_event(event, 7)
    assert decode_event(spec.cls, RecordHeader.parse(octets[:32]), octets[32:]) == event
