"""Every JSON body of the API is read strictly, in one place."""

import json

import pytest

from migsvc.api import examples, routers
from migsvc.api.strict_json import MAX_VALUES, StrictRoute
from migsvc.config import Settings

JSON = {"Content-Type": "application/json"}


def test_every_route_reads_its_body_strictly(tmp_path):
    for router, _ in routers.table(Settings(data_dir=tmp_path)):
        for route in router.routes:
            assert isinstance(route, StrictRoute), route.path


HOSTILE = [
    ('{"a": {"vm": "x"}, "b": {"vm": "y", "vm": "z"}}', "body.b", "occurs twice"),
    ('{"a": {"vm": NaN}, "b": 1}', "body.a.vm", "NaN"),
    ('{"a": [1e999]}', "body.a.0", "too large"),
    ('{"a": ' + "9" * 5000 + "}", "body.a", "digits"),
    ("[" * 60_000 + "]" * 60_000, "body.document", "deep"),
    ("[" + "0," * MAX_VALUES + "0]", "body.document", "values"),
    ('{"a": ', "body.line 1 column 7", "not JSON"),
    ('{"a": "\\ud800"}', "body.a", "surrogate"),
]


@pytest.mark.parametrize(("body", "where", "message"), HOSTILE, ids=[row[2] for row in HOSTILE])
@pytest.mark.parametrize(
    "path", ["/v1/compat/check", "/v1/compat/baseline", "/v1/schemas/check", "/v1/migrations", "/v1/vms", "/v1/peers"]
)
@pytest.mark.parametrize("media_type", ["application/json", "application/x+json"])
def test_a_hostile_body_is_refused_with_its_place(api, problem, path, body, where, message, media_type):
    answer = api.client.post(path, content=body, headers={"Content-Type": media_type})
    document = problem(answer, "invalid-request", 422)
    assert document["instance"] == path
    assert document["errors"][0]["where"] == where
    assert message in document["errors"][0]["message"]


def test_octets_that_are_no_utf8_are_refused(api, problem):
    answer = api.client.post("/v1/compat/check", content=b'{"a": "\xff"}', headers=JSON)
    assert problem(answer, "invalid-request", 422)["errors"][0]["where"] == "body.octet 7"


def test_fractions_of_a_second_are_numbers(api):
    api.vm()
    api.peer()
    answer = api.client.post("/v1/migrations", json={"vm": "web-1", "peer": "host-b", "options": {"timeout_s": 1.5}})
    assert answer.status_code in (201, 202), answer.text


def test_a_body_too_large_is_told_as_such(api, problem):
    body = json.dumps({"a": "x" * (api.settings.max_json_body_bytes + 1)})
    problem(api.client.post("/v1/compat/check", content=body, headers=JSON), "body-too-large", 413)


def test_the_largest_profile_passes(api):
    profile = examples.host_profile()
    registers = dict.fromkeys(("index", "flags", "eax", "ebx", "ecx", "edx"), 0)
    profile["msr_indices"] = list(range(0x10000, 0x10000 + 1024))
    profile["cpuid"] = {
        "entries": [{**registers, "padding": [0, 0, 0], "function": 0x80000100 + number} for number in range(256)]
    }
    body = {"a": {"profile": profile}, "b": {"profile": profile}}
    answer = api.client.post("/v1/compat/check", json=body)
    assert answer.status_code == 200, answer.text
