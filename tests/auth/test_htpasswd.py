"""The file of users, and what becomes of it when it changes."""

import asyncio
import os
import time
from pathlib import Path

import pytest
from tests.auth.making import Clock, line, write
from tests.support import htpasswd as apache

from stackyard.auth import htpasswd
from stackyard.auth.errors import HtpasswdUnusable
from stackyard.auth.htpasswd import GRACE, LOOK, HtpasswdFile, parse

HASH = "$2y$05$" + "a" * 53
OTHER = "$2b$04$" + "b" * 53


@pytest.mark.parametrize(
    ("text", "users"),
    [
        ("", []),
        (f"alice:{HASH}\n", ["alice"]),
        (f"alice:{HASH}", ["alice"]),
        (f"\n# bob:{HASH}\n\n  alice:{HASH}  \n", ["alice"]),
        (f"alice:{HASH}\r\nbob:{OTHER}\r\n", ["alice", "bob"]),
        (f"\ufeffalice:{HASH}\n", ["alice"]),
        (f"alice:{HASH}:a comment\n", ["alice"]),
        (f"jürgen:{HASH}\n", ["jürgen"]),
        (f":{HASH}\n", []),
        (f"alice {HASH}\n", []),
        ("alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n", []),
        ("alice:$apr1$x$y\nbob:plain\n", []),
        (f"alice:{HASH.replace('$05$', '$03$')}\n", []),
        (f"alice:{HASH.replace('$05$', '$18$')}\n", []),
        (f"alice:{HASH.replace('$2y$', '$2x$')}\n", []),
        (f"alice:{HASH}a\n", []),
    ],
)
def test_file_is_read_as_apache_reads_it(text: str, users: list[str]) -> None:
    assert list(parse(text.encode()).hashes) == users


def test_first_line_of_a_name_counts() -> None:
    assert parse(f"alice:{HASH}\nalice:{OTHER}\n".encode()).hashes == {"alice": HASH.encode()}


def test_name_that_is_not_utf8_is_skipped_and_its_line_named() -> None:
    users = parse(f"alice:{HASH}\n".encode() + b"\xff:" + HASH.encode() + b"\n")

    assert list(users.hashes) == ["alice"]
    assert users.skipped == (2,)


@pytest.mark.parametrize(
    ("text", "torn"),
    [
        (f"alice:{HASH}\nbob:{HASH[:20]}", True),
        (f"alice:{HASH}\nbo", True),
        (f"alice:{HASH}\nbob:{HASH[:20]}\n", False),
        (f"alice:{HASH}", False),
        (f"alice:{HASH}\n# the en", False),
    ],
)
def test_file_that_ends_within_a_line_is_torn(text: str, torn: bool) -> None:
    assert parse(text.encode()).torn is torn


def test_highest_cost_is_that_of_the_slowest_hash() -> None:
    assert parse(f"alice:{HASH}\nbob:{OTHER}\n".encode()).highest_cost == 5


def test_lines_of_apaches_own_tool_are_understood(tmp_path: Path) -> None:
    file = apache.write(tmp_path / "htpasswd", {"alice": "secret", "bob": "other"})

    assert list(HtpasswdFile(file).users.hashes) == ["alice", "bob"]


def test_missing_file_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(HtpasswdUnusable, match=rf"htpasswd -Bbn USER PASSWORD > {tmp_path}/htpasswd"):
        HtpasswdFile(tmp_path / "htpasswd")


def test_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HtpasswdUnusable, match="directory"):
        HtpasswdFile(tmp_path)


def test_user_that_was_removed_is_gone_at_the_next_look(tmp_path: Path) -> None:
    file = HtpasswdFile(write(tmp_path / "htpasswd", {"alice": "a", "bob": "b"}))

    write(tmp_path / "htpasswd", {"alice": "a"})
    file.look()

    assert list(file.users.hashes) == ["alice"]


def test_change_within_one_tick_of_the_clock_is_seen(tmp_path: Path) -> None:
    """Same size, same inode, same times: only the content differs."""
    path = tmp_path / "htpasswd"
    path.write_text(f"alice:{HASH}\n")
    file = HtpasswdFile(path)
    file.look()
    before = path.stat()

    path.write_text(f"bobby:{HASH}\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    file.look()

    assert list(file.users.hashes) == ["bobby"]


def test_file_at_rest_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "htpasswd", {"alice": "a"})
    reads = []

    def read(path: Path) -> bytes:
        reads.append(path)
        return path.read_bytes()

    file = HtpasswdFile(path, read=read)
    changed = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: changed + 10_000_000_000)
    file.look()
    reads.clear()

    file.look()
    assert reads == []

    file.reread()
    assert reads == [path]


@pytest.mark.parametrize("half", ["", "\n", f"alice:{HASH}\nbob:{HASH[:30]}", "# nobody yet\n", None])
def test_half_written_file_keeps_the_last_users_for_a_moment_and_then_fails_closed(
    tmp_path: Path, half: str | None
) -> None:
    path, clock = tmp_path / "htpasswd", Clock()
    path.write_text(f"alice:{HASH}\nbob:{HASH}\ncarol:{HASH}\n")
    file = HtpasswdFile(path, clock=clock)

    path.unlink() if half is None else path.write_text(half)
    file.look()
    clock.now += GRACE - 0.01
    file.look()
    assert list(file.users.hashes) == ["alice", "bob", "carol"]

    clock.now += 0.02
    file.look()
    assert list(file.users.hashes) == (["alice"] if half and half.startswith("alice") else [])


def test_file_that_is_completed_in_time_is_taken_over_at_once(tmp_path: Path) -> None:
    path, clock = tmp_path / "htpasswd", Clock()
    path.write_text(f"alice:{HASH}\n")
    file = HtpasswdFile(path, clock=clock)
    path.write_text("")
    file.look()

    path.write_text(f"alice:{HASH}\nbob:{HASH}\n")
    file.look()
    assert list(file.users.hashes) == ["alice", "bob"]

    path.write_text("")
    clock.now += 10
    file.look()
    assert list(file.users.hashes) == ["alice", "bob"], "the grace of the first doubt must not be used up"


def test_file_that_comes_back_lets_its_users_in_again(tmp_path: Path) -> None:
    path, clock = tmp_path / "htpasswd", Clock()
    path.write_text(f"alice:{HASH}\n")
    file = HtpasswdFile(path, clock=clock)
    path.unlink()
    file.look()
    clock.now += GRACE + 0.1
    file.look()
    assert not file.users.hashes

    path.write_text(f"alice:{HASH}\n")
    file.look()

    assert list(file.users.hashes) == ["alice"]


def test_file_without_users_at_the_start_lets_nobody_in(tmp_path: Path) -> None:
    (tmp_path / "htpasswd").write_text("# later\n")

    assert not HtpasswdFile(tmp_path / "htpasswd").users.hashes


async def test_watching_takes_over_a_change_within_two_seconds(tmp_path: Path) -> None:
    file = HtpasswdFile(write(tmp_path / "htpasswd", {"alice": "a", "bob": "b"}))
    watching = asyncio.create_task(file.watch())
    started = time.monotonic()

    write(tmp_path / "htpasswd", {"alice": "a"})
    while "bob" in file.users.hashes:
        await asyncio.sleep(0.01)
    took = time.monotonic() - started

    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert took < 2


async def test_watching_goes_on_after_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged = asyncio.Event()
    monkeypatch.setattr(htpasswd._log, "exception", lambda *_, **__: logged.set())
    texts: list[str] = [line("alice", "a")]
    file = HtpasswdFile(tmp_path / "htpasswd", read=lambda _: texts[0].encode())
    (tmp_path / "htpasswd").touch()
    watching = asyncio.create_task(file.watch())

    texts[0] = "\udcff"  # cannot be encoded: no OSError
    await asyncio.wait_for(logged.wait(), 10)
    texts[0] = line("bob", "b")
    while "bob" not in file.users.hashes:
        await asyncio.sleep(0.01)

    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


def test_spans_together_stay_under_the_two_seconds_promised() -> None:
    """Found at the latest after one look; the doubt ends at the first look after its span."""
    looks_in_doubt = -(-GRACE // LOOK)

    assert LOOK + looks_in_doubt * LOOK < 2


def test_file_in_a_folder_that_may_not_be_looked_into_is_read_at_every_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "htpasswd", {"alice": "a"})
    helped = [line("alice", "a"), line("bob", "b")]

    stat = Path.stat

    def forbidden(asked: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if asked == path:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(asked, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", forbidden)
    file = HtpasswdFile(path, read=lambda _: helped.pop(0).encode())
    assert list(file.users.hashes) == ["alice"]

    file.look()

    assert list(file.users.hashes) == ["bob"]


def test_lines_without_bcrypt_are_warned_about_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings = []
    monkeypatch.setattr(htpasswd._log, "warning", lambda event, **facts: warnings.append(facts["lines"]))
    path = tmp_path / "htpasswd"
    path.write_text(f"alice:{HASH}\nold:{{SHA}}x\n")

    file = HtpasswdFile(path)
    file.look()
    path.write_text(f"alice:{OTHER}\nold:{{SHA}}x\n")
    file.look()

    assert warnings == [(2,)]
