"""What a client makes of answers that no agent gives."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from migsvc import client as module
from migsvc.client import ApiError, Client, UnreachableError


@pytest.fixture
def answering():
    servers = []

    def serve(body, status=200):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>hello</html>", "not JSON"),
        (b'{"items": [], "items": [1]}', "occurs twice"),
        (b'{"a": NaN}', "a: NaN"),
        (b"[" * 60_000, "deep"),
        (b"[" + b"0," * (1 << 20) + b"0]", "values"),
    ],
    ids=["html", "twice", "nan", "deep", "many"],
)
def test_an_answer_that_is_no_strict_json_is_no_answer(answering, body, message):
    with Client(answering(body)) as client, pytest.raises(UnreachableError, match=message):
        client.get("/v1/host")


def test_an_endless_answer_is_cut(answering, monkeypatch):
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 1000)
    with Client(answering(b'"' + b"x" * 2000 + b'"')) as client, pytest.raises(UnreachableError, match="1000 octets"):
        client.get("/v1/host")


def test_fractions_are_read_and_a_refusal_without_a_document_is_one(answering):
    with Client(answering(b'{"s": 1.5}')) as client:
        assert client.get("/") == {"s": 1.5}
    with Client(answering(b"gone", 502)) as client, pytest.raises(ApiError, match="HTTP status 502"):
        client.get("/")
