"""Files for this machine alone: whole or in ranges, never from outside their folder."""

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from screening.file_server import Answer, FileServer, asked_range

CONTENT = bytes(range(256)) * 8


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    store = tmp_path / "P012.zarr"
    (store / "A" / "c").mkdir(parents=True)
    (store / "A" / "c" / "0").write_bytes(CONTENT)
    (store / "zarr.json").write_text("{}")
    (store / ".hidden").write_text("hidden")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "P012.zarr.other").mkdir()
    (tmp_path / "P012.zarr.other" / "near").write_text("near")
    (store / "out").symlink_to(tmp_path / "secret")
    (store / "away").symlink_to(tmp_path)
    (store / "circle").symlink_to(store / "circle")
    (store / "inside").symlink_to(store / "A" / "c" / "0")
    made = FileServer({"tomograms": store}, lambda rest: Answer(b"page", "text/html") if rest == "" else None)
    yield made
    made.close()


def ask(server: FileServer, path: str, *, method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of an answer to the path as it is, which no client has tidied."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, headers={"Host": f"127.0.0.1:{server.port}", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.headers.items())
    finally:
        connection.close()


def root(server: FileServer) -> str:
    return "/" + server.address.split("/", 3)[3]


def file(server: FileServer) -> str:
    return root(server) + "files/tomograms/A/c/0"


def test_a_file_is_given_whole_and_by_its_head(server: FileServer) -> None:
    status, body, headers = ask(server, file(server))
    assert (status, body) == (200, CONTENT)
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Content-Security-Policy"] == "default-src 'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Referrer-Policy"] == "no-referrer"
    status, body, headers = ask(server, file(server), method="HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(len(CONTENT)))
    assert ask(server, root(server) + "files/tomograms/inside")[1] == CONTENT, "a link that stays inside is followed"


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("0-0", 0, 1), ("100-299", 100, 300), ("2000-", 2000, 2048), ("2000-9999", 2000, 2048), ("-20", 2028, 2048)],
)
def test_a_range_is_given_also_from_the_end(server: FileServer, asked: str, start: int, stop: int) -> None:
    status, body, headers = ask(server, file(server), Range=f"bytes={asked}")
    assert (status, body) == (206, CONTENT[start:stop])
    assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/2048"
    assert ask(server, file(server), method="HEAD", Range=f"bytes={asked}")[1] == b""


@pytest.mark.parametrize("asked", ["2048-", "2048-2050", "-0"])
def test_a_range_behind_the_end_is_refused(server: FileServer, asked: str) -> None:
    status, body, headers = ask(server, file(server), Range=f"bytes={asked}")
    assert (status, body, headers["Content-Range"]) == (416, b"", "bytes */2048")


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=a-b", "bytes=0-1,4-5", "lines=0-1", "bytes=-", ""])
def test_what_is_no_single_range_asks_for_all(asked: str) -> None:
    assert asked_range(asked, size=10) == (0, 10)


def test_a_range_longer_than_the_file_from_its_end_is_the_file() -> None:
    assert asked_range("bytes=-99", size=10) == (0, 10)
    assert asked_range("bytes=0-", size=0) is None


@pytest.mark.parametrize(
    "path",
    [
        "../secret", "A/../../secret", "%2e%2e/secret", "%2E%2E%2Fsecret", "..%2fsecret", "..\\secret", "..%5csecret",
        "....//secret", "./zarr.json", "A//c/0", "/etc/passwd", "%2fetc%2fpasswd", "out", "away/secret",
        "away/P012.zarr/zarr.json", "circle", "circle/x", ".hidden", "%2ehidden", "../P012.zarr.other/near",
        "zarr.json%00", "zarr.json?x", "A/c/0/", "A/c/0/x",
    ],
)  # fmt: skip
def test_nothing_outside_its_folder_is_given(server: FileServer, path: str) -> None:
    status, body, _ = ask(server, root(server) + "files/tomograms/" + path)
    # a link that leads out of the folder and in again is given: it lies inside
    expected = (200, b"{}") if path == "away/P012.zarr/zarr.json" else (404, b"There is nothing here.\n")
    assert (status, body) == expected


@pytest.mark.parametrize(
    "path", ["files/tomograms", "files/tomograms/", "files/tomograms/A", "files/", "files/secret/x"]
)
def test_folders_are_not_listed_and_others_do_not_exist(server: FileServer, path: str) -> None:
    assert ask(server, root(server) + path)[0] == 404


def test_only_those_who_know_the_address_are_answered_and_only_what_reads(server: FileServer) -> None:
    assert ask(server, root(server))[:2] == (200, b"page")
    wrong = ["/", "/files/tomograms/zarr.json", "/" + "x" * 32 + "/files/tomograms/zarr.json", root(server)[:-2] + "/"]
    assert [ask(server, path)[0] for path in wrong] == [404] * len(wrong)
    for host in ("evil.example", f"evil.example:{server.port}", ""):
        assert ask(server, file(server), Host=host)[0] == 403
        assert ask(server, file(server), method="HEAD", Host=host)[:2] == (403, b"")
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
        assert ask(server, file(server), method=method)[0] == 501
