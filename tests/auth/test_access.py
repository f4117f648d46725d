"""Every kind of caller before every kind of access: who gets in, what they may, and what they are told otherwise."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.auth.making import counted, login, rule, write
from tests.auth.signing import ISSUER, SERVICE, Pair, Token, make_key

from stackyard.auth import keys, opening
from stackyard.auth.access import Access
from stackyard.auth.challenges import InsufficientScope, InvalidToken, Needed
from stackyard.auth.issuer import TokenRequest
from stackyard.auth.policies import Ruled, Users
from stackyard.auth.principals import ANONYMOUS, Action, Kind, Principal
from stackyard.auth.rules import Rules
from stackyard.auth.settings import HtpasswdSettings, IssuerSettings, Settings, SillySettings, TokenSettings
from stackyard.oci.errors import Denied, RegistryError, Unauthorized

HERE = "192.0.2.1"
BASE = "https://registry.example.com:5000"
PASSWORDS = {"alice": "secret", "bob": "hidden", "root": "toor"}
RULES = (
    rule("anonymous", "public/**", "pull"),
    rule("authenticated", "shared/**", "pull"),
    rule("group:devs", "team/**", "pull", "push"),
    rule("user:alice", "team/app", "pull", "push", "delete"),
    rule("user:bob", "drop/**", "push"),
)
KEY = keys.make_signing_key()
Open = Callable[..., Access]


@pytest.fixture
async def open_access(tmp_path: Path) -> AsyncIterator[Open]:
    """Access as `mode` says; `alice` is in group devs, `root` is an admin."""
    opened: list[Access] = []

    def make(mode: str, *, lifetime: IssuerSettings | None = None) -> Access:
        file = tmp_path / "htpasswd"
        provider: HtpasswdSettings | SillySettings | TokenSettings | None = None
        if mode in ("htpasswd", "rules"):
            provider = HtpasswdSettings(file if file.exists() else write(file, PASSWORDS), "Registry Realm")
        elif mode == "silly":
            provider = SillySettings("https://silly.example", "silly")
        elif mode in ("token", "autoredirect"):
            provider = _token_settings(tmp_path, autoredirect=mode == "autoredirect")
        chosen = Settings(
            provider,
            rules=RULES if mode in ("rules", "public") else (),
            groups={"devs": frozenset({"alice"})},
            admins=frozenset({"root"}),
            issuer=lifetime or IssuerSettings(),
        )
        opened.append(opening.open_access(chosen, signing_key=KEY))
        return opened[-1]

    yield make
    for each in opened:
        await each.close()


def _token_settings(folder: Path, *, autoredirect: bool) -> TokenSettings:
    bundle = folder / "bundle.pem"
    if not bundle.exists():
        bundle.write_bytes(make_key(folder, name="server").public_pem)
    return TokenSettings("https://auth.example.com/token", SERVICE, ISSUER, bundle, autoredirect=autoredirect)


def server(folder: Path) -> Pair:
    """The external token server's key."""
    return Pair(folder / "server.pem")


def foreign(folder: Path, *access: tuple[str, str, list[str]], key: Pair | None = None, subject: str = "ext") -> str:
    """A header with a token of the external server."""
    pair = server(folder)
    kid = keys.thumbprint(next(iter(keys.from_pem(pair.public_pem).by_id.values())))
    claims = {
        "sub": subject,
        "exp": time.time() + 300,
        "nbf": time.time(),
        "access": [{"type": kind, "name": name, "actions": actions} for kind, name, actions in access],
    }
    return "Bearer " + Token(claims, {"kid": kid}).signed((key or pair).private)


async def fetched(access: Access, *scopes: str, header: str | None = None) -> str:
    """A header with a token of our own for these scopes."""
    query = "&".join(f"scope={scope}" for scope in scopes).encode()
    answer = await access.token(TokenRequest.get(query, authorization=header, address=HERE))
    return f"Bearer {answer.token}"


PLACES = ("public/x", "shared/x", "team/app", "team/lib", "drop/x", "other")


async def header_of(access: Access, caller: str, folder: Path) -> str | None:
    """`token of alice for X` is a token of our own; `foreign X` one of the external server."""
    match caller.split(" for ") if " for " in caller else caller.split():
        case ["nobody"]:
            return None
        case ["empty"]:
            return login("", "")
        case ["password", "of", user]:
            return login(user, PASSWORDS[user])
        case [("token of alice" | "token of bob" | "token of root" | "token of nobody") as who, scope]:
            user = who.split()[-1]
            given = None if user == "nobody" else login(user, PASSWORDS[user])
            return await fetched(access, *scope.split("+"), header=given)
        case ["foreign", scope]:
            kind, name, actions = scope.split(":")
            return foreign(folder, (kind, name, actions.split(",")))
        case _:
            raise AssertionError(caller)


EVERY = " ".join(PLACES)
MATRIX = [
    # mode, caller, GET /v2/, pull, push, delete, catalogue, refused with
    ("none", "nobody", True, EVERY, EVERY, EVERY, True, 403),
    ("none", "password of alice", True, EVERY, EVERY, EVERY, True, 403),
    ("silly", "nobody", False, "", "", "", False, 401),
    ("silly", "password of alice", True, EVERY, EVERY, EVERY, True, 403),
    ("htpasswd", "nobody", False, "", "", "", False, 401),
    ("htpasswd", "empty", False, "", "", "", False, 401),
    ("htpasswd", "password of alice", True, EVERY, EVERY, EVERY, True, 403),
    ("public", "nobody", False, "public/x", "", "", False, 401),
    ("public", "token of nobody for repository:public/x:pull", True, "public/x", "", "", False, 401),
    ("rules", "nobody", False, "public/x", "", "", False, 401),
    ("rules", "empty", False, "public/x", "", "", False, 401),
    ("rules", "password of alice", True,
     "public/x shared/x team/app team/lib", "team/app team/lib", "team/app", True, 403),
    ("rules", "password of bob", True, "public/x shared/x", "drop/x", "", True, 403),
    ("rules", "password of root", True, EVERY, EVERY, EVERY, True, 403),
    ("rules", "token of nobody for repository:public/x:pull,push", True, "public/x", "", "", False, 401),
    ("rules", "token of nobody for registry:catalog:*", True, "", "", "", True, 401),
    ("rules", "token of alice for repository:team/app:pull", True, "team/app", "", "", False, 401),
    ("rules", "token of alice for repository:team/app:push,pull", True, "team/app", "team/app", "", False, 401),
    ("rules", "token of alice for repository:team/app:*", True, "team/app", "team/app", "team/app", False, 401),
    ("rules", "token of alice for repository:other:*", True, "", "", "", False, 401),
    ("rules", "token of alice for repository:team/app:pull+repository:team/lib:*", True,
     "team/app team/lib", "team/lib", "", False, 401),
    ("rules", "token of bob for repository:team/app:*", True, "", "", "", False, 401),
    ("rules", "token of bob for registry:catalog:*", True, "", "", "", True, 401),
    ("rules", "token of root for repository:other:*", True, "other", "other", "other", False, 401),
    ("token", "nobody", False, "", "", "", False, 401),
    ("token", "foreign repository:other:pull", True, "other", "", "", False, 401),
    ("token", "foreign repository:other:pull,push", True, "other", "other", "", False, 401),
    ("token", "foreign repository:other:*", True, "other", "other", "other", False, 401),
    ("token", "foreign repository(plugin):other:pull", True, "other", "", "", False, 401),
    ("token", "foreign registry:catalog:*", True, "", "", "", True, 401),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "caller", "base", "pull", "push", "delete", "catalog", "status"), MATRIX)
async def test_caller_may_exactly_this(
    open_access: Open, tmp_path: Path, mode: str, caller: str, base: bool, pull: str, push: str, delete: str,
    catalog: bool, status: int,
) -> None:  # fmt: skip
    access = open_access(mode)
    principal = await access.identify(await header_of(access, caller, tmp_path), HERE)

    def may(action: Action) -> str:
        return " ".join(place for place in PLACES if access.allows(principal, action, place))

    assert access.admits(principal) is base
    assert (may(Action.PULL), may(Action.PUSH), may(Action.DELETE)) == (pull, push, delete)
    assert access.may_list_catalog(principal) is catalog
    assert access.refusal(principal).status == status


@pytest.mark.parametrize(
    ("mode", "caller", "admin"),
    [
        ("none", "nobody", False),
        ("silly", "password of root", False),
        ("htpasswd", "password of root", True),
        ("htpasswd", "password of alice", False),
        ("rules", "password of root", True),
        ("rules", "token of root for repository:other:*", False),
        ("rules", "nobody", False),
        ("token", "foreign repository:other:*", False),
    ],
)
async def test_only_an_admin_who_showed_a_password_administrates(
    open_access: Open, tmp_path: Path, mode: str, caller: str, admin: bool
) -> None:
    access = open_access(mode)
    principal = await access.identify(await header_of(access, caller, tmp_path), HERE)

    assert access.is_admin(principal) is admin
    assert access.allows(principal, Action.ADMIN, "other") is admin


@pytest.mark.parametrize(
    ("mode", "caller", "may"),
    [
        ("rules", "password of root", True),
        ("rules", "password of alice", False),
        ("rules", "token of root for registry:administration:*", True),
        ("rules", "token of root for registry:catalog:*", False),
        ("rules", "token of root for repository:other:*", False),
        ("rules", "token of alice for registry:administration:*", False),
        ("rules", "token of nobody for registry:administration:*", False),
        ("htpasswd", "password of root", True),
        ("token", "foreign registry:administration:*", False),
    ],
)
async def test_the_admin_api_takes_a_password_or_a_token_for_just_that(
    open_access: Open, tmp_path: Path, mode: str, caller: str, may: bool
) -> None:
    access = open_access(mode)
    principal = await access.identify(await header_of(access, caller, tmp_path), HERE)

    assert access.may_use_api(principal) is may


async def test_an_external_token_administrates_if_it_says_so_and_we_do(open_access: Open, tmp_path: Path) -> None:
    access = open_access("token")
    whole = ("registry", "administration", ["*"])

    for subject, claimed, may in (("root", [whole], True), ("root", [], False), ("ext", [whole], False)):
        principal = await access.identify(foreign(tmp_path, *claimed, subject=subject), HERE)

        assert access.may_use_api(principal) is may
        assert not access.allows(principal, Action.PULL, "other")


async def test_external_token_named_like_an_admin_is_no_admin(open_access: Open, tmp_path: Path) -> None:
    access = open_access("token")

    principal = await access.identify(foreign(tmp_path, subject="root"), HERE)

    assert principal.actor == "token:root"
    assert not access.is_admin(principal)
    for kind in (Kind.TOKEN, Kind.ROBOT):
        assert not Access(Users(), admins=frozenset({"root"})).is_admin(Principal(kind, "root"))


@pytest.mark.parametrize(
    ("caller", "listed"),
    [
        ("token of nobody for registry:catalog:*", "public/x"),
        ("password of alice", "public/x shared/x team/app team/lib"),
        ("password of bob", "public/x shared/x"),
        ("password of root", EVERY),
        ("token of bob for registry:catalog:*", "public/x shared/x"),
        ("token of root for registry:catalog:*", EVERY),
    ],
)
async def test_catalogue_lists_what_the_caller_may_pull(
    open_access: Open, tmp_path: Path, caller: str, listed: str
) -> None:
    access = open_access("rules")
    principal = await access.identify(await header_of(access, caller, tmp_path), HERE)

    access.check_catalog(principal)
    assert " ".join(place for place in PLACES if access.lists(principal, place)) == listed
    assert access.sees_all(principal) is (listed == EVERY)


async def test_catalogue_is_not_given_to_strangers_where_no_rule_is_about_them(open_access: Open) -> None:
    access = open_access("rules")
    access.policy = Ruled(Rules([rule("authenticated", "**", "pull")]))

    assert not (
        await access.token(TokenRequest.get(b"scope=registry:catalog:*", authorization=None, address=HERE))
    ).access
    with pytest.raises(Unauthorized):
        access.check_catalog(await access.identify(None, HERE))


async def test_catalogue_without_rules_needs_no_filter(open_access: Open, tmp_path: Path) -> None:
    for mode, caller in (("none", "nobody"), ("htpasswd", "password of bob"), ("token", "foreign registry:catalog:*")):
        access = open_access(mode)
        principal = await access.identify(await header_of(access, caller, tmp_path), HERE)
        assert access.sees_all(principal)
        assert access.lists(principal, "other")


BEARER = f'Bearer realm="{BASE}/auth/token",service="stackyard"'
FOREIGN = f'Bearer realm="https://auth.example.com/token",service="{SERVICE}"'
PUSH_NEEDED: Needed = [("b", (Action.PULL, Action.PUSH)), ("a", (Action.PULL,))]
PUSH_SCOPE = ',scope="repository:b:pull,push repository:a:pull"'


@pytest.mark.parametrize(
    ("mode", "challenge"),
    [
        ("silly", 'Bearer realm="https://silly.example",service="silly"'),
        ("htpasswd", 'Basic realm="Registry Realm"'),
        ("public", BEARER),
        ("rules", BEARER),
        ("token", FOREIGN),
        ("autoredirect", f'Bearer realm="{BASE}/auth/token",service="{SERVICE}"'),
    ],
)
async def test_challenge_of_the_base_endpoint_tells_clients_how_to_log_in(
    open_access: Open, mode: str, challenge: str
) -> None:
    access = open_access(mode)

    with pytest.raises(Unauthorized) as refused:
        access.check_base(await access.identify(None, HERE))
    error = access.challenged(refused.value, realm_base=BASE)

    assert error.headers["WWW-Authenticate"] == challenge
    assert access.challenge(realm_base=BASE) == challenge


@pytest.mark.parametrize(
    ("mode", "header", "ending"),
    [
        ("rules", "Bearer nonsense", ',error="invalid_token"'),
        ("rules", "Bearer", ',error="invalid_token"'),
        ("rules", "bearer x", ',error="invalid_token"'),
        ("rules", login("alice", "wrong"), ""),
        ("rules", "Basic !!!", ""),
        ("rules", "Digest x", ""),
        ("public", login("alice", "secret"), ""),
        ("token", "Bearer nonsense", ',error="invalid_token"'),
        ("token", login("alice", "secret"), ""),
    ],
)
async def test_wrong_header_is_answered_with_a_bearer_challenge_wherever_tokens_are_in_use(
    open_access: Open, mode: str, header: str, ending: str
) -> None:
    access = open_access(mode)

    with pytest.raises(Unauthorized) as refused:
        await access.identify(header, HERE)
    error = access.challenged(refused.value, realm_base=BASE, needed=PUSH_NEEDED)

    start = FOREIGN if mode == "token" else BEARER
    assert error.headers["WWW-Authenticate"] == start + PUSH_SCOPE + ending


@pytest.mark.parametrize("header", ["Bearer x", "Basic !!!", login("alice", "wrong"), "Negotiate abc", "x"])
async def test_wrong_header_is_answered_with_a_basic_challenge_where_only_passwords_are(
    open_access: Open, header: str
) -> None:
    access = open_access("htpasswd")

    with pytest.raises(Unauthorized) as refused:
        await access.identify(header, HERE)

    error = access.challenged(refused.value, realm_base=BASE, needed=PUSH_NEEDED)
    assert error.headers["WWW-Authenticate"] == 'Basic realm="Registry Realm"'


async def test_token_for_too_little_is_told_so_and_what_to_fetch(open_access: Open) -> None:
    access = open_access("rules")
    principal = await access.identify(
        await fetched(access, "repository:team/app:pull", header=login("alice", "secret")), HERE
    )

    refusal = access.refusal(principal)
    error = access.challenged(refusal, realm_base=BASE, needed=[("team/app", (Action.PULL, Action.PUSH))])

    assert isinstance(refusal, InsufficientScope)
    assert error.headers["WWW-Authenticate"] == (
        BEARER + ',scope="repository:team/app:pull,push",error="insufficient_scope"'
    )


async def test_denied_login_gets_no_challenge(open_access: Open) -> None:
    access = open_access("rules")
    refusal = access.refusal(await access.identify(login("bob", "hidden"), HERE))

    assert isinstance(refusal, Denied)
    assert "WWW-Authenticate" not in access.challenged(refusal, realm_base=BASE).headers


async def test_known_callers_are_recalled_without_any_work(
    open_access: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = open_access("rules")
    headers = [
        login("alice", "secret"),
        await fetched(access, "repository:team/app:pull", header=login("bob", "hidden")),
    ]
    for header in headers:
        await access.identify(header, HERE)

    def no_crypto(*_: object) -> None:
        raise AssertionError("a token was verified again")

    monkeypatch.setattr(jwt.api_jws.PyJWS, "decode", no_crypto)
    with counted(monkeypatch) as costs:
        recalled = [access.recall(header) for header in headers]

    assert [principal and principal.actor for principal in recalled] == ["user:alice", "user:bob"]
    assert access.recall(None) is ANONYMOUS
    assert costs == []


async def test_unknown_headers_are_not_recalled(open_access: Open) -> None:
    access = open_access("rules")

    for header in (login("alice", "secret"), "Bearer x", "Basic !!!", "Basic", "x y z", " "):
        assert access.recall(header) is None


HEADERS = st.text() | st.tuples(st.sampled_from(["Basic ", "Bearer ", "bearer\t", "BASIC"]), st.text()).map("".join)


@pytest.mark.parametrize("mode", ["none", "silly", "htpasswd", "rules", "public", "token"])
def test_any_header_is_a_principal_or_a_refusal(open_access: Open, mode: str) -> None:
    access = open_access(mode)

    @given(header=HEADERS)
    @settings(max_examples=100)
    def check(header: str) -> None:
        with suppress(RegistryError):
            assert asyncio.run(access.identify(header, HERE)).actor

    check()


# What ends a token


async def test_token_ends_with_its_user(open_access: Open, tmp_path: Path) -> None:
    access = open_access("rules")
    header = await fetched(access, "repository:team/app:pull", header=login("alice", "secret"))
    assert (await access.identify(header, HERE)).name == "alice"

    write(tmp_path / "htpasswd", {"bob": "hidden"})
    access.reload()

    assert access.recall(header) is None
    with pytest.raises(InvalidToken):
        await access.identify(header, HERE)


async def test_token_ends_with_the_password_it_was_given_for(open_access: Open, tmp_path: Path) -> None:
    access = open_access("rules")
    header = await fetched(access, "repository:team/app:pull", header=login("alice", "secret"))
    await access.identify(header, HERE)

    write(tmp_path / "htpasswd", PASSWORDS | {"alice": "changed"})
    access.reload()
    with pytest.raises(InvalidToken):
        await access.identify(header, HERE)

    write(tmp_path / "htpasswd", PASSWORDS)
    access.reload()
    with pytest.raises(InvalidToken):
        await access.identify(header, HERE)


async def test_token_ends_within_two_seconds_after_its_user_on_a_worker_that_only_watches(
    open_access: Open, tmp_path: Path
) -> None:
    access, other = open_access("rules"), open_access("rules")
    other.start()
    header = await fetched(access, "repository:team/app:pull", header=login("alice", "secret"))
    basic = login("alice", "secret")
    await other.identify(header, HERE)
    await other.identify(basic, HERE)
    started = time.monotonic()

    write(tmp_path / "htpasswd", {"bob": "hidden"})
    while other.recall(header) or other.recall(basic):
        await asyncio.sleep(0.01)

    assert time.monotonic() - started < 2


async def test_right_that_is_taken_away_is_gone_whatever_a_token_says(open_access: Open) -> None:
    before = open_access("rules")
    header = await fetched(before, "repository:team/app:pull,push", header=login("alice", "secret"))

    after = open_access("rules")
    after.policy = Ruled(Rules([rule("user:alice", "team/app", "pull")]))
    principal = await after.identify(header, HERE)

    assert after.allows(principal, Action.PULL, "team/app")
    assert not after.allows(principal, Action.PUSH, "team/app")


async def test_token_of_one_worker_is_good_on_another(open_access: Open) -> None:
    one, other = open_access("rules"), open_access("rules")

    header = await fetched(one, "repository:team/app:pull", header=login("alice", "secret"))

    assert (await other.identify(header, HERE)).actor == "user:alice"


async def test_token_signed_with_another_installations_key_is_invalid(open_access: Open) -> None:
    access = open_access("public")
    stranger = opening.open_access(Settings(rules=RULES), signing_key=keys.make_signing_key())

    with pytest.raises(InvalidToken):
        await access.identify(await fetched(stranger, "repository:public/x:pull"), HERE)


async def test_foreign_keys_that_were_replaced_no_longer_count(open_access: Open, tmp_path: Path) -> None:
    access = open_access("token")
    header = foreign(tmp_path, ("repository", "other", ["pull"]))
    await access.identify(header, HERE)

    (tmp_path / "new").mkdir()
    (tmp_path / "bundle.pem").write_bytes(make_key(tmp_path / "new").public_pem)
    access.reload()

    assert access.recall(header) is None
    with pytest.raises(InvalidToken):
        await access.identify(header, HERE)


@pytest.mark.parametrize("broken", [b"", b"-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----\n", None])
async def test_foreign_keys_stay_in_use_when_the_new_file_is_broken(
    open_access: Open, tmp_path: Path, broken: bytes | None
) -> None:
    access = open_access("token")
    header = foreign(tmp_path, ("repository", "other", ["pull"]))

    (tmp_path / "bundle.pem").unlink() if broken is None else (tmp_path / "bundle.pem").write_bytes(broken)
    access.reload()

    assert (await access.identify(header, HERE)).kind is Kind.TOKEN


@pytest.mark.parametrize("subject", ["a\nb", "a\0", "x" * 256, "\x1b[31m"])
async def test_subject_that_could_forge_a_log_line_is_refused(open_access: Open, tmp_path: Path, subject: str) -> None:
    access = open_access("token")

    with pytest.raises(InvalidToken):
        await access.identify(foreign(tmp_path, subject=subject), HERE)
