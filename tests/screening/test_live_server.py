"""The live page on this machine: for those who know its address, and pushed when it changes."""

import http.client
import json
import socket
from collections.abc import Iterator

import pytest

from plates.errors import SettingsError
from screening.live_server import LiveServer


@pytest.fixture
def server() -> Iterator[LiveServer]:
    made = LiveServer()
    made.show("<p>first</p>", {"status": "one\ntwo"})
    yield made
    made.close()


def ask(server: LiveServer, path: str, *, method: str = "GET", host: str = "") -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, headers={"Host": host or f"127.0.0.1:{server.port}"})
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.headers.items())
    finally:
        connection.close()


def secret(server: LiveServer) -> str:
    return "/" + server.address.split("/", 3)[3]


def test_the_page_is_given_to_those_who_know_its_address_alone(server: LiveServer) -> None:
    status, body, headers = ask(server, secret(server))
    assert (status, body) == (200, b"<p>first</p>")
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    wrong = ("/", "/events", "/" + "x" * 32 + "/", secret(server) + "../../etc/passwd", secret(server)[:-2] + "/")
    assert [ask(server, path)[0] for path in wrong] == [404] * len(wrong)
    assert ask(server, secret(server), method="POST")[0] == 501


def test_another_hosts_name_is_refused(server: LiveServer) -> None:
    # a web page that lets its own name point to 127.0.0.1 would be asked for under that name
    for host in ("evil.example", f"evil.example:{server.port}", f"127.0.0.1:{server.port + 1}"):
        assert ask(server, secret(server), host=host)[0] == 403
    assert ask(server, secret(server), host=f"localhost:{server.port}")[0] == 200


def test_nothing_listens_outside_this_machine(server: LiveServer) -> None:
    for address in {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}:
        if not str(address).startswith("127."):
            with pytest.raises(OSError), socket.create_connection((str(address), server.port), timeout=2):  # noqa: PT011
                pass


def test_what_changes_is_sent_at_once_and_on_coming_back(server: LiveServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", secret(server) + "events")
    answer = connection.getresponse()
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert read_event(answer) == {"status": "one\ntwo"}
    server.show("<p>second</p>", {"status": "three"})
    assert read_event(answer) == {"status": "three"}
    connection.close()
    assert ask(server, secret(server))[1] == b"<p>second</p>"


def read_event(answer: http.client.HTTPResponse) -> dict[str, str]:
    line = answer.readline()
    assert answer.readline() == b"\n"
    return dict(json.loads(line.removeprefix(b"data: ")))


def test_closing_ends_open_streams() -> None:
    server = LiveServer()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", secret(server) + "events")
    answer = connection.getresponse()
    assert read_event(answer) == {}
    server.close()
    assert answer.read().strip(b": stilhre\n") == b""
    connection.close()


def test_a_port_that_is_taken_is_told(server: LiveServer) -> None:
    with pytest.raises(SettingsError, match=f"Port {server.port}"):
        LiveServer(port=server.port)
