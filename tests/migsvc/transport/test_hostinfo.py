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
