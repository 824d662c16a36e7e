import json
import threading
import time

import pytest


@pytest.fixture
def ready(api):
    api.vm()
    api.peer()
    return api


def start(api, **options):
    return api.client.post("/v1/migrations", json={"vm": "web-1", "peer": "host-b", "options": options})


def events_of(text):
    blocks = [block for block in text.split("\n\n") if block.strip() and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


def test_a_migration_is_accepted_and_followed(ready):
    answer = start(ready, pause_when="smm_shadow", downtime_limit_ms=50)
    assert answer.status_code == 202
    record = answer.json()
    assert (record["state"], record["options"]["pause_when"]) == ("queued", "smm_shadow")
    assert ready.client.get(answer.headers["location"]).json() == record


@pytest.mark.parametrize(
    "options", [{"pause_when": "never"}, {"downtime_limit_ms": 0}, {"max_rounds": 0}, {"timeout_s": 0}, {"speed": 1}]
)
def test_wrong_options_begin_nothing(ready, problem, options):
    problem(start(ready, **options), "invalid-request", 422)
    assert ready.client.get("/v1/migrations").json()["items"] == []


def test_a_migration_names_a_peer_never_a_url(ready, problem):
    body = {"vm": "web-1", "peer": "http://127.0.0.1:1"}
    problem(ready.client.post("/v1/migrations", json=body), "not-found", 404)


def test_migrations_are_listed_and_filtered(ready, problem):
    start(ready)
    assert len(ready.client.get("/v1/migrations?vm=web-1&state=queued").json()["items"]) == 1
    assert ready.client.get("/v1/migrations?state=completed").json()["items"] == []
    assert ready.client.get("/v1/migrations?vm=other").json()["items"] == []
    problem(ready.client.get("/v1/migrations/none"), "not-found", 404)


def test_a_cancellation_is_accepted_before_the_commit_and_refused_after_it(ready, problem):
    migration = start(ready).json()["id"]
    answer = ready.client.post(f"/v1/migrations/{migration}/cancel")
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/migrations/{migration}")
    rows = ready.services.migrations.rows
    rows[migration] = rows[migration].model_copy(update={"state": "completed"})
    document = problem(ready.client.post(f"/v1/migrations/{migration}/cancel"), "not-owner", 409)
    assert (document["owner"], document["epoch"]) == ("host-b", 2)


def test_events_carry_ids_types_and_whole_records(ready):
    migration = start(ready).json()["id"]
    answer = ready.client.get(f"/v1/migrations/{migration}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.text)
    assert [(e["id"], e["event"]) for e in events] == [("1", "state"), ("2", "round"), ("3", "end")]
    assert json.loads(events[1]["data"])["data"] == {"n": 2}


def test_a_broken_event_stream_goes_on_after_the_last_event_seen(ready):
    path = f"/v1/migrations/{start(ready).json()['id']}/events"
    for answer in (
        ready.client.get(path, headers={"Last-Event-ID": "1"}),
        ready.client.get(path, params={"after": 1}),
        ready.client.get(path, params={"after": 3}, headers={"Last-Event-ID": "1"}),
    ):
        assert [e["id"] for e in events_of(answer.text)] == ["2", "3"]


def test_events_of_an_unknown_migration_are_a_problem_not_a_stream(ready, problem):
    problem(ready.client.get("/v1/migrations/none/events"), "not-found", 404)
    path = f"/v1/migrations/{start(ready).json()['id']}/events"
    problem(ready.client.get(f"{path}?after=-1"), "invalid-request", 422)
    problem(ready.client.get(path, headers={"Last-Event-ID": "x"}), "invalid-request", 422)


def test_no_more_streams_are_opened_than_allowed(make_api, problem):
    api = make_api(max_event_streams=1)
    api.vm()
    api.peer()
    path = f"/v1/migrations/{start(api).json()['id']}/events"
    assert api.client.get(path).status_code == 200
    assert api.app.state.event_streams == 0
    api.app.state.event_streams = 1
    problem(api.client.get(path), "not-ready", 503)


def test_an_open_event_stream_ends_when_the_host_stops(ready):
    migrations = ready.services.migrations
    migrations.hold.clear()
    path = f"/v1/migrations/{start(ready).json()['id']}/events"
    texts = []
    reader = threading.Thread(target=lambda: texts.append(ready.client.get(path).text))
    reader.start()
    deadline = time.monotonic() + 5
    while ready.app.state.event_streams == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert reader.is_alive()
    ready.client.portal.call(ready.app.state.closing.set)
    reader.join(5)
    assert not reader.is_alive()
    assert [e["id"] for e in events_of(texts[0])] == ["1", "2"]
    assert ready.app.state.event_streams == 0


def test_peers_are_registered_listed_and_forgotten(api, problem):
    answer = api.client.post("/v1/peers", json={"name": "host-b", "url": "http://127.0.0.1:7702"})
    assert (answer.status_code, answer.headers["location"]) == (201, "/v1/peers/host-b")
    assert [p["name"] for p in api.client.get("/v1/peers").json()["items"]] == ["host-b"]
    assert api.client.get("/v1/peers/host-b").json() == answer.json()
    problem(api.client.post("/v1/peers", json={"name": "host-b", "url": "http://x"}), "conflict", 409)
    assert api.client.delete("/v1/peers/host-b").status_code == 204
    problem(api.client.delete("/v1/peers/host-b"), "not-found", 404)


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:1", "http://" + "x" * 300])
def test_a_peer_needs_an_http_url(api, problem, url):
    problem(api.client.post("/v1/peers", json={"name": "host-b", "url": url}), "invalid-request", 422)
