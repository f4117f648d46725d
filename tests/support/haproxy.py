"""HAProxy with whatever configuration."""

import shutil
import tempfile
from pathlib import Path

from tests.support import ports, tools
from tests.support.processes import Child


class Haproxy:
    """Runs `config`, which listens on `port`, until stopped."""

    def __init__(self, config: str, port: int, *, host: str = "127.0.0.1") -> None:
        program = tools.path("haproxy")
        self.folder = Path(tempfile.mkdtemp(prefix="yh-", dir="/tmp"))
        self.port = port
        file = self.folder / "haproxy.cfg"
        file.write_text(config)
        self._child = Child([program, "-db", "-f", file], log=self.folder / "log")
        self._child.wait_for(lambda: ports.answers(port, host), f"HAProxy on port {port}")

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    @property
    def output(self) -> str:
        """What it logged, one line per request where its configuration logs to stdout."""
        return self._child.output

    def stop(self) -> None:
        self._child.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
