import json

import pytest

from migsvc import schema_exports
from schemas.evolution import EvolutionReport, export_of


def test_schemas_are_listed_released_ones_first(api):
    rows = api.client.get("/v1/schemas").json()
    assert [(row["name"], row["released"]) for row in rows] == [("1", True), ("2", False), ("present", False)]
    assert [row["digest"] for row in rows] == [
        api.client.get(f"/v1/schemas/{r['name']}").json()["digest"] for r in rows
    ]


@pytest.mark.parametrize("name", ["1", "2", "v2", "present"])
def test_a_schema_is_answered_whole_so_that_its_digest_holds(api, name):
    answer = api.client.get(f"/v1/schemas/{name}")
    assert answer.status_code == 200
    assert export_of(answer.json()) == schema_exports.named(name)


@pytest.mark.parametrize("name", ["9", "nope", "v", "1.json"])
def test_a_version_that_is_not_there_is_a_problem(api, name):
    answer = api.client.get(f"/v1/schemas/{name}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    assert "present" in answer.json()["hint"]


def test_versions_are_compared_by_name(api):
    answer = api.client.post("/v1/schemas/check", json={"old": "1", "new": "present"})
    assert answer.status_code == 200
    report = EvolutionReport.model_validate(answer.json())
    assert (report.old.schema_version, report.new.digest) == (1, schema_exports.present().digest)
    assert (report.verdict, report.strict) == ("compatible", False)
    strict = api.client.post("/v1/schemas/check", json={"old": "1", "new": "present", "strict": True}).json()
    assert strict["verdict"] == "breaking"


def test_whole_exports_are_compared(api):
    new = schema_exports.present()
    new = new.model_copy(update={"sections": {n: s for n, s in new.sections.items() if n != "sregs2"}}).sealed()
    body = {"old": schema_exports.present().as_json(), "new": new.as_json()}
    report = api.client.post("/v1/schemas/check", json=body).json()
    assert (report["verdict"], report["version_needed"]) == ("backward-only", True)
    assert [change["id"] for change in report["changes"]] == ["EVO-103"]


@pytest.mark.parametrize("given", [{}, {"format": 1}, {"format": 9}, {"x": {"y": [[[[]]]]}}])
def test_a_document_that_is_no_export_is_a_problem_with_places(api, given):
    answer = api.client.post("/v1/schemas/check", json={"old": "1", "new": given})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-request")
    assert answer.json()["errors"]
    assert all(error["where"].startswith("body.new.") for error in answer.json()["errors"])


def test_characters_that_no_answer_can_hold_are_a_problem(api):
    # json.dumps writes half a surrogate pair as an escape, so it arrives; an answer that repeats it could not be sent.
    for place in ({"limits": {"\ud800": 1}}, {"documents": {"\ud800": {}}}, {"notes": ["\ud800"]}):
        plain = {**schema_exports.kept(1).as_json(), **place}
        answer = api.client.post("/v1/schemas/check", content=json.dumps({"old": plain, "new": "1"}))
        assert answer.status_code == 422, place


@pytest.mark.parametrize("body", [{"old": "1"}, {"old": 1, "new": 2}, {"old": "1", "new": "2", "more": 1}, []])
def test_a_request_of_another_form_is_a_problem(api, body):
    answer = api.client.post("/v1/schemas/check", json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-request")


def test_an_unknown_name_in_a_comparison_is_a_problem(api):
    answer = api.client.post("/v1/schemas/check", json={"old": "7", "new": "present"})
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
