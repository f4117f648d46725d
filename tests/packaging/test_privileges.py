"""Stepping down to the owner of the volume, in processes of their own: nobody can step up again."""

import json
import os
import pwd
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can step down")

ACCOUNT = "nobody"
NOBODY = pwd.getpwnam(ACCOUNT).pw_uid

PRELUDE = """
import json, os, sys, time, encodings.idna
from pathlib import Path
from stackyard.server.local import open_local
from stackyard.server.privileges import CannotStepDown, read_secret, step_down
from stackyard.server.settings import LocalSocket

root, account, *secrets = sys.argv[1:]

def read(path):
    try:
        return read_secret(Path(path)).decode()
    except OSError as error:
        return type(error).__name__

try:
    step_down(Path(root), list(map(Path, secrets)), account)
except CannotStepDown as error:
    print(json.dumps({"refused": str(error)}))
    sys.exit()
children = Path("/proc/self/task", str(os.getpid()), "children")
seen = {"uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups()}
"""
SHOW = "print(json.dumps(seen), flush=True)\n"


def script(then: str, *arguments: Path | str) -> list[str]:
    return [sys.executable, "-c", PRELUDE + then, *map(str, arguments)]


def run(
    root: Path, *secrets: Path, then: str = SHOW, account: str = ACCOUNT, before: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Step down in a new process, run `then` there and return what it printed."""
    command = [*before, *script(then, root, account, *secrets)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@pytest.fixture
def volume() -> Iterator[Path]:
    """A new volume, in a place that every user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        root = Path(folder, "volume")
        root.mkdir()
        yield root


def test_a_new_volume_goes_to_the_account(volume: Path) -> None:
    seen = run(volume)

    assert (seen["uid"], seen["groups"]) == (NOBODY, [])
    assert volume.stat().st_uid == NOBODY


def test_a_fresh_file_system_is_a_new_volume(volume: Path) -> None:
    (volume / "lost+found").mkdir()

    assert run(volume)["uid"] == NOBODY
    assert (volume / "lost+found").stat().st_uid == 0


def test_a_volume_that_root_filled_stays_with_root(volume: Path) -> None:
    (volume / "docker").mkdir()

    assert run(volume)["uid"] == 0
    assert volume.stat().st_uid == (volume / "docker").stat().st_uid == 0


def test_a_volume_of_another_user_is_served_by_that_user(volume: Path) -> None:
    os.chown(volume, 1234, 5678)
    (volume / "old").touch()

    seen = run(volume)

    assert (seen["uid"], seen["gid"], seen["groups"]) == (1234, 5678, [])
    assert (volume / "old").stat().st_uid == 0


def test_a_missing_folder_is_made_for_the_account(volume: Path) -> None:
    root = volume / "a" / "b"

    assert run(root)["uid"] == NOBODY
    assert (root.stat().st_uid, root.parent.stat().st_uid) == (NOBODY, 0)


def test_a_missing_folder_on_a_users_volume_is_left_to_that_user(volume: Path) -> None:
    os.chown(volume, 1234, 5678)

    assert run(volume / "a")["uid"] == 1234
    assert not (volume / "a").exists()


def test_nobody_steps_down_where_the_account_does_not_exist(volume: Path) -> None:
    seen = run(volume, account="no-such-account")

    assert seen["uid"] == 0
    assert volume.stat().st_uid == 0


def test_a_process_without_root_stays_who_it_is(volume: Path) -> None:
    then = "step_down(Path('/'), [Path('/etc/shadow')], account)\nseen['shadow'] = read('/etc/shadow')\n" + SHOW

    assert run(volume, then=then)["shadow"] == "PermissionError"


@pytest.mark.parametrize(
    ("right", "named"), [("setuid", "CAP_SETUID"), ("setgid", "CAP_SETGID"), ("chown", "CAP_CHOWN")]
)
def test_a_missing_right_is_refused_by_its_name(volume: Path, right: str, named: str) -> None:
    seen = run(volume, before=("setpriv", f"--bounding-set=-{right}"))

    assert named in seen["refused"]


def test_a_secret_is_read_again_after_it_was_replaced(volume: Path, tmp_path: Path) -> None:
    key, new, other = tmp_path / "key", tmp_path / "new", tmp_path / "other"
    for file, text in ((key, "one"), (new, "two"), (other, "three")):
        file.write_text(text)
        file.chmod(0o600)
    then = f"""
seen["first"] = read(secrets[0])
seen["missing"] = read(secrets[1])
seen["other"] = read({str(other)!r})
print(json.dumps(seen), flush=True)
sys.stdin.readline()
print(json.dumps(read(secrets[0])))
"""
    command = script(then, volume, ACCOUNT, key, tmp_path / "missing")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        before = json.loads(process.stdout.readline())
        new.replace(key)
        after, _ = process.communicate("\n", timeout=30)

    assert (before["uid"], before["first"]) == (NOBODY, "one")
    assert (before["missing"], before["other"]) == ("FileNotFoundError", "PermissionError")
    assert json.loads(after) == "two"


def test_workers_that_ask_at_once_get_their_own_answers(volume: Path, tmp_path: Path) -> None:
    secrets = [tmp_path / f"secret-{number}" for number in range(4)]
    for secret in secrets:
        secret.write_text(secret.name)
        secret.chmod(0o600)
    then = (
        """
workers = []
for secret in secrets:
    if (pid := os.fork()) == 0:
        os._exit(any(read(secret) != Path(secret).name for _ in range(200)))
    workers.append(pid)
seen["exits"] = [os.waitpid(pid, 0)[1] for pid in workers]
"""
        + SHOW
    )

    assert run(volume, *secrets, then=then)["exits"] == [0, 0, 0, 0]


def test_the_keeper_ends_with_the_server_and_not_with_its_terminal(volume: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("one")
    key.chmod(0o600)
    then = (
        """
import signal
keeper = int(children.read_text())
seen["keeper"] = keeper
"""
        + SHOW
        + "sys.stdin.readline()\n"
    )
    command = script(then, volume, ACCOUNT, key)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        keeper = json.loads(process.stdout.readline())["keeper"]
        watch = os.pidfd_open(keeper)
        os.kill(keeper, 15)
        os.kill(keeper, 2)
        alive = Path(f"/proc/{keeper}/stat").read_text().rsplit(")", 1)[1].split()[0]
        process.kill()

    assert alive != "Z"
    assert wait_readable(watch, seconds=10)


def wait_readable(descriptor: int, *, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])


def test_the_local_socket_belongs_to_the_owner_of_the_volume(volume: Path) -> None:
    os.chown(volume, 1234, 5678)
    then = """
path = Path(root, "admin.sock")
opened = open_local(LocalSocket(path))
seen |= {"owner": path.stat().st_uid, "mode": path.stat().st_mode & 0o777, "sockets": len(opened)}
"""

    seen = run(volume, then=then + SHOW)

    assert (seen["owner"], seen["mode"], seen["sockets"]) == (1234, 0o600, 1)
