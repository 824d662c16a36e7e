import inspect
import re

import pytest

from migsvc import errors
from migsvc.api.errors import BY_SLUG, PROBLEMS, row_of


def all_errors():
    return [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.MigsvcError)]


def test_every_error_of_the_service_has_a_kind_of_problem():
    mapped = {row.error for row in PROBLEMS if row.error}
    unmapped = {cls.__name__ for cls in all_errors()} - {cls.__name__ for cls in mapped}
    assert unmapped == {"FindingsError"}  # abstract: its subclasses have rows


def test_slugs_are_unique_and_stable_in_form():
    assert len(BY_SLUG) == len(PROBLEMS)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", slug) for slug in BY_SLUG)


def test_the_nearest_class_decides():
    assert row_of(errors.NotOwnerError("x")).slug == "not-owner"
    assert row_of(errors.ConflictError("x")).slug == "conflict"
    assert row_of(errors.FindingsError("x", [])).slug == "bad-request"


@pytest.mark.parametrize("row", [row for row in PROBLEMS if row.error], ids=lambda row: row.slug)
def test_an_error_becomes_its_problem_with_hint_and_members(api, problem, row):
    api.vm()
    findings = ([{"rule": "R-1", "message": "m"}],) if issubclass(row.error, errors.FindingsError) else ()
    api.services.vms.fail = row.error("what is wrong", *findings, hint="what to do", title="not this", limit=3)
    document = problem(api.client.post("/v1/vms/web-1/run"), row.slug, row.status)
    assert (document["detail"], document["hint"], document["limit"]) == ("what is wrong", "what to do", 3)
    assert document["title"] == row.title
    assert document["instance"] == "/v1/vms/web-1/run"
    if findings:
        assert document["findings"] == findings[0]


def test_every_type_leads_to_its_page(api):
    pages = api.client.get("/problems").json()
    assert [page["type"] for page in pages] == [row.uri for row in PROBLEMS]
    for page in pages:
        assert api.client.get(page["type"]).json() == page


def test_an_unknown_type_is_not_found(api, problem):
    problem(api.client.get("/problems/nonsense"), "not-found", 404)


@pytest.mark.parametrize("path", ["/", "/v1", "/v2/vms", "/v1/vms/", "/docs", "/redoc", "/%00", "/v1/vms/a/b"])
def test_an_unknown_path_is_a_problem(api, problem, path):
    problem(api.client.get(path), "no-such-route", 404)


@pytest.mark.parametrize(("method", "path"), [("PATCH", "/v1/vms"), ("DELETE", "/v1/peers"), ("POST", "/livez")])
def test_a_wrong_method_names_the_right_ones(api, problem, method, path):
    answer = api.client.request(method, path)
    problem(answer, "method-not-allowed", 405)
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 10_000, b'{"name": "a", "name": 1e999}'])
def test_a_body_that_is_no_json_is_a_problem(api, problem, body):
    answer = api.client.post("/v1/vms", content=body, headers={"Content-Type": "application/json"})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code in (400, 422)


def test_json_sent_as_something_else_is_refused(api, problem):
    # A form or text/plain POST needs no preflight in a browser; it must not be read as JSON.
    answer = api.client.post("/v1/vms", content=b'{"name": "a"}', headers={"Content-Type": "text/plain"})
    problem(answer, "invalid-request", 422)
    assert api.services.vms.calls == []


def test_a_hostile_list_of_errors_is_cut(api):
    images = [{"x": i} for i in range(64)]
    errors_listed = api.client.post("/v1/vms", json={"name": "a", "images": images}).json()["errors"]
    assert len(errors_listed) == 100


def test_a_crash_says_nothing_of_the_inside(api, problem):
    api.vm()
    api.services.vms.fail = RuntimeError("secret path /root/x")
    document = problem(api.client.post("/v1/vms/web-1/run"), "internal", 500)
    assert "secret" not in str(document)


def test_validation_does_not_echo_values(api):
    assert "hunter2" not in api.client.post("/v1/vms", json={"name": "hunter2 !"}).text


def test_nothing_is_served_while_the_host_is_not_ready(api, problem):
    api.services.ready = False
    for answer in (
        api.client.get("/v1/vms"),
        api.client.get("/readyz"),
        api.client.post("/v1/vms", json={"name": "a"}),
    ):
        problem(answer, "not-ready", 503)
    assert api.client.get("/livez").status_code == 200
    assert api.client.get("/metrics").status_code == 200
