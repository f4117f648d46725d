"""The supervisor and its workers, as real processes with real signals."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.server.serving import PROGRAM, Server, Wire
from tests.support import ports, tools, workers
from tests.support.processes import is_running, wait_until


def waiting(folder: Path) -> str:
    return f"/wait?begun={folder}/begun&file={folder}/go"


def begin_waiting(server: Server, folder: Path) -> Wire:
    """A request that is under way until `folder/go` exists."""
    wire = Wire(server.port)
    wire.send(f"GET {waiting(folder)} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    wait_until((folder / "begun").exists, "the request to be under way")
    return wire


def test_every_worker_answers(tmp_path: Path) -> None:
    with Server(tmp_path, workers=3) as server:
        assert len(server.workers()) == 3
        wires: list[Wire] = []
        pids: set[int] = set()
        while len(pids) < 3 and len(wires) < 60:
            wires.append(Wire(server.port))
            pids.add(json.loads(wires[-1].request("GET", "/tell").body)["pid"])
        for wire in wires:
            wire.close()

        assert pids == set(server.workers())


def test_connections_are_shared_out_evenly(tmp_path: Path) -> None:
    with Server(tmp_path, workers=2) as server:
        wires = [Wire(server.port) for _ in range(20)]
        pids = [json.loads(wire.request("GET", "/tell").body)["pid"] for wire in wires]
        for wire in wires:
            wire.close()

    assert min(pids.count(pid) for pid in set(pids)) >= 5
    assert len(set(pids)) == 2


def test_killed_worker_is_replaced_while_the_others_serve(tmp_path: Path) -> None:
    with Server(tmp_path, workers=2) as server:
        before = server.workers()
        os.kill(before[0], signal.SIGKILL)
        for _ in range(10):
            assert server.get("/tell").status == 200

        server.child.wait_line("a worker ended and is replaced")
        server.child.wait_for(lambda: len(set(server.workers()) - {before[0]}) == 2, "two workers again")
        assert before[1] in server.workers()


def test_replacement_answers(tmp_path: Path) -> None:
    with Server(tmp_path, workers=1) as server:
        [before] = server.workers()
        with pytest.raises((AssertionError, ConnectionResetError)):
            server.get("/leave")

        assert server.told()["pid"] != before


def test_worker_that_keeps_dying_is_not_forked_in_a_frenzy(tmp_path: Path) -> None:
    crash = tmp_path / "crash"
    with Server(tmp_path, workers=1, crash=str(crash)) as server:
        crash.touch()
        os.kill(server.workers()[0], signal.SIGKILL)
        begun = time.monotonic()
        server.child.wait_for(lambda: server.child.output.count("is replaced") >= 4, "the fourth death")
        assert time.monotonic() - begun > 1
        assert "the database is away" in server.child.output
        crash.unlink()

        assert server.get("/tell").status == 200


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_supervisor(tmp_path: Path, number: signal.Signals) -> None:
    with Server(tmp_path, workers=2) as server:
        workers = server.workers()
        server.child.kill(number)
        server.child.wait()

        wait_until(lambda: not any(map(is_running, workers)), "the workers to end", timeout=5)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_running_request_is_finished_before_the_end(
    tmp_path: Path, number: signal.Signals, *, background: bool
) -> None:
    """And new connections are refused, so that a proxy goes elsewhere, also while the background work goes on."""
    with Server(tmp_path, workers=2, notes=str(tmp_path), background=background) as server:
        with begin_waiting(server, tmp_path) as wire:
            server.child.kill(number)
            wait_until(lambda: not ports.answers(server.port), "new connections to be refused")
            assert server.child.status is None
            (tmp_path / "go").touch()

            answer = wire.answer()
            assert (answer.body, answer.closes) == (b"waited", True)
        assert server.child.wait(timeout=5) == 0

    assert len(list(tmp_path.glob("close-*"))) == 2 + background


def test_idle_connections_do_not_hold_up_the_end(tmp_path: Path) -> None:
    with Server(tmp_path) as server, Wire(server.port) as idle, Wire(server.port) as silent:
        idle.request("GET", "/tell")
        server.child.kill(signal.SIGTERM)

        assert server.child.wait(timeout=5) == 0
        assert idle.closed()
        assert silent.closed()


def test_answer_that_is_still_leaving_is_not_cut_by_the_end(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(8_000_000))
    with Server(tmp_path) as server, Wire(server.port) as wire:
        wire.send(f"GET /stream-file?path={file} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        wire.file.peek(1)
        server.child.kill(signal.SIGTERM)

        assert len(wire.answer().body) == 8_000_000
        assert server.child.wait(timeout=5) == 0


def test_what_was_sent_before_the_end_is_answered(tmp_path: Path) -> None:
    """On connections that nobody has accepted yet, on new ones, and on one that was used before."""
    request = b"GET /tell HTTP/1.1\r\nHost: a\r\n\r\n"
    with Server(tmp_path, workers=1) as server, contextlib.ExitStack() as wires:
        used, fresh = (wires.enter_context(Wire(server.port)) for _ in range(2))
        used.request("GET", "/tell")
        with workers.frozen(server.workers()[0]) as thaw:
            unseen = [wires.enter_context(Wire(server.port)) for _ in range(20)]
            for wire in (used, *unseen[:-1]):
                wire.send(request)
            server.child.kill(signal.SIGTERM)
            server.child.wait_line("running requests may finish")
            thaw()
        for wire in (fresh, unseen[-1]):
            wire.send(request)

        assert {wire.answer().status for wire in (used, fresh, *unseen)} == {200}
        assert server.child.wait(timeout=20) == 0


def test_connections_without_a_request_do_not_keep_it_waiting(tmp_path: Path) -> None:
    with Server(tmp_path, drain=60) as server, Wire(server.port) as used, Wire(server.port) as fresh:
        used.request("GET", "/tell")
        server.child.kill(signal.SIGTERM)

        assert used.closed()
        assert fresh.closed()
        assert server.child.wait(timeout=20) == 0


def test_request_longer_than_the_drain_is_cut_off(tmp_path: Path) -> None:
    with Server(tmp_path, drain=0.3) as server, begin_waiting(server, tmp_path) as wire:
        server.child.kill(signal.SIGTERM)

        assert server.child.wait(timeout=5) == 0
        assert wire.closed()
        assert "cut off at the end of draintimeout" in server.child.output


def test_second_signal_ends_at_once(tmp_path: Path) -> None:
    with Server(tmp_path, drain=60) as server, begin_waiting(server, tmp_path) as wire:
        server.child.kill(signal.SIGTERM)
        server.child.wait_line("running requests may finish")
        time.sleep(0.6)  # what comes sooner is the echo of the first
        server.child.kill(signal.SIGTERM)

        assert server.child.wait(timeout=5) == 128 + signal.SIGTERM
        assert wire.closed()


def test_signal_and_its_echo_are_one(tmp_path: Path) -> None:
    """timeout(1) signals the process and then its group."""
    with Server(tmp_path, workers=2) as server, begin_waiting(server, tmp_path) as wire:
        server.child.kill(signal.SIGTERM)
        os.killpg(server.child.pid, signal.SIGTERM)
        server.child.wait_line("running requests may finish")
        (tmp_path / "go").touch()

        assert wire.answer().body == b"waited"
        assert server.child.wait(timeout=5) == 0


def test_interrupt_of_the_whole_group_still_drains(tmp_path: Path) -> None:
    """Ctrl-C reaches the workers too."""
    with Server(tmp_path, workers=2) as server, begin_waiting(server, tmp_path) as wire:
        os.killpg(server.child.pid, signal.SIGINT)
        server.child.wait_line("running requests may finish")
        (tmp_path / "go").touch()

        assert wire.answer().body == b"waited"
        assert server.child.wait(timeout=5) == 0


def test_hangup_reloads_every_worker_and_drops_nothing(tmp_path: Path) -> None:
    with Server(tmp_path, workers=2, notes=str(tmp_path)) as server, begin_waiting(server, tmp_path) as wire:
        workers = server.workers()
        server.child.kill(signal.SIGHUP)
        wait_until(lambda: len(list(tmp_path.glob("reload-*"))) == 2, "both workers to reload")
        (tmp_path / "go").touch()

        assert wire.answer().body == b"waited"
        assert server.workers() == workers


def test_worker_that_cannot_start_stops_the_start(tmp_path: Path) -> None:
    server = Server(tmp_path, workers=2, crash="always")

    assert server.child.wait() == 1
    assert "REFUSED the database is away" in server.child.output
    assert not ports.answers(server.port)
    server.stop()


def test_preparation_is_done_once_and_before_anything_is_served(tmp_path: Path) -> None:
    server = Server(tmp_path, workers=2, prepare=str(tmp_path / "go"))
    server.child.wait_line("PREPARING")
    assert server.workers() == []
    (tmp_path / "go").touch()
    server.ready()
    server.stop()

    assert server.child.output.count("PREPARING") == 1


@pytest.mark.parametrize("namespace", [False, True])
def test_preparation_can_be_stopped_also_as_process_1(tmp_path: Path, namespace: bool) -> None:
    if namespace:
        tools.need_root("unshare needs it")
    server = Server(tmp_path, namespace=namespace, prepare=str(tmp_path / "never"))
    server.child.wait_line("PREPARING")
    pid = server.workers()[0] if namespace else server.child.pid
    os.kill(pid, signal.SIGTERM)

    assert server.child.wait(timeout=5) == 128 + signal.SIGTERM


def test_a_stop_while_a_worker_still_starts_is_an_orderly_end(tmp_path: Path) -> None:
    server = Server(tmp_path, workers=2, drain=60, notes=str(tmp_path), build=str(tmp_path / "build"))
    server.child.wait_line("BUILDING")
    with begin_waiting(server, tmp_path) as wire:
        server.child.kill(signal.SIGTERM)
        server.child.wait_line("stopping")
        (tmp_path / "build").touch()
        server.child.wait_for(lambda: len(server.workers()) == 1, "the late worker to end")
        (tmp_path / "go").touch()
        assert wire.answer().body == b"waited"

    assert server.child.wait() == 0
    assert "Traceback" not in server.child.output
    assert "READY" not in server.child.output


def test_taken_port_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = Server(tmp_path, address=f"127.0.0.1:{taken.getsockname()[1]}")

        assert server.child.wait() == 1
        assert "is taken by another process" in server.child.output
        server.stop()


def test_debug_listener_has_its_own_application(tmp_path: Path) -> None:
    port = ports.free()
    with Server(tmp_path, debug=f"127.0.0.1:{port}") as server:
        assert server.get("/tell", port=port).body == b"debug"
        assert server.get("/tell").body != b"debug"


def test_unix_socket_is_served_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with Server(tmp_path, address=str(path), unix=True) as server:
        with Wire(str(path)) as wire:
            told = json.loads(wire.request("GET", "/tell").body)
        assert (told["client"], told["server"]) == (None, [str(path), None])
        assert server.stop() == 0

    assert not path.exists()


def test_file_goes_over_a_unix_socket(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(3_000_000))
    with Server(tmp_path, address=str(tmp_path / "s"), unix=True), Wire(str(tmp_path / "s")) as wire:
        answer = wire.request("GET", f"/send-file?path={tmp_path}/file")

    assert (answer.headers["x-way"], answer.body) == ("file", bytes(3_000_000))


def test_ipv4_client_of_a_dual_socket_is_told_as_ipv4(tmp_path: Path) -> None:
    port = ports.free()
    with Server(tmp_path, address=f":{port}") as server:
        server.port = port

        assert server.told()["client"][0] == "127.0.0.1"


def test_socket_of_systemd_is_served(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        told = json.dumps({"address": ":1"})
        shell = f"exec 3<&{given.fileno()}; export LISTEN_PID=$$; exec {sys.executable} {PROGRAM} '{told}'"
        server = subprocess.Popen(
            ["/bin/bash", "-c", shell],
            pass_fds=[given.fileno()],
            env=os.environ | {"LISTEN_FDS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            assert server.stdout.readline().split() == ["READY", f"http://127.0.0.1:{given.getsockname()[1]}"]
            with Wire(given.getsockname()[1]) as wire:
                assert wire.request("GET", "/tell").status == 200
        finally:
            server.terminate()
            server.communicate(timeout=10)


def test_orphans_are_reaped_as_the_first_process_of_a_container(tmp_path: Path) -> None:
    """A zombie whose parent is gone comes to process 1, which here is the supervisor."""
    tools.need_root("unshare needs it")
    server = Server(tmp_path, namespace=True).ready()
    inner = int(Path(f"/proc/{server.child.pid}/task/{server.child.pid}/children").read_text())
    enter = ["nsenter", "--target", str(inner), "--pid", "--", "/bin/sh", "-c", "(exit 0) & exec true"]
    for _ in range(5):
        subprocess.run(enter, check=True, timeout=10)

    def zombies() -> list[str]:
        children = Path(f"/proc/{inner}/task/{inner}/children").read_text().split()
        return [pid for pid in children if not is_running(int(pid))]

    wait_until(lambda: not zombies(), "the orphans to be reaped", timeout=5)
    assert server.get("/tell").status == 200
    os.kill(inner, signal.SIGTERM)
    assert server.child.wait(timeout=10) == 0
