"""The settings of one agent: defaults, `MIGSVC_*` environment variables, and the limits with their reasons.

Every field can be set as `MIGSVC_<FIELD NAME IN CAPITALS>`. Arguments of `migsvc serve` win over the environment,
which wins over the defaults.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from schemas.versions import SCHEMA_VERSION

ENV_PREFIX = "MIGSVC_"
"""Prefix of every environment variable that the agent reads."""

TOKEN_MIN_CHARS = 16
"""A bearer token shorter than this can be guessed over the network; 16 characters of hex are 64 bits."""

TOKEN_FILE_MAX_BYTES = 4096
"""A token is one line; anything larger is the wrong file."""


class ConfigError(ValueError):
    """The settings are wrong; the text names each setting and what to do."""


class Limits(BaseModel):
    """Bounds on what callers and peers can make the agent hold or do. Each has its reason beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_json_body_bytes: int = Field(
        default=1 << 20, ge=1024, description="a whole vCPU state is about 60 KB of JSON; 1 MiB leaves room for MSRs"
    )
    max_vm_create_body_bytes: int = Field(
        default=32 << 20, ge=1024, description="flat images travel base64 in the JSON body, which is held in memory"
    )
    max_held_body_bytes: int = Field(
        default=128 << 20, ge=1 << 20, description="all such bodies at once; each takes some times its size while read"
    )
    max_snapshot_bytes: int = Field(
        default=65 << 30, ge=1 << 16, description="the largest RAM a VM may have (64 GiB) and its records"
    )
    max_vms: int = Field(default=64, ge=1, description="one process each; past this the machine swaps, not serves")
    max_ram_bytes: int = Field(
        default=64 << 30, ge=1 << 16, description="RAM of one VM; the bound of the stream format's memory map"
    )
    max_snapshots: int = Field(default=10_000, ge=1, description="rows; the disk fills much earlier")
    max_peers: int = Field(default=1_000, ge=1, description="rows; a list of hosts, not a directory service")
    max_migrations: int = Field(
        default=4, ge=1, description="at once in each direction; they share one link, more only lengthens each downtime"
    )
    max_step_instructions: int = Field(
        default=10_000_000, ge=1, le=10_000_000, description="one step: the call waits for tens of seconds of emulation"
    )
    max_console_chunk_bytes: int = Field(
        default=1 << 20, ge=1024, le=1 << 20, description="one console answer is held in memory, as text and base64"
    )
    max_console_wait_s: float = Field(default=30.0, ge=0, le=30, description="long poll; proxies commonly cut at 60 s")
    max_event_streams: int = Field(default=256, ge=1, description="open SSE streams; each holds a socket and a task")
    max_idempotency_keys: int = Field(default=100_000, ge=10, description="rows; the oldest go")
    idempotency_ttl_s: float = Field(default=86_400.0, ge=60, description="a client has given up by then")
    graceful_shutdown_s: float = Field(default=5.0, ge=0, description="then open HTTP requests are cut")


def default_data_dir() -> Path:
    """Return `$XDG_STATE_HOME/migsvc`, or `~/.local/state/migsvc`."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "migsvc"


def is_loopback(host: str) -> bool:
    """Tell whether a listen address is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Settings(Limits):
    """The settings of one agent. Build with `Settings()` in tests, `Settings.from_env()` in programs."""

    host: str = Field(default="127.0.0.1", description="address of the HTTP API")
    port: int = Field(default=7700, ge=0, le=65535, description="port of the HTTP API; 0: the system chooses")
    data_dir: Path = Field(default_factory=default_data_dir, description="catalogue, snapshots, sockets, logs")
    name: str = Field(
        default_factory=lambda: _host_name(),
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="name of this host",
    )
    token_file: Path | None = Field(default=None, description="file with the bearer token that every call then needs")
    migration_host: str = Field(default="127.0.0.1", description="address that takes incoming migrations")
    migration_port: int = Field(default=0, ge=0, le=65535, description="0: the system chooses; GET /v1/host tells it")
    migration_advertise: str | None = Field(
        default=None, max_length=255, description="host name or address told to peers instead of migration_host"
    )
    on_exit: Literal["keep", "stop"] = Field(
        default="keep", description="what a graceful stop does with VM workers: leave them running, or end them"
    )
    paced: bool = Field(default=True, description="an idle guest's virtual time does not outrun real time")
    schema_version: int = Field(
        default=SCHEMA_VERSION,
        ge=1,
        le=SCHEMA_VERSION,
        description="highest schema version that this host speaks; 1 is that of hosts before the SMM shadow",
    )
    smm_carriers: Literal["all", "smram", "none"] = Field(
        default="all",
        description="where a shadow put aside by an SMI can arrive: smram as on Linux since 6.2, none as before",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least level logged")
    test_stall: str | None = Field(
        default=None,
        pattern=r"^(source|destination):[a-z_]+:[0-9]+(\.[0-9]+)?$",
        description="test aid, role:state:seconds: wait there, so that a test can kill or cancel in that phase",
    )

    @field_validator("data_dir", "token_file")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @model_validator(mode="after")
    def _loopback_or_token(self) -> Self:
        for field in ("host", "migration_host"):
            address = getattr(self, field)
            if self.token_file is None and not is_loopback(address):
                raise ValueError(
                    f"{field} {address!r} is not a loopback address: whoever reaches it could take every VM. "
                    "Set token_file (MIGSVC_TOKEN_FILE, --token-file) to a file with a bearer token, or use 127.0.0.1"
                )
        return self

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Build settings from the environment; `overrides` that are not None win.

        Raises:
            ConfigError: a value is refused; every refused one is listed.
        """
        found = os.environ if environ is None else environ
        names = {field: ENV_PREFIX + field.upper() for field in cls.model_fields}
        values: dict[str, Any] = {field: found[name] for field, name in names.items() if found.get(name)}
        values.update({key: value for key, value in overrides.items() if value is not None})
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(_explain(error)) from error

    def read_token(self) -> str | None:
        """Return the bearer token, or None when the agent needs none.

        Raises:
            ConfigError: the file cannot be read, or does not hold one token of at least 16 characters.
        """
        if self.token_file is None:
            return None
        try:
            with self.token_file.open("rb") as file:
                raw = file.read(TOKEN_FILE_MAX_BYTES + 1)
        except OSError as error:
            raise ConfigError(f"token_file {self.token_file}: {error.strerror}; give it one secret line") from error
        token = raw.decode("ascii", errors="replace").strip()
        good = len(raw) <= TOKEN_FILE_MAX_BYTES and token.isascii() and token.isprintable() and " " not in token
        if not good or len(token) < TOKEN_MIN_CHARS:
            raise ConfigError(
                f"token_file {self.token_file}: must hold one line of {TOKEN_MIN_CHARS} or more printable characters "
                "without blanks, e.g. from `openssl rand -hex 32`"
            )
        return token

    @property
    def catalogue_path(self) -> Path:
        """The SQLite file."""
        return self.data_dir / "catalogue.db"

    @property
    def snapshots_dir(self) -> Path:
        """The directory of the local snapshot store."""
        return self.data_dir / "snapshots"

    @property
    def run_dir(self) -> Path:
        """The directory of worker sockets and logs."""
        return self.data_dir / "run"


def _host_name() -> str:
    """Return this machine's name as far as it fits the pattern of names, else `host`."""
    name = "".join(c for c in socket.gethostname().split(".")[0] if c.isalnum() or c in "-_")[:63].lstrip("-_")
    return name if name.isascii() and name else "host"


def _explain(error: ValidationError) -> str:
    """Turn pydantic's report into one line per setting."""
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        lines.append(f"{where} ({ENV_PREFIX}{where.upper()}): {message}" if where else message)
    return "; ".join(lines)
