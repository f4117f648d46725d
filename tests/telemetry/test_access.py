"""One line per request, whatever a client puts into it."""

import json
import os
import re
import threading
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stackyard.telemetry.access import AccessLog

REQUEST: dict[str, Any] = {
    "method": "GET",
    "target": "/v2/library/alpine/manifests/v1?n=1",
    "status": 200,
    "sent": 1500,
    "seconds": 0.0012345,
    "client": "172.17.0.1",
    "request_id": "5f2c",
    "repository": "library/alpine",
    "user": "alice",
    "agent": "docker/20.10.24",
}
COMBINED = re.compile(
    r'(\S+) - (\S+) \[([^]]+)\] "([^"]*)" (\d{3}) (\d+) "([^"]*)" "([^"]*)" ([\d.]+) (\S+)( cut-off)?'
)


class Pipe:
    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def read(self) -> str:
        return os.read(self.reader, 1 << 16).decode()

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_line_is_in_the_combined_format_and_then_ours(pipe: Pipe) -> None:
    AccessLog(fd=pipe.writer).line(**REQUEST)

    line = pipe.read()
    assert line.endswith("\n")
    found = COMBINED.fullmatch(line[:-1])
    assert found
    client, user, time, request, status, sent, referer, agent, seconds, request_id, cut_off = found.groups()
    assert (client, user, request) == ("172.17.0.1", "alice", "GET /v2/library/alpine/manifests/v1?n=1 HTTP/1.1")
    assert (status, sent, referer, agent) == ("200", "1500", "", "docker/20.10.24")
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", time)
    assert (seconds, request_id, cut_off) == ("0.001234", "5f2c", None)


def test_nobody_is_a_dash_and_a_cut_off_download_is_marked(pipe: Pipe) -> None:
    AccessLog(fd=pipe.writer).line(**REQUEST | {"user": "", "cut_off": True})

    line = pipe.read()
    assert line.startswith("172.17.0.1 - - [")
    assert line.endswith(" 5f2c cut-off\n")


def test_json_line_holds_every_fact(pipe: Pipe) -> None:
    AccessLog(fd=pipe.writer, formatter="json", fields={"environment": 'a "b"'}).line(**REQUEST, cut_off=True)

    row = json.loads(pipe.read())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row.pop("time"))
    assert row == {
        "level": "info",
        "msg": "request",
        "method": "GET",
        "path": "/v2/library/alpine/manifests/v1?n=1",
        "repository": "library/alpine",
        "status": 200,
        "bytes": 1500,
        "seconds": 0.001234,
        "user": "alice",
        "client": "172.17.0.1",
        "request": "5f2c",
        "agent": "docker/20.10.24",
        "referer": "",
        "version": "1.1",
        "cutoff": True,
        "environment": 'a "b"',
    }


FOREIGN = ["method", "target", "user", "client", "request_id", "agent", "referer", "repository"]
ODD = st.text(alphabet=st.sampled_from('a "\\\n\r\t\0\x1b\x7f\x85\u2028é\udc80,}'), max_size=20)


@settings(max_examples=300)
@given(values=st.dictionaries(st.sampled_from(FOREIGN), ODD))
@example(values={"client": " "})
def test_foreign_text_can_end_neither_line_nor_field(values: dict[str, str]) -> None:
    pipe = Pipe()
    AccessLog(fd=pipe.writer).line(**REQUEST | values)
    text = pipe.read()
    AccessLog(fd=pipe.writer, formatter="json").line(**REQUEST | values)
    as_json = pipe.read()
    pipe.close()

    for line in (text, as_json):
        assert line.isascii()
        assert line.count("\n") == 1
        assert all(character.isprintable() for character in line[:-1])
    unescaped = re.sub(r"\\.", "_", text[:-1])
    assert COMBINED.fullmatch(unescaped), text
    row = json.loads(as_json)
    assert row["status"] == 200
    assert row["agent"] == values.get("agent", REQUEST["agent"])


@pytest.mark.parametrize("name", ["password", "refresh_token", "access_token", "token", "client_secret"])
@pytest.mark.parametrize("formatter", ["text", "json"])
def test_secret_of_a_query_is_left_out(pipe: Pipe, name: str, formatter: Literal["text", "json"]) -> None:
    target = f"/auth/token?service=a&{name}=hunter2&scope=repository:password:pull"
    AccessLog(fd=pipe.writer, formatter=formatter).line(**REQUEST | {"target": target})

    line = pipe.read()
    assert "hunter2" not in line
    assert f"/auth/token?service=a&{name}=-&scope=repository:password:pull" in line


def test_endless_value_is_cut(pipe: Pipe) -> None:
    AccessLog(fd=pipe.writer).line(**REQUEST | {"agent": "é" * 100_000, "target": "/" + "x" * 100_000})

    assert len(pipe.read()) < 4096


def test_lines_of_many_writers_never_mix(pipe: Pipe) -> None:
    log = AccessLog(fd=pipe.writer, formatter="json")

    def write(number: int) -> None:
        for _ in range(50):
            log.line(**REQUEST | {"agent": str(number) * 100})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    got = ""
    while got.count("\n") < 200:
        got += pipe.read()
    for thread in threads:
        thread.join()

    assert {json.loads(line)["agent"] for line in got.splitlines()} == {str(number) * 100 for number in range(4)}


def test_reader_that_is_gone_stops_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)

    AccessLog(fd=writer).line(**REQUEST)
    os.close(writer)
