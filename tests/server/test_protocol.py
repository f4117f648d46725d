"""HTTP/1.1 as clients see it, on the wire."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.server.serving import Server, Wire
from tests.support.processes import wait_until


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    with Wire(server.port) as wire:
        yield wire


def errors(body: bytes) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(body)["errors"]
    return found


def test_connection_is_kept_for_the_next_request(wire: Wire) -> None:
    first, second = wire.request("GET", "/a"), wire.request("GET", "/b")

    assert [json.loads(answer.body)["path"] for answer in (first, second)] == ["/a", "/b"]
    assert not first.closes


def test_path_and_query_are_taken_apart(wire: Wire) -> None:
    told = json.loads(wire.request("GET", "/v2/a%2Fb/%C3%A9?n=1&last=x%20y").body)

    assert (told["path"], told["raw_path"], told["query"]) == ("/v2/a/b/é", "/v2/a%2Fb/%C3%A9", "n=1&last=x%20y")


def test_absolute_target_is_its_path(wire: Wire) -> None:
    told = json.loads(wire.request("GET", "http://localhost/v2/?n=1").body)

    assert (told["path"], told["query"]) == ("/v2/", "n=1")


def test_options_of_the_server_as_a_whole_is_understood(wire: Wire) -> None:
    assert json.loads(wire.request("OPTIONS", "*").body)["path"] == "*"


def test_pipelined_requests_are_answered_in_order(wire: Wire) -> None:
    wire.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(20)))

    assert [json.loads(wire.answer().body)["path"] for _ in range(20)] == [f"/{number}" for number in range(20)]


def test_body_of_a_pipelined_request_goes_with_its_request(wire: Wire) -> None:
    put = b"PUT /put HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
    wire.send(put + b"abc" + put + b"de")
    first = wire.answer()
    wire.send(b"f")

    assert json.loads(first.body)[0] == 3
    assert json.loads(first.body) != json.loads(wire.answer().body)


def test_too_many_pipelined_requests_are_cut_off(server: Server, tmp_path: Path) -> None:
    with Wire(server.port) as wire:
        wire.send(f"GET /wait?begun={tmp_path}/begun&file={tmp_path}/go HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        wait_until((tmp_path / "begun").exists, "the first request to be under way")
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 200)
        (tmp_path / "go").touch()

        assert wire.rest().count(b"HTTP/1.1 200 OK") < 100


def test_flood_behind_a_request_that_cannot_be_followed_is_not_read(server: Server, tmp_path: Path) -> None:
    with Wire(server.port) as wire:
        wire.send(f"GET /wait?begun={tmp_path}/begun&file={tmp_path}/go HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        wait_until((tmp_path / "begun").exists, "the request to be under way")
        wire.socket.settimeout(0.5)
        taken = 0
        with suppress(TimeoutError):
            while taken < 200_000_000:
                taken += wire.socket.send(bytes(100_000))
        (tmp_path / "go").touch()
        wire.socket.settimeout(30)

        assert taken < 100_000_000
        assert wire.answer().body == b"waited"


def test_head_has_a_length_and_no_body(wire: Wire) -> None:
    head = wire.request("HEAD", "/tell")
    after = wire.request("GET", "/after")

    assert int(head.headers["content-length"]) > 0
    assert head.body == b""
    assert json.loads(after.body)["path"] == "/after"


def test_body_without_length_is_sent_in_chunks(wire: Wire) -> None:
    answer = wire.request("GET", "/chunks")

    assert (answer.headers["transfer-encoding"], answer.body) == ("chunked", b"one two")
    assert wire.request("GET", "/").status == 200


def test_http_1_0_gets_a_body_that_ends_with_the_connection(wire: Wire) -> None:
    wire.send(b"GET /chunks HTTP/1.0\r\n\r\n")

    head, _, body = wire.rest().partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body == b"one two"


def test_chunked_body_is_read(wire: Wire) -> None:
    wire.send(b"PUT /put HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")

    assert json.loads(wire.answer().body)[0] == 5


def test_large_body_arrives_whole(server: Server) -> None:
    body = bytes(range(256)) * 40_000

    with Wire(server.port) as wire:
        assert json.loads(wire.request("PUT", "/put", body=body).body)[0] == len(body)


def test_client_that_half_closes_is_still_answered(wire: Wire) -> None:
    wire.send(b"GET /tell HTTP/1.1\r\nHost: a\r\n\r\n")
    wire.socket.shutdown(1)

    assert wire.answer().status == 200


def test_client_that_half_closes_in_its_body_is_told_so(wire: Wire) -> None:
    wire.send(b"PUT /put HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab")
    wire.socket.shutdown(1)

    answer = wire.answer()

    assert (answer.status, errors(answer.body)[0]["code"]) == (400, "SIZE_INVALID")


def test_body_cut_short_is_a_disconnect_for_the_application(server: Server, tmp_path: Path) -> None:
    note = tmp_path / "note"
    with Wire(server.port) as wire:
        wire.send(f"PUT /put?note={note} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc".encode())
        wire.socket.shutdown(1)

        assert wire.answer().status == 400

    assert json.loads(note.read_text())[::2] == [3, "http.disconnect"]


def test_client_that_leaves_is_a_disconnect_for_the_application(server: Server, tmp_path: Path) -> None:
    with Wire(server.port) as wire:
        wire.send(f"GET /watch?begun={tmp_path}/begun&note={tmp_path}/note HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        wait_until((tmp_path / "begun").exists, "the request to be under way")
        wire.socket.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER 0: leave with a reset

    wait_until((tmp_path / "note").exists, "the application to hear of it")
    assert (tmp_path / "note").read_text() == "http.disconnect"


def test_body_longer_than_announced_is_not_read_as_the_next_request(wire: Wire) -> None:
    wire.send(b"PUT /put HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcdefgh")

    answer = wire.answer()
    assert json.loads(answer.body)[0] == 3
    assert wire.rest() == b""


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"NONSENSE\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PUT /put HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PUT /put HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
        b"PUT /put HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"PUT /put HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"PUT /put HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"PUT /put HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"PUT /put HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ],
    ids=lambda request: request[:60].decode("latin-1"),
)
def test_malformed_request_is_400_in_the_registrys_format(wire: Wire, request_: bytes) -> None:
    wire.send(request_)

    answer = wire.answer()
    assert (answer.status, answer.closes) == (400, True)
    assert [*errors(answer.body)[0]] == ["code", "message"]
    assert wire.closed()


def test_header_beyond_the_limit_is_431(wire: Wire) -> None:
    wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000 + b"\r\n\r\n")

    assert wire.answer().status == 431


def test_request_that_is_refused_unread_is_told_in_the_log(tmp_path: Path) -> None:
    with Server(tmp_path) as server, Wire(server.port) as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n")
        assert wire.answer().status == 400

        server.child.wait_line('msg="a request was refused unread" part=server client=127.0.0.1 status=400')


def test_header_without_end_is_431(wire: Wire) -> None:
    wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Name: value\r\n" * 5_000)

    assert wire.answer().status == 431


@pytest.mark.parametrize("endless", [b"0\r\n" + b"X: y\r\n" * 50, b"0\r\nX: ", b"1;x="])
def test_framing_of_a_body_without_end_is_431(wire: Wire, endless: bytes) -> None:
    wire.send(b"PUT /put HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n" + endless)

    with suppress(OSError):
        for _ in range(64):
            wire.send((b"X: y\r\n" if endless.endswith(b"\n") else b"yyyyyy") * 1_000)

    assert wire.answer().status == 431


def test_many_small_chunks_are_no_framing_without_end(wire: Wire) -> None:
    head = b"PUT /put HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire.send(head + b"1;extension=12345678\r\na\r\n" * 10_000 + b"0\r\n\r\n")

    assert json.loads(wire.answer().body)[0] == 10_000


def test_trailer_passes_for_no_header(wire: Wire) -> None:
    head = b"PUT /tell?wait=1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked \r\nTrailer: X-Late\r\n\r\n"
    wire.send(head + b"1\r\na\r\n0\r\nX-Late: 1\r\nX-Forwarded-Host: evil\r\nHost: evil\r\n\r\n")

    names = [name for name, _ in json.loads(wire.answer().body)["headers"]]

    assert names == ["host", "transfer-encoding", "trailer"]
    assert wire.request("GET", "/next").status == 200


def test_other_version_than_1_is_505(wire: Wire) -> None:
    wire.send(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n")

    assert wire.answer().status == 505


def test_space_after_a_framing_header_is_not_part_of_it(wire: Wire) -> None:
    wire.send(b"PUT /put HTTP/1.1\r\nHost: a\r\nExpect: 100-continue \t\r\nContent-Length: 1 \r\n\r\n")
    assert wire.file.readline() == b"HTTP/1.1 100 Continue\r\n"
    wire.file.readline()
    wire.send(b"a")

    assert json.loads(wire.answer().body)[0] == 1


def test_header_within_the_limit_is_taken(wire: Wire) -> None:
    assert wire.request("GET", "/tell", "X: " + "x" * 60_000).status == 200


def test_upgrade_is_ignored(wire: Wire) -> None:
    answer = wire.request("GET", "/one", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA")

    assert answer.status == 200
    assert json.loads(wire.request("GET", "/two").body)["path"] == "/two"


def test_failing_application_answers_500_and_says_nothing_of_it(wire: Wire, server: Server) -> None:
    answer = wire.request("GET", "/fail")

    assert (answer.status, errors(answer.body)[0]["code"]) == (500, "UNKNOWN")
    assert b"secret" not in answer.body
    assert "secret details" in server.child.output


def test_application_failing_in_its_body_breaks_the_connection(wire: Wire) -> None:
    wire.send(b"GET /fail?late=1 HTTP/1.1\r\nHost: a\r\n\r\n")

    with pytest.raises((ConnectionResetError, AssertionError)):
        wire.answer()


def test_application_that_says_nothing_answers_500(wire: Wire) -> None:
    assert wire.request("GET", "/silent").status == 500


@pytest.mark.parametrize("size", [2, 4])
def test_body_of_another_length_than_announced_is_never_passed_off_as_whole(wire: Wire, size: int) -> None:
    assert wire.request("GET", f"/wrong-length?size={size}").status == 500


def test_header_of_an_answer_holds_no_line_of_the_clients(wire: Wire) -> None:
    answer = wire.request("GET", "/header?value=a%0D%0Aset-cookie:%20b=c")

    assert answer.status == 500
    assert "set-cookie" not in answer.headers


def test_client_and_server_addresses_are_told(wire: Wire, server: Server) -> None:
    told = json.loads(wire.request("GET", "/tell").body)

    assert (told["client"][0], told["server"], told["scheme"]) == ("127.0.0.1", ["127.0.0.1", server.port], "http")
