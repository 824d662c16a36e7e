"""Metrics of one host, in a registry of its own; labels are bounded: methods, route templates, statuses, states."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from migsvc import __version__
from migsvc.service import Services
from migsvc.service.records import MigrationRecord, MigrationState, SnapshotStatus, VmStatus

METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})
"""Methods that get a label of their own; others are `other`."""

MAX_PAGES = 200
"""Pages of 500 records that one scrape reads of each kind: a bound on its work."""

FINAL = frozenset({MigrationState.COMPLETED, MigrationState.CANCELLED, MigrationState.FAILED})

DOWNTIME_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 30.0)
TOTAL_BUCKETS_S = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0)


# Otherwise every counter brings a second series with the time of its creation.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The instruments, and how they are brought up to date at a scrape."""

    def __init__(self) -> None:
        """Create every instrument; names carry base units as Prometheus asks."""
        self.registry = CollectorRegistry()
        r = self.registry
        self.requests = Counter(
            "migsvc_http_requests", "HTTP requests answered.", ("method", "route", "status"), registry=r
        )
        self.duration = Histogram(
            "migsvc_http_request_duration_seconds",
            "Time to the last byte of the answer.",
            ("method", "route"),
            registry=r,
        )
        self.vms = Gauge("migsvc_vms", "VMs by status.", ("status",), registry=r)
        self.ram = Gauge("migsvc_vm_ram_bytes", "Guest RAM of the VMs that are present.", registry=r)
        self.snapshots = Gauge("migsvc_snapshots", "Snapshots by status.", ("status",), registry=r)
        self.snapshot_bytes = Gauge("migsvc_snapshot_bytes", "Size of all snapshot files.", registry=r)
        self.migrations = Gauge("migsvc_migrations", "Migrations by role and state.", ("role", "state"), registry=r)
        self.downtime = Histogram(
            "migsvc_migration_downtime_seconds", "Downtime of completed migrations from this host.",
            buckets=DOWNTIME_BUCKETS_S, registry=r,
        )  # fmt: skip
        self.total = Histogram(
            "migsvc_migration_duration_seconds", "Duration of completed migrations from this host.",
            buckets=TOTAL_BUCKETS_S, registry=r,
        )  # fmt: skip
        self.sent = Counter("migsvc_migration_sent_bytes", "Bytes of completed migrations from this host.", registry=r)
        build = Gauge("migsvc_build_info", "1, with the version as label.", ("version",), registry=r)
        build.labels(__version__).set(1)
        self._observed: set[str] = set()

    async def render(self, services: Services) -> bytes:
        """Read the present numbers and return the exposition text."""
        if services.ready:
            await self._read_vms(services)
            await self._read_snapshots(services)
            await self._read_migrations(services)
        return generate_latest(self.registry)

    async def _read_vms(self, services: Services) -> None:
        counts = dict.fromkeys(VmStatus, 0)
        ram = 0
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await services.vms.list(cursor, 500)
            for vm in page.items:
                counts[vm.status] += 1
                ram += vm.ram_bytes if vm.worker_pid is not None else 0
            if (cursor := page.next) is None:
                break
        self.ram.set(ram)
        for status, count in counts.items():
            self.vms.labels(status.value).set(count)

    async def _read_snapshots(self, services: Services) -> None:
        counts = dict.fromkeys(SnapshotStatus, 0)
        size = 0
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await services.snapshots.list(cursor, 500)
            for snapshot in page.items:
                counts[snapshot.status] += 1
                size += snapshot.size_bytes
            if (cursor := page.next) is None:
                break
        self.snapshot_bytes.set(size)
        for status, count in counts.items():
            self.snapshots.labels(status.value).set(count)

    async def _read_migrations(self, services: Services) -> None:
        counts = {(role, state): 0 for role in ("source", "destination") for state in MigrationState}
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await services.migrations.list(cursor, 500)
            for record in page.items:
                counts[record.role, record.state] += 1
                self._observe(record)
            if (cursor := page.next) is None:
                break
        for (role, state), count in counts.items():
            self.migrations.labels(role, state.value).set(count)

    def _observe(self, record: MigrationRecord) -> None:
        """Count a finished migration once; after a restart of the host the history is counted anew."""
        if record.role != "source" or record.state not in FINAL or record.id in self._observed:
            return
        self._observed.add(record.id)
        if record.state == MigrationState.COMPLETED:
            self.downtime.observe((record.stats.downtime_ns or 0) / 1e9)
            self.total.observe((record.stats.total_ns or 0) / 1e9)
            self.sent.inc(record.stats.bytes)


class MetricsMiddleware:
    """ASGI middleware that counts every request under its route template, never under its path."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Count into `metrics`."""
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and note its status and duration."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500
        began = time.monotonic()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            route = route_template(scope)
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.metrics.requests.labels(method, route, str(status)).inc()
            self.metrics.duration.labels(method, route).observe(time.monotonic() - began)


def route_template(scope: Scope) -> str:
    """Return the path template of the matched route, e.g. `/v1/vms/{vm}`; `unmatched` when there is none."""
    route = scope.get("route")
    return str(getattr(route, "path", "unmatched"))
