"""Asks another host who it is and where it takes migrations: `GET /v1/host` of its API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx2

from migsvc.errors import PeerError
from schemas.codec.text import TextBounds, loads

MAX_ANSWER_BYTES = 4 << 20
"""The answer holds a CPUID dump and lists of MSRs, some hundred KiB at most."""

ANSWER_BOUNDS = TextBounds(max_bytes=MAX_ANSWER_BYTES, max_values=1 << 18, fractions=True)

TIMEOUT_S = 5.0
"""A host that does not answer a plain GET in this time will not take a VM either."""


@dataclass(frozen=True, slots=True)
class HostInfo:
    """What a host says of itself. `migration_address` is `host:port`, `profile` a HostProfile as JSON."""

    id: str
    name: str
    migration_address: str
    profile: dict[str, Any]


async def fetch_host(url: str, token: str | None) -> HostInfo:
    """Ask the agent whose API is at `url`; `token` is its bearer token, if it needs one.

    Raises:
        PeerError: it cannot be reached, refuses, or answers something else.
    """
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        # trust_env=False: a proxy named in the environment has no business between two hosts.
        async with (
            httpx2.AsyncClient(timeout=TIMEOUT_S, trust_env=False, headers=headers) as client,
            client.stream("GET", f"{url.rstrip('/')}/v1/host") as response,
        ):
            body = b""
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > MAX_ANSWER_BYTES:
                    raise PeerError(f"{url} answers more than {MAX_ANSWER_BYTES} bytes", hint="is this a migsvc agent?")
            status = response.status_code
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise PeerError(
            f"{url} cannot be reached: {str(error) or type(error).__name__}",
            hint="see that its agent runs and the URL is right",
        ) from error
    if status in (401, 403):
        raise PeerError(f"{url} refuses our token (HTTP {status})", hint="register the peer with the right token_file")
    if status != 200:
        raise PeerError(f"{url} answers HTTP {status} to GET /v1/host", hint="is this a migsvc agent, and is it ready?")
    return _parse(url, body)


def _parse(url: str, body: bytes) -> HostInfo:
    try:
        answer = loads(body, ANSWER_BOUNDS)
        info = HostInfo(answer["id"], answer["name"], answer["migration_address"], answer["profile"])
    except (ValueError, KeyError, TypeError) as error:
        raise PeerError(
            f"{url} does not answer as a migsvc agent: {str(error)[:300]}", hint="is this a migsvc agent?"
        ) from error
    if not all(isinstance(text, str) and 0 < len(text) < 256 for text in (info.id, info.name, info.migration_address)):
        raise PeerError(f"{url} does not answer as a migsvc agent: id, name or migration_address is not a short text")
    if not isinstance(info.profile, dict):
        raise PeerError(f"{url} does not answer as a migsvc agent: the profile is not an object")
    return info
