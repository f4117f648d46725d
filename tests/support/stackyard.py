"""The registry under test, as a process.

`start` starts ours. STACKYARD_TEST_SERVER=docker-registry puts Debian's
reference server in its place, which tells a fault of a test from a fault
of ours.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support import running, tools
from tests.support.running import Config, Running

ROOT = Path(__file__).parent.parent.parent
OURS = os.environ.get("STACKYARD_TEST_SERVER", "stackyard") == "stackyard"

_SERVING = re.compile('msg(=|":)"serving"')


def start(
    config: Config,
    env: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
    host: str = "localhost",
    inside: Sequence[str] = (),
) -> Running:
    """The server under test, answering, with every worker: before that, a worker that fails ends it. See `launch`."""
    server = launch(config, env, folder=folder, host=host, inside=inside)
    server.wait_ready()
    if OURS:
        server.process.wait_for(lambda: _SERVING.search(server.log) is not None, "every worker to answer")
    return server


def launch(
    config: Config,
    env: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
    host: str = "localhost",
    inside: Sequence[str] = (),
) -> Running:
    """The server under test, started but not awaited.

    Args:
        config: Distribution's config; what it leaves out is filled in: a free port of 127.0.0.1, a data folder
            that is kept when the same `folder` is given again, deletes allowed.
        env: Added to the environment.
        folder: Where config, data and output go; a temporary one without it, removed at stop.
        host: The name that clients use.
        inside: Words before the command, such as those that enter a namespace.
    """
    program = [str(ROOT / ".venv/bin/stackyard")] if OURS else [tools.path("docker-registry")]
    return running.launch(program, config, env, folder=folder, host=host, inside=inside)
