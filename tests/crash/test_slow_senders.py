"""A hundred clients that send one byte per second keep nobody waiting, and are let go in the end."""

import secrets
import selectors
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.server.serving import Wire
from tests.support import stackyard
from tests.support.processes import wait_until
from tests.support.running import Running

from stackyard.oci import layout
from stackyard.oci.digests import Digest

SLOW = 100
WINDOW = 6  # seconds over which the rate is averaged
CONTENT = secrets.token_bytes(16 << 20)

pytestmark = pytest.mark.serial


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    limits = {"minimumrate": 100, "ratewindow": f"{WINDOW}s", "headertimeout": f"{WINDOW}s"}
    with stackyard.start({"stackyard": {"workers": 2, "limits": limits}}, folder=tmp_path) as running:
        yield running


class Drip:
    """Connections that each send one byte per second until the server closes them."""

    def __init__(self, wires: list[Wire]) -> None:
        self.wires = wires
        self.cut = 0
        """How many the server has closed."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        for wire in self.wires:
            wire.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as open_ones:
            for wire in self.wires:
                open_ones.register(wire.socket, selectors.EVENT_READ)
            while not self._stop.is_set() and open_ones.get_map():
                next_byte = time.monotonic() + 1
                while (left := next_byte - time.monotonic()) > 0 and not self._stop.is_set():
                    self._note_closed(open_ones, min(left, 0.1))
                self._send(open_ones)

    def _note_closed(self, open_ones: selectors.BaseSelector, patience: float) -> None:
        for key, _ in open_ones.select(patience):
            open_ones.unregister(key.fileobj)
            self.cut += 1

    def _send(self, open_ones: selectors.BaseSelector) -> None:
        for key in list(open_ones.get_map().values()):
            try:
                key.fileobj.send(b"x")  # type: ignore[union-attr]
            except OSError:
                open_ones.unregister(key.fileobj)
                self.cut += 1


def slow_uploads(server: Running) -> list[Wire]:
    """Half of them in the middle of a PATCH, half in the middle of a POST."""
    wires = []
    for number in range(SLOW):
        wire = Wire(server.port)
        path = f"/v2/slow/{number}/blobs/uploads/"
        method, target = "POST", f"{path}?digest={Digest.of(b'never')}"
        if number % 2:
            method, target = "PATCH", urlsplit(wire.request("POST", path).headers["location"]).path
        wire.send(f"{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n".encode())
        wires.append(wire)
    return wires


def push_and_pull(server: Running) -> None:
    """A layer of ordinary size, there and back."""
    digest = Digest.of(CONTENT)
    session = urlsplit(server.request("POST", "/v2/quick/blobs/uploads/").headers["Location"]).path
    assert server.request("PATCH", session, body=CONTENT).status == 202
    assert server.request("PUT", f"{session}?digest={digest}", body=b"").status == 201
    assert server.request("GET", f"/v2/quick/blobs/{digest}").body == CONTENT
    assert server.request("DELETE", f"/v2/quick/blobs/{digest}").status == 202


def test_slow_senders_keep_nobody_waiting_and_are_let_go(server: Running) -> None:
    drip = Drip(slow_uploads(server))
    try:
        undisturbed = 0
        while not drip.cut:
            push_and_pull(server)
            undisturbed += not drip.cut
        wait_until(lambda: drip.cut == SLOW, "all slow ones to be let go", timeout=10 * WINDOW)
    finally:
        drip.stop()

    assert undisturbed, "nothing was pushed and pulled while all slow ones were there"
    push_and_pull(server)
    # A POST leaves nothing, a PATCH its session.
    wait_until(lambda: len(list(server.data.glob(f"{layout.UPLOADS}/*"))) <= SLOW // 2, "their bytes to be removed")
    assert "Traceback" not in server.log
