import re

from migsvc import __version__
from migsvc.errors import StorageError


def test_the_version_is_told(api):
    assert api.client.get("/version").json()["version"] == __version__


def test_the_host_describes_itself(api):
    assert api.client.get("/v1/host").json()["name"] == "host-a"


def test_metrics_begin_with_our_name_and_count_what_there_is(api):
    api.vm("a", run=True)
    api.vm("b")
    text = api.client.get("/metrics").text
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert names
    assert all(name.startswith("migsvc_") for name in names)
    assert 'migsvc_vms{status="running"} 1.0' in text
    assert 'migsvc_vms{status="paused"} 1.0' in text
    assert 'migsvc_vms{status="lost"} 0.0' in text
    assert f'migsvc_build_info{{version="{__version__}"}} 1.0' in text


def test_labels_are_routes_never_paths(api):
    api.vm("a")
    for path in ("/v1/vms/a", "/v1/vms/nobody", "/nowhere/42", "/v1/vms/a/console"):
        api.client.get(path)
    api.client.request("BREW", "/v1/vms/a")
    text = api.client.get("/metrics").text
    assert 'migsvc_http_requests_total{method="GET",route="/v1/vms/{vm}",status="200"} 1.0' in text
    assert 'migsvc_http_requests_total{method="GET",route="/v1/vms/{vm}",status="404"} 1.0' in text
    assert 'route="unmatched",status="404"' in text
    assert 'method="other"' in text
    assert not re.search("nobody|nowhere|BREW", text)


def test_a_finished_migration_is_counted_once(api):
    api.vm()
    api.peer()
    key = api.client.post("/v1/migrations", json={"vm": "web-1", "peer": "host-b"}).json()["id"]
    rows = api.services.migrations.rows
    stats = rows[key].stats.model_copy(update={"downtime_ns": 9_000_000, "total_ns": 60_000_000, "bytes": 1280})
    rows[key] = rows[key].model_copy(update={"state": "completed", "stats": stats})
    for _ in range(2):
        text = api.client.get("/metrics").text
    assert "migsvc_migration_downtime_seconds_count 1.0" in text
    assert 'migsvc_migration_downtime_seconds_bucket{le="0.01"} 1.0' in text
    assert "migsvc_migration_sent_bytes_total 1280.0" in text
    assert 'migsvc_migrations{role="source",state="completed"} 1.0' in text


def test_a_stop_keeps_or_ends_vms_as_configured(make_api):
    for on_exit, kept in (("keep", True), ("stop", False)):
        api = make_api(on_exit=on_exit)
        api.client.__exit__(None, None, None)
        assert api.services.stopped_with is kept


def test_a_catalogue_that_does_not_answer_makes_the_host_not_ready(api, problem):
    async def fail(cursor=None, limit=100):
        raise StorageError("disk I/O error")

    api.services.peers.list = fail
    document = problem(api.client.get("/readyz"), "not-ready", 503)
    assert "disk I/O error" in document["detail"]
    assert api.client.get("/livez").status_code == 200


def test_vms_that_outlive_the_agent_are_told_of(make_api, caplog):
    api = make_api()
    api.vm("left-running")
    api.client.__exit__(None, None, None)
    assert "1 VMs go on in their workers (left-running)" in caplog.text
