"""Logins: checked once, remembered exactly as long as the file agrees, and telling nothing."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.auth.making import Clock, counted, line, write
from tests.support import htpasswd as apache

from stackyard.auth.basic import Credentials, Logins, credentials, parse
from stackyard.auth.htpasswd import HtpasswdFile
from stackyard.auth.principals import Kind, Principal
from stackyard.auth.slots import Slots
from stackyard.auth.throttle import PAIR, Throttle
from stackyard.oci.errors import TooManyRequests, Unauthorized

HERE = "192.0.2.1"
Open = Callable[[Path], Logins]


@pytest.fixture
async def open_logins() -> AsyncIterator[Open]:
    opened = []

    def make(path: Path) -> Logins:
        groups = {"devs": frozenset({"alice"}), "ops": frozenset({"bob"})}
        opened.append(Logins(HtpasswdFile(path), groups=groups, slots=Slots(2), throttle=Throttle(Clock())))
        return opened[-1]

    yield make
    for logins in opened:
        logins.close()


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    ("content", "user", "password"),
    [
        (b"alice:secret", "alice", b"secret"),
        (b"alice:", "alice", b""),
        (b"alice:a:b::", "alice", b"a:b::"),
        (b":", "", b""),
        ("jürgen:pässword".encode(), "jürgen", "pässword".encode()),
        (b"alice:" + b"x" * 100, "alice", b"x" * 72),
        (b"alice:tab\tand\nline", "alice", b"tab\tand\nline"),
    ],
)
def test_credentials_end_the_name_at_the_first_colon(content: bytes, user: str, password: bytes) -> None:
    assert parse(encoded(content)) == Credentials(user, password)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "!!!",
        "YWxpY2U6c2VjcmV0 YQ==",
        "ä" * 8,
        encoded(b"no colon"),
        encoded(b"\xff\xfe:x"),
        encoded(b"alice:\xff"),
        encoded(b"alice:a\0b"),
        encoded(b"al\0ice:x"),
        encoded(b"al\nice:x"),
        encoded(b"\x1b[31mred:x"),
        encoded(b"a" * 256 + b":x"),
    ],
)
def test_credentials_of_nobody_are_unauthorized(value: str) -> None:
    with pytest.raises(Unauthorized):
        parse(value)


@given(st.one_of(st.text(), st.binary().map(encoded), st.binary().map(lambda raw: encoded(b"u:" + raw))))
def test_parsing_any_value_gives_credentials_or_a_refusal(value: str) -> None:
    with suppress(Unauthorized):
        parsed = parse(value)
        assert len(parsed.password) <= 72
        assert len(parsed.user) <= 255


@given(st.text(), st.text())
def test_credentials_of_any_form_are_made_or_refused(user: str, password: str) -> None:
    with suppress(Unauthorized):
        assert credentials(user, password).user == user


def test_credentials_do_not_print_the_password() -> None:
    assert "secret" not in repr(Credentials("alice", b"secret"))


async def test_right_password_gives_the_user_with_its_groups(tmp_path: Path, open_logins: Open) -> None:
    logins = open_logins(write(tmp_path / "htpasswd", {"alice": "secret"}))

    principal = await logins.verify(Credentials("alice", b"secret"), HERE)

    assert principal == Principal(Kind.USER, "alice", frozenset({"devs"}))
    assert principal.actor == "user:alice"


@pytest.mark.parametrize(
    ("user", "password"), [("alice", "wrong"), ("alice", ""), ("nobody", "secret"), ("", "secret")]
)
async def test_wrong_login_is_unauthorized_without_saying_why(
    tmp_path: Path, open_logins: Open, user: str, password: str
) -> None:
    logins = open_logins(write(tmp_path / "htpasswd", {"alice": "secret"}))

    with pytest.raises(Unauthorized, match="incorrect user name or password"):
        await logins.verify(Credentials(user, password.encode()), HERE)


async def test_logins_made_by_apaches_own_tool_work(tmp_path: Path, open_logins: Open) -> None:
    passwords = {"alice": "secret", "bob": "p:w d", "carol": "x" * 80, "dave": "päss"}
    logins = open_logins(apache.write(tmp_path / "htpasswd", passwords))

    for user, password in passwords.items():
        assert (await logins.verify(credentials(user, password), HERE)).name == user


async def test_password_is_cut_at_72_bytes_as_apache_cuts_it(tmp_path: Path, open_logins: Open) -> None:
    logins = open_logins(apache.write(tmp_path / "htpasswd", {"alice": "x" * 80}))

    assert (await logins.verify(credentials("alice", "x" * 72 + "other"), HERE)).name == "alice"
    with pytest.raises(Unauthorized):
        await logins.verify(credentials("alice", "x" * 71), HERE)


@pytest.mark.parametrize("kind", ["$2a$", "$2b$", "$2y$"])
async def test_every_kind_of_bcrypt_hash_works(tmp_path: Path, open_logins: Open, kind: str) -> None:
    (tmp_path / "htpasswd").write_text(line("alice", "secret").replace("$2b$", kind) + "\n")
    logins = open_logins(tmp_path / "htpasswd")

    assert (await logins.verify(Credentials("alice", b"secret"), HERE)).name == "alice"


async def test_salt_with_bits_that_crypt_ignores_is_read_as_crypt_reads_it(tmp_path: Path, open_logins: Open) -> None:
    """libxcrypt computes the same for `…A` as for `….`; the hash part here is that of the salt of 22 dots."""
    hashed = bcrypt.hashpw(b"secret", b"$2b$04$" + b"." * 22).decode()
    (tmp_path / "htpasswd").write_text(f"alice:{hashed[:28]}A{hashed[29:]}\n")
    logins = open_logins(tmp_path / "htpasswd")

    assert (await logins.verify(Credentials("alice", b"secret"), HERE)).name == "alice"
    with pytest.raises(Unauthorized):
        await logins.verify(Credentials("alice", b"wrong"), HERE)


async def test_bcrypt_runs_once_for_a_login(tmp_path: Path, open_logins: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    logins = open_logins(write(tmp_path / "htpasswd", {"alice": "secret"}))
    given = Credentials("alice", b"secret")

    with counted(monkeypatch) as costs:
        assert logins.recall(given) is None
        first = await logins.verify(given, HERE)
        assert logins.recall(given) is first
        assert await logins.verify(given, HERE) is first

    assert costs == [4]


async def test_bcrypt_runs_once_for_many_at_the_same_time(
    tmp_path: Path, open_logins: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the throttle lets through: who waits for another's check is not charged."""
    logins = open_logins(write(tmp_path / "htpasswd", {"alice": "secret"}))

    with counted(monkeypatch) as costs:
        calls = [logins.verify(Credentials("alice", b"secret"), HERE) for _ in range(5 * PAIR.burst)]
        principals = await asyncio.gather(*calls)

    assert {principal.name for principal in principals} == {"alice"}
    assert costs == [4]


async def test_client_that_leaves_does_not_cancel_the_check_others_wait_for(tmp_path: Path, open_logins: Open) -> None:
    logins = open_logins(write(tmp_path / "htpasswd", {"alice": "secret"}))
    leaver = asyncio.create_task(logins.verify(Credentials("alice", b"secret"), HERE))
    stayer = asyncio.create_task(logins.verify(Credentials("alice", b"secret"), HERE))
    await asyncio.sleep(0)

    leaver.cancel()

    assert (await stayer).name == "alice"


async def test_remembered_login_needs_the_same_password(tmp_path: Path, open_logins: Open) -> None:
    logins = open_logins(write(tmp_path / "htpasswd", {"alice": "secret"}))
    await logins.verify(Credentials("alice", b"secret"), HERE)

    assert logins.recall(Credentials("alice", b"other")) is None
    assert logins.recall(Credentials("alice", b"")) is None
    assert logins.recall(Credentials("bob", b"secret")) is None


async def test_remembered_login_ends_with_the_users_line(tmp_path: Path, open_logins: Open) -> None:
    path = write(tmp_path / "htpasswd", {"alice": "secret", "bob": "b"})
    logins = open_logins(path)
    given = Credentials("alice", b"secret")
    await logins.verify(given, HERE)

    write(path, {"bob": "b"})
    logins.file.look()

    assert logins.recall(given) is None
    with pytest.raises(Unauthorized):
        await logins.verify(given, HERE)


async def test_remembered_login_ends_with_a_new_password(tmp_path: Path, open_logins: Open) -> None:
    path = write(tmp_path / "htpasswd", {"alice": "secret"})
    logins = open_logins(path)
    await logins.verify(Credentials("alice", b"secret"), HERE)

    write(path, {"alice": "changed"})
    logins.file.look()

    assert logins.recall(Credentials("alice", b"secret")) is None
    assert (await logins.verify(Credentials("alice", b"changed"), HERE)).name == "alice"


async def test_header_of_a_login_is_recalled_as_long_as_the_file_says_the_same(
    tmp_path: Path, open_logins: Open
) -> None:
    path = write(tmp_path / "htpasswd", {"alice": "secret", "bob": "b"})
    logins = open_logins(path)
    header, other = (base64.b64encode(text).decode() for text in (b"alice:secret", b"alice:other"))
    assert logins.recall_header(header) is None
    first = await logins.verify(Credentials("alice", b"secret"), HERE)

    for _ in range(2):  # taken apart, then remembered
        assert logins.recall_header(header) is first
        assert logins.recall_header(other) is None
        with pytest.raises(Unauthorized):
            logins.recall_header("not base64")
    write(path, {"alice": "changed", "bob": "b"})
    logins.file.look()

    assert logins.recall_header(header) is None


async def test_user_removed_while_bcrypt_runs_is_refused(
    tmp_path: Path, open_logins: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "htpasswd", {"alice": "secret"})
    without_alice = line("bob", "b")
    logins = open_logins(path)
    compute = bcrypt.hashpw

    def slow(password: bytes, salt: bytes) -> bytes:
        path.write_text(without_alice + "\n")
        logins.file.look()
        return compute(password, salt)

    monkeypatch.setattr(bcrypt, "hashpw", slow)

    with pytest.raises(Unauthorized):
        await logins.verify(Credentials("alice", b"secret"), HERE)
    assert logins.recall(Credentials("alice", b"secret")) is None


async def test_no_more_logins_are_remembered_than_the_file_has_users(tmp_path: Path, open_logins: Open) -> None:
    path = tmp_path / "htpasswd"
    logins = open_logins(write(path, {"alice": "a"}))
    for number in range(5):
        write(path, {f"user{number}": "a"})
        logins.file.look()
        await logins.verify(Credentials(f"user{number}", b"a"), HERE)

    assert list(logins._known) == ["user4"]


async def test_every_refusal_computes_as_many_rounds(
    tmp_path: Path, open_logins: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown, known with a quick hash, known with the slowest: 2**7 rounds each, and never fewer."""
    text = "\n".join([line("quick", "a", cost=4), line("middle", "a", cost=6), line("slow", "a", cost=7), ""])
    (tmp_path / "htpasswd").write_text(text)
    logins = open_logins(tmp_path / "htpasswd")

    for user in ("nobody", "quick", "middle", "slow"):
        with counted(monkeypatch) as costs:
            with pytest.raises(Unauthorized):
                await logins.verify(Credentials(user, b"wrong"), HERE)
            assert sum(2**cost for cost in costs) == 2**7


async def test_empty_password_is_checked_like_any_other(
    tmp_path: Path, open_logins: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins = open_logins(write(tmp_path / "htpasswd", {"alice": "secret"}))

    with counted(monkeypatch) as costs:
        for user in ("alice", "nobody"):
            with pytest.raises(Unauthorized):
                await logins.verify(Credentials(user, b""), HERE)

    assert costs == [4, 4]


async def test_guessing_is_throttled_before_bcrypt_runs(
    tmp_path: Path, open_logins: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins = open_logins(write(tmp_path / "htpasswd", {"alice": "secret"}))

    with counted(monkeypatch) as costs:
        guesses = [logins.verify(Credentials("alice", b"%d" % number), HERE) for number in range(40)]
        results = await asyncio.gather(*guesses, return_exceptions=True)

    refused = [result for result in results if isinstance(result, TooManyRequests)]
    assert len(costs) == PAIR.burst
    assert len(refused) == 40 - PAIR.burst
    assert all(int(refusal.headers["Retry-After"]) >= 1 for refusal in refused)


async def test_right_password_makes_up_for_the_slips_before_it(
    tmp_path: Path, open_logins: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins = open_logins(write(tmp_path / "htpasswd", {"alice": "secret"}))

    async def slip(times: int) -> None:
        guesses = [logins.verify(Credentials("alice", b"%d" % number), HERE) for number in range(times)]
        await asyncio.gather(*guesses, return_exceptions=True)

    with counted(monkeypatch) as costs:
        await slip(PAIR.burst - 1)
        await logins.verify(Credentials("alice", b"secret"), HERE)
        await slip(PAIR.burst)

    assert len(costs) == 2 * PAIR.burst


async def test_user_who_works_is_never_throttled(tmp_path: Path, open_logins: Open) -> None:
    logins = open_logins(write(tmp_path / "htpasswd", {"alice": "secret"}))
    await logins.verify(Credentials("alice", b"secret"), HERE)
    guesses = [logins.verify(Credentials("alice", b"%d" % number), HERE) for number in range(40)]
    await asyncio.gather(*guesses, return_exceptions=True)

    assert (await logins.verify(Credentials("alice", b"secret"), HERE)).name == "alice"


async def test_checks_waiting_are_bounded(tmp_path: Path, open_logins: Open) -> None:
    logins = open_logins(write(tmp_path / "htpasswd", {"alice": "secret"}))

    guesses = [
        logins.verify(Credentials(f"user{each}", b"x"), f"10.0.{each // 250}.{each % 250}") for each in range(500)
    ]
    results = await asyncio.gather(*guesses, return_exceptions=True)

    assert sum(isinstance(result, TooManyRequests) for result in results) == 300


async def test_memory_of_two_processes_holds_different_macs_of_one_password(tmp_path: Path, open_logins: Open) -> None:
    path = write(tmp_path / "htpasswd", {"alice": "correct horse"})
    macs = set()
    for logins in (open_logins(path), open_logins(path)):
        await logins.verify(Credentials("alice", b"correct horse"), HERE)
        macs.add(logins._known["alice"].mac)

    assert len(macs) == 2
