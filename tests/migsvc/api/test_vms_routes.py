import pytest

from migsvc import errors


def test_a_created_vm_is_answered_with_its_place_and_epoch(api):
    answer = api.client.post("/v1/vms", json={"name": "web-1", "guest": "ticker64", "run": True})
    assert answer.status_code == 201
    record = answer.json()
    assert (record["name"], record["status"]) == ("web-1", "running")
    assert answer.headers["location"] == f"/v1/vms/{record['id']}"
    assert answer.headers["etag"] == '"epoch-1"'


def test_a_vm_is_found_by_id_and_by_name(api):
    record = api.vm()
    by_name = api.client.get("/v1/vms/web-1")
    assert by_name.json() == api.client.get(f"/v1/vms/{record['id']}").json() == record
    assert by_name.headers["etag"] == '"epoch-1"'
    assert by_name.headers["cache-control"] == "no-store"


def test_a_misspelt_option_is_refused_by_name(api, problem):
    answer = api.client.post("/v1/vms", json={"name": "web-1", "gest": "ticker64"})
    document = problem(answer, "invalid-request", 422)
    assert [e["where"] for e in document["errors"]] == ["body.gest"]


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "x" * 64])
def test_names_that_cannot_be_file_names_are_refused(api, problem, name):
    problem(api.client.post("/v1/vms", json={"name": name}), "invalid-request", 422)


def test_a_name_that_is_taken_is_a_conflict(api, problem):
    api.vm()
    problem(api.client.post("/v1/vms", json={"name": "web-1"}), "conflict", 409)


def test_a_list_is_cut_into_pages_that_follow_each_other(api):
    names = [api.vm(f"vm-{i}")["name"] for i in range(5)]
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        answer = api.client.get("/v1/vms", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        page = answer.json()
        found += [vm["name"] for vm in page["items"]]
        cursor = page["next"]
        pages += 1
        assert ("link" in answer.headers) == (cursor is not None)
    assert (found, pages) == (names, 3)


def test_the_link_header_leads_to_the_next_page(api):
    for i in range(3):
        api.vm(f"vm-{i}")
    link = api.client.get("/v1/vms?limit=2").headers["link"]
    url = link.partition("<")[2].partition(">")[0]
    assert [vm["name"] for vm in api.client.get(url).json()["items"]] == ["vm-2"]


def test_lists_are_filtered_by_status_and_guest(api):
    api.vm("a", run=True)
    api.vm("b")
    api.vm("c", guest="ticker32")

    def names(query):
        return [vm["name"] for vm in api.client.get(f"/v1/vms?{query}").json()["items"]]

    assert names("status=running") == ["a"]
    assert names("status=running&status=paused") == ["a", "b", "c"]
    assert names("guest=ticker32") == ["c"]
    assert names("guest=ticker32&status=running") == []


def test_a_filtered_page_is_filled_from_several_pages_of_the_catalogue(api):
    for i in range(12):
        api.vm(f"vm-{i}", run=i in (0, 2, 3, 9))
    page = api.client.get("/v1/vms?status=running&limit=2").json()
    assert [vm["name"] for vm in page["items"]] == ["vm-0", "vm-2"]
    rest = api.client.get("/v1/vms", params={"status": "running", "limit": 2, "cursor": page["next"]}).json()
    assert [vm["name"] for vm in rest["items"]] == ["vm-3", "vm-9"]


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "status=flying", "cursor=" + "9" * 300])
def test_a_wrong_query_is_refused(api, problem, query):
    problem(api.client.get(f"/v1/vms?{query}"), "invalid-request", 422)


def test_a_cursor_that_is_not_ours_is_a_bad_request(api, problem):
    problem(api.client.get("/v1/vms?cursor=nonsense"), "bad-request", 400)


def test_a_deleted_vm_is_gone(api, problem):
    api.vm()
    answer = api.client.delete("/v1/vms/web-1")
    assert (answer.status_code, answer.content) == (204, b"")
    problem(api.client.get("/v1/vms/web-1"), "not-found", 404)


def test_a_delete_across_a_handover_is_refused(api, problem):
    api.vm()
    refused = api.client.delete("/v1/vms/web-1", headers={"If-Match": '"epoch-0"'})
    assert problem(refused, "precondition-failed", 412)["detail"].startswith('If-Match is "epoch-0"')
    assert refused.headers["etag"] == '"epoch-1"'
    assert api.client.delete("/v1/vms/web-1", headers={"If-Match": '"epoch-0", "epoch-1"'}).status_code == 204


@pytest.mark.parametrize(
    ("action", "body", "call"),
    [
        ("run", None, ("run",)),
        ("pause", None, ("pause", "any", 50_000_000)),
        ("pause", {"when": "smm_shadow", "limit_instructions": 7}, ("pause", "smm_shadow", 7)),
        ("step", None, ("step", 1)),
        ("step", {"instructions": 12}, ("step", 12)),
        ("smi", None, ("smi",)),
        ("nmi", None, ("nmi",)),
        ("interrupt", {"vector": 32}, ("interrupt", 32)),
    ],
)
def test_an_action_reaches_the_vm_with_its_values(api, action, body, call):
    api.vm()
    answer = api.client.post(f"/v1/vms/web-1/{action}", json=body)
    assert answer.status_code == 200, answer.text
    assert api.services.vms.calls[-1] == call


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("pause", {"when": "lunch"}),
        ("pause", {"limit_instructions": 0}),
        ("step", {"instructions": 0}),
        ("step", {"instructions": 10_000_001}),
        ("step", {"n": 1}),
        ("interrupt", None),
        ("interrupt", {"vector": 256}),
        ("interrupt", {"vector": -1}),
    ],
)
def test_an_action_with_wrong_values_does_nothing(api, problem, action, body):
    api.vm()
    before = list(api.services.vms.calls)
    problem(api.client.post(f"/v1/vms/web-1/{action}", json=body), "invalid-request", 422)
    assert api.services.vms.calls == before


@pytest.mark.parametrize("action", ["run", "pause", "step", "smi", "nmi"])
def test_an_action_on_an_unknown_vm_is_not_found(api, problem, action):
    problem(api.client.post(f"/v1/vms/nobody/{action}"), "not-found", 404)


@pytest.mark.parametrize("action", ["run", "pause", "step", "smi", "nmi"])
def test_an_action_under_an_old_epoch_is_refused(api, problem, action):
    api.vm()
    answer = api.client.post(f"/v1/vms/web-1/{action}", headers={"If-Match": '"epoch-9"'})
    problem(answer, "precondition-failed", 412)


def test_a_vm_that_moved_away_names_its_owner(api, problem):
    api.vm()
    api.services.vms.fail = errors.NotOwnerError("it moved", hint="ask host-b", owner="host-b", epoch=4)
    document = problem(api.client.post("/v1/vms/web-1/run"), "not-owner", 409)
    assert (document["owner"], document["epoch"], document["hint"]) == ("host-b", 4, "ask host-b")


def test_the_console_is_read_from_an_offset_on(api):
    api.vm()
    chunk = api.client.get("/v1/vms/web-1/console?offset=7").json()
    assert (chunk["offset"], chunk["text"], chunk["next_offset"]) == (7, "line 2\n", 14)
    assert api.client.get("/v1/vms/web-1/console?max_bytes=4").json()["text"] == "line"


@pytest.mark.parametrize("query", ["offset=-1", "max_bytes=0", "max_bytes=2000000", "wait_s=31", "wait_s=nan"])
def test_a_wrong_console_query_is_refused(api, problem, query):
    api.vm()
    problem(api.client.get(f"/v1/vms/web-1/console?{query}"), "invalid-request", 422)
