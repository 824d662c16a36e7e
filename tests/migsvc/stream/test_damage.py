"""Damage of every kind to a small stream: cut, flipped, swapped, repeated, lost. Nothing of it is taken."""

import pytest

from migsvc.stream import MachineLoader, StreamError


def refused_by_both(smith, stream):
    with pytest.raises(StreamError):
        smith.read(stream)
    assert not smith.verify(stream).ok


def test_undamaged_streams_are_taken(smith):
    for stream in (smith.snapshot(), smith.migration()):
        assert smith.verify(stream).clean
        loader = smith.load(stream)
        assert bytes(loader.memory.ram) == bytes(smith.ram)
        assert [type(r).__name__ for r in smith.read(stream)][-2:] == ["Digest", "End"]


def edges(smith, stream):
    """Offsets of headers and small bodies in full, and of pages and big sections every 61st octet."""
    at, found = 64, set(range(64))
    for part in smith.split(stream)[1]:
        found |= set(range(at, at + 32))
        start, end = at + 32, at + 32 + len(part.body)
        found |= set(range(start, min(end, start + 400))) | set(range(start, end, 61)) | {end - 1}
        at = end
    return sorted(found)


@pytest.mark.parametrize("kind", ["snapshot", "migration"])
def test_stream_cut_at_any_point_is_refused(smith, kind):
    stream = getattr(smith, kind)()
    for at in edges(smith, stream):
        with pytest.raises(StreamError) as caught:
            smith.load(stream[:at])
        assert caught.value.rule == "STR-016"


@pytest.mark.parametrize("kind", ["snapshot", "migration"])
def test_verifier_reports_a_stream_cut_between_and_inside_records(smith, kind):
    stream = getattr(smith, kind)()
    for at in edges(smith, stream)[::5]:
        assert {v.rule for v in smith.verify(stream[:at]).violations} == {"STR-016"}


def flipped(stream, octet, bit):
    return stream[:octet] + bytes([stream[octet] ^ 1 << bit]) + stream[octet + 1 :]


def test_any_flipped_bit_of_headers_and_small_bodies_is_refused(smith):
    # All bits of all octets are the campaign below.
    stream = smith.snapshot()
    for octet in edges(smith, stream):
        refused_by_both(smith, flipped(stream, octet, octet % 8))
        for bit in range(8):
            with pytest.raises(StreamError):
                smith.load(flipped(stream, octet, bit))


@pytest.mark.campaign
@pytest.mark.parametrize("bit", range(8))
def test_any_flipped_bit_is_refused(smith, bit):
    stream = smith.snapshot()
    for octet in range(len(stream)):
        refused_by_both(smith, flipped(stream, octet, bit))


def test_swapped_repeated_and_lost_records_are_refused(smith):
    stream = smith.migration()
    header, parts = smith.split(stream)
    records, at = [], 64
    for part in parts:
        records.append(stream[at : at + 32 + len(part.body)])
        at += len(records[-1])
    for i in range(len(records)):
        lost = records[:i] + records[i + 1 :]
        repeated = records[: i + 1] + records[i:]
        refused_by_both(smith, header + b"".join(lost))
        refused_by_both(smith, header + b"".join(repeated))
        for j in range(i):
            swapped = list(records)
            swapped[i], swapped[j] = swapped[j], swapped[i]
            refused_by_both(smith, header + b"".join(swapped))


def test_two_streams_in_one_file_are_refused(smith):
    refused_by_both(smith, smith.snapshot() + smith.snapshot())


def test_error_comes_again_and_names_the_place(smith):
    stream = bytearray(smith.snapshot())
    at = stream.index(b"page two")
    stream[at] ^= 1
    loader = MachineLoader(lambda config: bytearray(config.memory.ram_bytes))
    with pytest.raises(StreamError) as first:
        loader.feed(stream)
    assert "record 1 (MEMORY)" in str(first.value)
    with pytest.raises(StreamError) as again:
        loader.feed(b"more")
    assert again.value is first.value


def test_verifier_goes_on_after_a_damaged_body(smith):
    stream = bytearray(smith.snapshot())
    stream[stream.index(b"page two")] ^= 1
    stream[-1] ^= 1
    rules = [v.rule for v in smith.verify(bytes(stream)).violations]
    assert rules[0] == "STR-015"
    assert rules[-1] == "STR-015"
    assert len(rules) > 2  # the round's totals and the digest are wrong as well
