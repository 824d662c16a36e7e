"""Many bodies at once: what they hold together is bounded, and small ones always pass."""

import asyncio

import pytest

from migsvc.api.body_quota import SMALL_BYTES
from migsvc.config import Settings

QUOTA = 1 << 20


class Request:
    """A request whose body stays incomplete until `finish`."""

    def __init__(self, api, path="/v1/vms", method="POST", headers=()):
        self.answers = []
        self.messages = asyncio.Queue()
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": b"",
            "root_path": "",
            "query_string": b"",
            "scheme": "http",
            "state": {},
            "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), *headers],
        }
        self.task = asyncio.ensure_future(api.app(scope, self.messages.get, self._send))

    async def _send(self, message):
        self.answers.append(message)

    async def give(self, size):
        await self.messages.put({"type": "http.request", "body": b" " * size, "more_body": True})
        for _ in range(100):
            await asyncio.sleep(0)

    async def end(self):
        await self.messages.put({"type": "http.disconnect"})
        await asyncio.wait_for(self.task, 5)

    @property
    def status(self):
        return self.answers[0]["status"] if self.answers else None


@pytest.fixture
def api(make_api):
    return make_api(max_held_body_bytes=QUOTA)


@pytest.mark.parametrize("headers", [(), [(b"idempotency-key", b"k-1")]])
def test_bodies_above_the_quota_are_told_to_come_later(api, headers):
    async def work():
        first = Request(api)
        await first.give(QUOTA)
        assert first.status is None
        late = Request(api, headers=headers)
        await late.give(3 * SMALL_BYTES)
        assert late.status == 503
        assert dict(late.answers[0]["headers"])[b"retry-after"] == b"1"
        assert b"/problems/not-ready" in late.answers[1]["body"]
        await first.end()
        again = Request(api, headers=headers)
        await again.give(QUOTA)
        assert again.status is None
        await again.end()

    api.client.portal.call(work)


def test_a_small_body_passes_a_full_quota(api):
    async def work():
        first = Request(api)
        await first.give(QUOTA + SMALL_BYTES)
        small = Request(api)
        await small.give(SMALL_BYTES)
        assert small.status is None
        await small.give(1)
        assert small.status == 503
        await first.end()

    api.client.portal.call(work)


def test_uploads_of_streams_are_not_counted(api):
    async def work():
        upload = Request(api, "/v1/snapshots/copy/content", "PUT")
        await upload.give(QUOTA * 2)
        await upload.give(QUOTA * 2)
        other = Request(api)
        await other.give(QUOTA)
        assert other.status is None
        await other.end()
        await upload.end()

    api.client.portal.call(work)


def test_an_honest_body_of_the_largest_size_fits():
    assert Settings().max_held_body_bytes >= Settings().max_vm_create_body_bytes
