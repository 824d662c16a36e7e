import msgpack
import pytest

from migsvc import errors
from migsvc.api import examples
from migsvc.api.negotiation import wanted_type
from schemas.state import SCHEMA_VERSION

PATH = "/v1/vms/web-1/vcpus/0/state"
MSGPACK = {"Content-Type": "application/msgpack"}


@pytest.fixture
def vm(api):
    api.vm()
    return api


def packed(**changes):
    document = {"schema_version": SCHEMA_VERSION, "index": 0, "sections": {}}
    return msgpack.packb({**document, **changes})


def test_a_state_is_json_by_default_and_binary_on_request(vm):
    as_json = vm.client.get(PATH)
    assert as_json.headers["content-type"] == "application/json"
    assert as_json.json()["regs"]["rip"] == "0x8042"
    as_binary = vm.client.get(PATH, headers={"Accept": "application/msgpack"})
    assert as_binary.headers["content-type"] == "application/msgpack"
    document = msgpack.unpackb(as_binary.content)
    assert document["sections"] == vm.services.vms.state.to_sections()
    assert as_json.headers["etag"] == as_binary.headers["etag"]


def test_a_state_read_and_put_back_is_the_same_in_either_form(vm):
    before = vm.services.vms.state.to_sections()
    for accept in ("application/json", "application/msgpack"):
        read = vm.client.get(PATH, headers={"Accept": accept})
        answer = vm.client.put(PATH, content=read.content, headers={"Content-Type": accept, "Accept": accept})
        assert answer.status_code == 200, answer.text
        assert answer.content == read.content
        assert vm.services.vms.state.to_sections() == before


def test_a_changed_register_is_put(vm):
    state = vm.client.get(PATH).json()
    state["regs"]["rax"] = "0xffffffffffffffff"
    assert vm.client.put(PATH, json=state).json()["regs"]["rax"] == "0xffffffffffffffff"
    assert vm.services.vms.state.regs.rax == 2**64 - 1


def test_a_put_under_an_old_digest_is_refused(vm, problem):
    state = vm.client.get(PATH)
    changed = {**state.json(), "regs": {**state.json()["regs"], "rax": "0x1"}}
    headers = {"If-Match": state.headers["etag"]}
    assert vm.client.put(PATH, json=changed, headers=headers).status_code == 200
    problem(vm.client.put(PATH, json=changed, headers=headers), "precondition-failed", 412)


def test_every_place_that_does_not_fit_is_listed(vm, problem):
    state = examples.vcpu_state()
    state["regs"]["rax"] = "0x1" + "0" * 16
    state["regs"]["rbx"] = "many"
    del state["sregs"]
    document = problem(vm.client.put(PATH, json=state), "invalid-request", 422)
    assert {"regs.rax", "regs.rbx", "sregs"} <= {e["where"] for e in document["errors"]}


def test_illegal_state_is_refused_with_every_finding(vm, problem):
    findings = [{"rule": "INV-001", "message": "a"}, {"rule": "INV-002", "message": "b"}]
    vm.services.vms.fail = errors.IllegalStateError("two rules are broken", findings)
    document = problem(vm.client.put(PATH, json=examples.vcpu_state()), "illegal-state", 422)
    assert document["findings"] == findings


def test_the_state_of_another_vcpu_is_refused(vm, problem):
    problem(vm.client.put(PATH, json={**examples.vcpu_state(), "index": 1}), "invalid-request", 422)
    problem(vm.client.get("/v1/vms/web-1/vcpus/1/state"), "not-found", 404)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x80",
        packed() + b"\x00",
        packed(schema_version=99),
        packed(index="0"),
        packed(index=True),
        packed(sections=[]),
        packed(sections={"regs": "text"}),
        packed(sections={"nonsense": b""}),
        packed(sections={"regs": b"short"}),
        packed(more=1),
        msgpack.packb({"index": msgpack.ExtType(1, b"x")}),
        msgpack.packb(msgpack.Timestamp(1)),
        b"\x82\xa1a\x01\xa1a\x02",
        b"\x81\x01\x02",
        b"\x91" * 4000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdc\x10\x00" + b"\x90" * 4096,
        msgpack.packb({str(i): 0 for i in range(65)}),
    ],
)
def test_hostile_messagepack_is_refused(vm, problem, body):
    before = vm.services.vms.state
    problem(vm.client.put(PATH, content=body, headers=MSGPACK), "invalid-request", 422)
    assert vm.services.vms.state is before


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "line 1 column 1"),
        (b"{", "line 1 column 2"),
        (b"[]", "VcpuState"),
        (b"null", "VcpuState"),
        (b'{"index": 0}', "regs"),
        (b"\xff", "octet 0"),
        (b"[" * 100_000, "document"),
        (b'{"index": 0, "index": 0}', "document"),
        (b'{"regs": {"rip": NaN}}', "regs.rip"),
        (b'{"regs": {"rip": 1.5}}', "regs.rip"),
        (b'{"regs": {"rip": -1}}', "regs.rip"),
        (b'{"regs": {"rip": ' + b"9" * 5000 + b"}}", "regs.rip"),
    ],
)
def test_hostile_json_is_refused_with_the_place(vm, problem, body, where):
    headers = {"Content-Type": "application/json"}
    document = problem(vm.client.put(PATH, content=body, headers=headers), "invalid-request", 422)
    assert where in {error["where"] for error in document["errors"]}


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/jsonx", "multipart/form-data"])
def test_other_content_types_are_refused(vm, problem, content_type):
    headers = {} if content_type is None else {"Content-Type": content_type}
    problem(vm.client.put(PATH, content=b"{}", headers=headers), "unsupported-media-type", 415)


@pytest.mark.parametrize("accept", ["text/html", "application/xml;q=1, application/json;q=0"])
def test_what_cannot_be_served_is_not_acceptable(vm, problem, accept):
    problem(vm.client.get(PATH, headers={"Accept": accept}), "not-acceptable", 406)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("application/msgpack", "application/msgpack"),
        ("application/json;q=0.5, application/msgpack", "application/msgpack"),
        ("application/msgpack;q=0.5, */*;q=0.1", "application/msgpack"),
        ("application/json;q=0, */*", "application/msgpack"),
        ("text/html, */*;q=0.1", "application/json"),
        ("APPLICATION/MSGPACK ; q=1", "application/msgpack"),
    ],
)
def test_the_best_of_accept_is_chosen(accept, wanted):
    assert wanted_type(accept) == wanted


def test_a_body_over_the_bound_is_refused(vm, problem):
    body = b"x" * (vm.settings.max_json_body_bytes + 1)
    problem(vm.client.put(PATH, content=body, headers=MSGPACK), "body-too-large", 413)
    pieces = (b"x" * 65536 for _ in range(20))
    problem(vm.client.put(PATH, content=pieces, headers=MSGPACK), "body-too-large", 413)


def test_a_host_that_can_hold_a_vm_is_told_from_one_that_cannot(vm, problem):
    profile = examples.host_profile()
    good = vm.client.post("/v1/vms/web-1/compat", json={"profile": profile})
    assert good.status_code == 200, good.text
    assert good.json()["verdict"] != "impossible"
    small = {**profile, "max_ram_bytes": "0x1000"}
    bad = vm.client.post("/v1/vms/web-1/compat", json={"profile": small}).json()
    assert bad["verdict"] == "impossible"
    assert [f["where"] for f in bad["findings"] if f["severity"] == "error"] == ["memory.ram_bytes"]
    problem(vm.client.post("/v1/vms/web-1/compat", json={"profile": {}}), "invalid-request", 422)
