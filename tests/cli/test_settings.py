"""Settings have their effect in a registry that was started with them."""

import json
import socket
from pathlib import Path

from tests.support import ports, stackyard
from tests.support.processes import wait_until
from tests.support.running import Running


def post(server: Running, prefix: str = "") -> tuple[int, str]:
    got = server.request("POST", f"{prefix}/v2/a/blobs/uploads/", headers={"Content-Length": "0"})
    return got.status, got.headers.get("Location", "")


def test_failing_checks_answer_503_and_the_debug_port_says_which(tmp_path: Path) -> None:
    down, debug = tmp_path / "down", ports.free()
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        health = {
            "file": [{"file": str(down), "interval": "50ms"}],
            "tcp": [{"addr": address, "interval": "50ms", "threshold": 2}],
            "storagedriver": {"enabled": True, "interval": "50ms"},
        }
        config = {"health": health, "http": {"debug": {"addr": f"127.0.0.1:{debug}"}}, "stackyard": {"workers": 1}}
        with stackyard.start(config, folder=tmp_path / "server") as server:
            debugger = Running(server.process, debug, server.folder, server.data, server.config)
            assert (server.request("GET", "/").status, debugger.request("GET", "/debug/health").status) == (200, 200)

            down.touch()
            wait_until(lambda: server.request("GET", "/v2/").status == 503, "the file to be seen")
            told = debugger.request("GET", "/debug/health")
            assert (told.status, json.loads(told.body)) == (503, {str(down): "the file exists"})
            assert (server.request("GET", "/").status, server.request("GET", "/healthz").status) == (503, 200)

            down.unlink()
            wait_until(lambda: server.request("GET", "/v2/").status == 200, "the file to be gone")
            other.close()
            wait_until(lambda: server.request("GET", "/v2/").status == 503, "the port to be closed")
            assert [*json.loads(debugger.request("GET", "/debug/health").body)] == [address]


def test_the_environment_wins_and_that_of_kubernetes_does_not(tmp_path: Path) -> None:
    env = {
        "REGISTRY_STORAGE_MAINTENANCE_READONLY": "{enabled: true}",
        "REGISTRY_HTTP_HEADERS_X-Extra": "[one, two]",
        "REGISTRY_CATALOG_MAXENTRIES": "5",
        "REGISTRY_PORT": "tcp://10.0.0.1:5000",
        "REGISTRY_PORT_5000_TCP_ADDR": "10.0.0.1",
        "REGISTRY_SERVICE_PORT": "5000",
    }
    with stackyard.start({}, env, folder=tmp_path) as server:
        assert post(server)[0] == 405
        assert server.request("GET", "/v2/").headers.get_all("X-Extra") == ["one", "two"]
        assert server.request("GET", "/v2/_catalog?n=6").status == 400
        assert server.request("GET", "/v2/_catalog?n=5").status == 200
        assert "are not ours and are ignored" in server.log


def test_prefix_and_relative_urls_shape_locations(tmp_path: Path) -> None:
    with stackyard.start({"http": {"prefix": "/hub/", "relativeurls": True}}, folder=tmp_path) as server:
        status, location = post(server, "/hub")

    assert (status, location.rpartition("/")[0]) == (202, "/hub/v2/a/blobs/uploads")


def test_access_line_is_json_with_the_fields_of_the_operator_and_no_secret(tmp_path: Path) -> None:
    log = {"formatter": "json", "fields": {"environment": "tests"}}
    with stackyard.start({"log": log, "http": {"secret": "hunter2"}}, folder=tmp_path) as server:
        server.request("GET", "/v2/a%0Ab/tags/list?n=1", headers={"Authorization": "Basic dTpodW50ZXIz"})
        server.process.wait_line("?n=1")

    lines = [json.loads(line) for line in server.log.splitlines()]
    (line,) = [line for line in lines if line.get("path") == "/v2/a\nb/tags/list?n=1"]
    assert (line["environment"], line["status"], line["client"]) == ("tests", 400, "127.0.0.1")
    assert {"method", "repository", "bytes", "seconds", "user", "request", "cutoff"} <= line.keys()
    for secret in ("hunter2", "hunter3", "dTpodW50ZXIz"):
        assert secret not in server.log


def test_access_log_that_is_off_says_nothing(tmp_path: Path) -> None:
    with stackyard.start({"log": {"accesslog": {"disabled": True}}}, folder=tmp_path) as server:
        server.request("GET", "/v2/_catalog")

    assert "_catalog" not in server.log
