import pytest

OCTETS = {"Content-Type": "application/octet-stream"}


def test_a_snapshot_is_accepted_and_followed(api):
    api.vm()
    answer = api.client.post("/v1/snapshots", json={"vm": "web-1", "name": "first"})
    assert answer.status_code == 202
    assert answer.json()["status"] == "writing"
    assert api.client.get(answer.headers["location"]).json() == answer.json()


def test_snapshots_are_listed_filtered_and_deleted(api, problem):
    for name in ("a", "b"):
        api.client.post("/v1/snapshots", json={"vm": "web-1", "name": name})

    def names(query):
        return [s["name"] for s in api.client.get(f"/v1/snapshots?{query}").json()["items"]]

    assert names("") == ["a", "b"]
    assert names("vm=web-1&status=writing") == ["a", "b"]
    assert names("vm=other") == names("status=ready") == []
    assert api.client.delete("/v1/snapshots/a").status_code == 204
    assert names("") == ["b"]
    problem(api.client.get("/v1/snapshots/a"), "not-found", 404)


def test_an_uploaded_stream_comes_back_byte_for_byte(api):
    data = b"good" + bytes(range(256)) * 100
    answer = api.client.put("/v1/snapshots/copy/content?name=mine", content=data, headers=OCTETS)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == "/v1/snapshots/copy"
    back = api.client.get("/v1/snapshots/copy/content")
    assert back.content == data
    assert back.headers["content-type"] == "application/octet-stream"
    assert "copy.migsvc" in back.headers["content-disposition"]


def test_a_broken_download_goes_on_where_it_stopped(api):
    data = b"good" + bytes(range(256))
    api.client.put("/v1/snapshots/copy/content", content=data, headers=OCTETS)
    part = api.client.get("/v1/snapshots/copy/content", headers={"Range": "bytes=100-"})
    assert (part.status_code, part.content) == (206, data[100:])


@pytest.mark.parametrize(
    ("wanted", "slug", "status"),
    [
        ("bytes=3-1", "bad-request", 400),
        ("bytes=a-b", "bad-request", 400),
        ("items=0-1", "bad-request", 400),
        ("bytes=999999-", "range-not-satisfiable", 416),
    ],
)
def test_a_range_that_cannot_be_served_is_a_problem(api, problem, wanted, slug, status):
    api.client.put("/v1/snapshots/copy/content", content=b"good", headers=OCTETS)
    answer = api.client.get("/v1/snapshots/copy/content", headers={"Range": wanted})
    problem(answer, slug, status)
    assert answer.headers.get("content-range") == ("bytes */4" if status == 416 else None)


def test_a_caller_who_hangs_up_in_an_upload_is_no_fault_of_ours(api, caplog):
    messages = [{"type": "http.request", "body": b"good", "more_body": True}, {"type": "http.disconnect"}]
    answers = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        answers.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "PUT",
        "path": "/v1/snapshots/copy/content",
        "raw_path": b"",
        "root_path": "",
        "query_string": b"",
        "scheme": "http",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/octet-stream")],
        "state": {},
    }
    api.client.portal.call(api.app, scope, receive, send)
    assert answers[0]["status"] == 400
    assert not caplog.records


def test_a_refused_stream_lists_the_broken_rules(api, problem):
    answer = api.client.put("/v1/snapshots/copy/content", content=b"bad", headers=OCTETS)
    assert problem(answer, "stream-rejected", 422)["findings"][0]["rule"] == "STR-001"
    problem(api.client.get("/v1/snapshots/copy"), "not-found", 404)


def test_an_upload_over_the_quota_is_cut_off(make_api, problem):
    api = make_api(max_snapshot_bytes=1 << 16)
    declared = api.client.put("/v1/snapshots/copy/content", content=b"good" * 20_000, headers=OCTETS)
    problem(declared, "body-too-large", 413)
    streamed = api.client.put("/v1/snapshots/copy/content", content=(b"good" * 4096 for _ in range(8)), headers=OCTETS)
    problem(streamed, "body-too-large", 413)
    problem(api.client.get("/v1/snapshots/copy"), "not-found", 404)


def test_an_upload_may_be_larger_than_any_json_body(make_api):
    api = make_api(max_json_body_bytes=1024)
    data = b"good" + bytes(1 << 16)
    assert api.client.put("/v1/snapshots/copy/content", content=data, headers=OCTETS).status_code == 201


def test_an_upload_of_another_type_is_refused(api, problem):
    answer = api.client.put("/v1/snapshots/copy/content", content=b"good", headers={"Content-Type": "text/plain"})
    problem(answer, "unsupported-media-type", 415)


def test_an_id_that_is_no_file_name_is_refused(api, problem):
    answer = api.client.put("/v1/snapshots/%2e%2e/content", content=b"good", headers=OCTETS)
    assert answer.status_code in (404, 422)


def test_a_snapshot_that_is_being_written_has_no_content_yet(api, problem):
    api.client.post("/v1/snapshots", json={"vm": "web-1", "name": "first"})
    problem(api.client.get("/v1/snapshots/first/content"), "conflict", 409)


def test_a_restored_vm_is_answered_with_its_place(api, problem):
    api.client.post("/v1/snapshots", json={"vm": "web-1", "name": "first"})
    answer = api.client.post("/v1/snapshots/first/restore", json={"name": "again"})
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/vms/{answer.json()['id']}"
    problem(api.client.post("/v1/snapshots/nothing/restore", json={"name": "again"}), "not-found", 404)
    problem(api.client.post("/v1/snapshots/first/restore", json={}), "invalid-request", 422)
