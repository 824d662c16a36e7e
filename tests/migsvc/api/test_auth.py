import pytest
from starlette.testclient import TestClient

GOOD = {"Authorization": "Bearer 0123456789abcdef0123456789abcdef"}


@pytest.fixture
def guarded(make_api, token_file):
    return make_api(token_file=token_file)


@pytest.mark.parametrize(
    "path", ["/v1/vms", "/v1/host", "/version", "/metrics", "/openapi.json", "/problems", "/nowhere"]
)
def test_every_call_but_the_probes_needs_the_token(guarded, problem, path):
    answer = guarded.client.get(path)
    problem(answer, "unauthorized", 401)
    assert answer.headers["www-authenticate"] == 'Bearer realm="migsvc"'
    assert guarded.client.get(path, headers=GOOD).status_code in (200, 404)


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_the_probes_need_no_token(guarded, path):
    assert guarded.client.get(path).json() == {"status": "ok"}


@pytest.mark.parametrize(
    "header",
    [
        "Bearer 0123456789abcdef0123456789abcde",
        "Bearer 0123456789abcdef0123456789abcdef0",
        "Basic 0123456789abcdef0123456789abcdef",
        "0123456789abcdef0123456789abcdef",
        "Bearer",
        "Bearer ",
        "",
    ],
)
def test_a_wrong_token_is_refused_and_not_repeated(guarded, problem, header):
    answer = guarded.client.get("/v1/vms", headers={"Authorization": header})
    problem(answer, "unauthorized", 401)
    assert "0123456789" not in answer.text


def test_the_scheme_is_compared_without_regard_to_case(guarded):
    headers = {"Authorization": GOOD["Authorization"].replace("Bearer", "bearer")}
    assert guarded.client.get("/v1/vms", headers=headers).status_code == 200


def test_a_refused_post_does_nothing(guarded):
    guarded.client.post("/v1/vms", json={"name": "web-1"}, headers={"Idempotency-Key": "k"})
    assert guarded.services.vms.calls == []
    answer = guarded.client.post("/v1/vms", json={"name": "web-1"}, headers={**GOOD, "Idempotency-Key": "k"})
    assert answer.status_code == 201


def test_a_kept_answer_is_not_given_without_the_token(guarded, problem):
    request = {"url": "/v1/vms", "json": {"name": "web-1"}}
    assert guarded.client.post(**request, headers={**GOOD, "Idempotency-Key": "k"}).status_code == 201
    problem(guarded.client.post(**request, headers={"Idempotency-Key": "k"}), "unauthorized", 401)


def test_a_page_whose_name_leads_to_loopback_is_refused(api, problem):
    # DNS rebinding: evil.example resolves to 127.0.0.1, the browser sends its name.
    problem(api.client.get("/v1/vms", headers={"Host": "evil.example:7700"}), "foreign-origin", 403)
    problem(api.client.get("/v1/vms", headers={"Host": "localhost.evil.example"}), "foreign-origin", 403)


def test_a_page_of_another_site_is_refused(api, problem):
    api.vm()
    answer = api.client.post("/v1/vms/web-1/run", headers={"Origin": "https://evil.example"})
    problem(answer, "foreign-origin", 403)
    assert ("run",) not in api.services.vms.calls


@pytest.mark.parametrize("base", ["http://localhost:7700", "http://[::1]:7700", "http://127.0.0.9"])
def test_loopback_names_are_answered(api, base):
    client = TestClient(api.app, base_url=base)
    assert client.get("/v1/host").status_code == 200
    assert client.get("/v1/host", headers={"Origin": base}).status_code == 200


def test_a_host_with_a_token_answers_to_any_name(guarded):
    assert guarded.client.get("/v1/vms", headers={**GOOD, "Host": "host-a.example"}).status_code == 200


@pytest.mark.parametrize(
    "header", [{"Host": "[::1"}, {"Host": "]"}, {"Host": "a]:1"}, {"Host": ""}, {"Origin": "http://["}]
)
def test_names_that_are_none_are_foreign(api, problem, header):
    problem(api.client.get("/v1/vms", headers=header), "foreign-origin", 403)
