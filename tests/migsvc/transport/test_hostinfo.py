import asyncio
import socket

import pytest

from migsvc.errors import PeerError
from migsvc.transport import hostinfo


def test_a_host_that_says_nothing_is_told_with_a_reason(monkeypatch):
    monkeypatch.setattr(hostinfo, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(PeerError, match="cannot be reached: ReadTimeout"):
            asyncio.run(hostinfo.fetch_host(url, None))


GOOD = b'"id": "i", "name": "n", "migration_address": "127.0.0.1:1"'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{" + GOOD + b', "profile": {}, "profile": {"a": 1}}', "occurs twice"),
        (b"{" + GOOD + b', "profile": {"a": NaN}}', "profile.a: NaN"),
        (b"[" * 60_000, "deep"),
        (b"{" + GOOD + b', "profile": [' + b"0," * (1 << 18) + b"0]}", "values"),
    ],
    ids=["twice", "nan", "deep", "many"],
)
def test_an_answer_that_is_no_strict_json_is_refused(body, message):
    assert hostinfo._parse("http://x", b"{" + GOOD + b', "profile": {}, "load": 0.5}').name == "n"
    with pytest.raises(PeerError, match=message):
        hostinfo._parse("http://x", body)
