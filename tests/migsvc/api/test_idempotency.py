import pytest

from migsvc import errors

URL = "/v1/vms"


def post(api, key, body, url=URL):
    return api.client.post(url, json=body, headers={"Idempotency-Key": key})


def test_the_same_request_under_the_same_key_acts_once(api):
    first = post(api, "k-1", {"name": "web-1"})
    again = post(api, "k-1", {"name": "web-1"})
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["content-type"] == "application/json"
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert api.services.vms.calls == [("create", "web-1")]


def test_an_action_under_the_same_key_acts_once(api):
    api.vm()
    for _ in range(3):
        assert post(api, "k-1", {"instructions": 5}, f"{URL}/web-1/step").json()["steps"] == 5
    assert api.services.vms.calls.count(("step", 5)) == 1


@pytest.mark.parametrize(
    ("body", "url"), [({"name": "web-2"}, URL), ({"vm": "web-1"}, "/v1/snapshots"), ({"name": "web-1"}, URL + "?x=1")]
)
def test_the_key_is_not_taken_for_another_request(api, problem, body, url):
    post(api, "k-1", {"name": "web-1"})
    problem(post(api, "k-1", body, url), "idempotency-key-reused", 422)
    assert api.services.vms.calls == [("create", "web-1")]


def test_other_keys_are_other_requests(api, problem):
    post(api, "k-1", {"name": "web-1"})
    problem(post(api, "k-2", {"name": "web-1"}), "conflict", 409)


def test_a_refused_request_may_be_repeated_with_its_key(api, problem):
    api.services.vms.fail = errors.LimitError("too many VMs")
    problem(post(api, "k-1", {"name": "web-1"}), "limit-exceeded", 422)
    problem(post(api, "k-1", {"nme": "web-1"}), "invalid-request", 422)
    api.services.vms.fail = None
    assert post(api, "k-1", {"name": "web-1"}).status_code == 201


def test_a_crashed_request_may_be_repeated_with_its_key(api, problem):
    api.services.vms.fail = RuntimeError("a bug")
    problem(post(api, "k-1", {"name": "web-1"}), "internal", 500)
    api.services.vms.fail = None
    assert post(api, "k-1", {"name": "web-1"}).status_code == 201


def test_keys_outlive_the_agent(make_api):
    api = make_api()
    first = post(api, "k-1", {"name": "web-1"}).json()
    api.client.__exit__(None, None, None)
    later = make_api()
    assert post(later, "k-1", {"name": "web-1"}).json() == first
    assert later.services.vms.calls == []


def test_a_request_that_was_cut_off_by_a_crash_is_not_repeated_blindly(api, problem):
    from datetime import UTC, datetime

    from migsvc.storage.rows import IdempotencyRow

    api.services.vms.fail = KeyboardInterrupt()  # nothing after the reservation, as if the process had been killed
    post_hash = {}
    repository = api.services.idempotency
    original = repository.reserve

    async def noting(row):
        post_hash["row"] = row
        return await original(row)

    repository.reserve = noting
    api.services.vms.fail = None
    post(api, "k-1", {"name": "web-1"})
    row = post_hash["row"]
    repository.reserve = original
    left = IdempotencyRow("k-2", row.request_hash, row.method, row.path, datetime.now(UTC))
    assert api.client.portal.call(repository.reserve, left) is None
    document = problem(post(api, "k-2", {"name": "web-1"}), "request-in-progress", 409)
    assert "outcome was not kept" in document["detail"]


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "caf\xe9"])
def test_a_key_that_is_no_token_is_refused(api, problem, key):
    answer = api.client.post(URL, json={"name": "web-1"}, headers={"Idempotency-Key": key.encode("latin-1")})
    problem(answer, "invalid-request", 422)
    assert api.services.vms.calls == []


def test_a_body_over_the_bound_is_not_read_to_be_hashed(make_api, problem):
    api = make_api(max_vm_create_body_bytes=2048, max_json_body_bytes=1024)
    answer = api.client.post(URL, content=b"x" * 5000, headers={"Idempotency-Key": "k"})
    problem(answer, "body-too-large", 413)
    answer = api.client.post("/v1/peers", content=b"x" * 1500, headers={"Idempotency-Key": "k"})
    problem(answer, "body-too-large", 413)


def test_old_keys_are_purged(make_api, monkeypatch):
    monkeypatch.setattr("migsvc.api.idempotency.PURGE_EVERY", 4)
    api = make_api(max_idempotency_keys=10)
    for i in range(24):
        post(api, f"k-{i}", {"name": f"vm-{i}"})
    assert api.client.portal.call(api.services.idempotency.count) <= 10


async def full_disk(*_):
    raise errors.StorageError("the catalogue failed: database or disk is full", hint="see that its disk has room")


def test_a_full_disk_is_told_as_such_and_nothing_is_done(api, problem, monkeypatch):
    monkeypatch.setattr(api.services.idempotency, "reserve", full_disk)
    document = problem(post(api, "k-1", {"name": "web-1"}), "storage-failed", 507)
    assert "disk is full" in document["detail"]
    assert document["hint"]
    assert api.services.vms.calls == []


def test_what_was_done_is_told_even_if_the_answer_cannot_be_kept(api, monkeypatch):
    monkeypatch.setattr(api.services.idempotency, "complete", full_disk)
    assert post(api, "k-1", {"name": "web-1"}).status_code == 201
    assert api.services.vms.calls == [("create", "web-1")]


def test_a_refusal_is_told_even_if_its_key_cannot_be_released(api, problem, monkeypatch):
    monkeypatch.setattr(api.services.idempotency, "release", full_disk)
    api.services.vms.fail = errors.StorageError("the disk is full")
    problem(post(api, "k-1", {"name": "web-1"}), "storage-failed", 507)
