"""Runs the application of one host agent under uvicorn: binds, announces its URL, stops gracefully."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI

from migsvc.app import create_app
from migsvc.config import Settings
from migsvc.errors import MigsvcError

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

BACKLOG = 128
"""Connections that the kernel queues before they are accepted."""


class StartError(Exception):
    """The agent cannot start; the text says why and what to do."""


class AgentServer(uvicorn.Server):
    """uvicorn, but it announces the URL once requests are taken, and ends event streams before it waits for clients."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, url: str, as_json: bool) -> None:
        """Serve `app`; print `url` in words or as one line of JSON."""
        super().__init__(config)
        self._app = app
        self._url = url
        self._as_json = as_json

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the services, listen, then announce."""
        await super().startup(sockets)
        if self.started:
            print(announcement(self._app, self._url, self._as_json), flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell streams and long polls to end, then close as usual."""
        self._app.state.closing.set()
        await super().shutdown(sockets)


def announcement(app: FastAPI, url: str, as_json: bool) -> str:
    """Return the line that tells where the agent is."""
    settings: Settings = app.state.settings
    address = app.state.services.migration_address
    if as_json:
        document: dict[str, Any] = {
            "url": url,
            "name": settings.name,
            "data_dir": str(settings.data_dir),
            "migration_address": address,
            "pid": os.getpid(),
        }
        return json.dumps(document)
    return f"migsvc {settings.name}: {url}  data in {settings.data_dir}  migrations at {address}"


def run(settings: Settings, *, as_json: bool = False) -> None:
    """Run the agent until SIGTERM or SIGINT.

    Raises:
        ConfigError: the token file cannot be used.
        StartError: the port is taken, or the data directory cannot be used.
    """
    logging.basicConfig(level=settings.log_level.upper(), format=LOG_FORMAT, stream=sys.stderr)
    if settings.log_level != "debug":
        for chatty in ("alembic", "uvicorn.error"):  # each start and each look at the catalogue's version, line by line
            logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        app = create_app(settings)
    except (OSError, MigsvcError) as error:
        raise StartError(str(error)) from error
    listener = bind(settings)
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level=None,
        access_log=settings.log_level == "debug",
        timeout_graceful_shutdown=int(settings.graceful_shutdown_s),
        server_header=False,
        backlog=BACKLOG,
        lifespan="on",
    )
    server = AgentServer(config, app, url, as_json)
    # The reason of a failed start is printed once, as a sentence; uvicorn would log its traceback too.
    logging.getLogger("uvicorn.error").addFilter(lambda _: not isinstance(app.state.start_error, MigsvcError))
    try:
        server.run(sockets=[listener])
    except SystemExit as stopped:  # uvicorn's way to say that the lifespan failed; the log has the reason
        failure = app.state.start_error
        raise StartError(str(failure or "the agent could not start; see the log")) from stopped
    finally:
        listener.close()


def bind(settings: Settings) -> socket.socket:
    """Bind the API's socket.

    Raises:
        StartError: the address cannot be used.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise StartError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; try --port 0") from error
    return listener
