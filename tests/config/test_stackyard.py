"""What our own keys mean."""

from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_network

import pytest
from tests.config.conftest import LoadText

Refusals = Callable[..., list[str]]


def test_our_own_keys_are_honoured(loaded: LoadText) -> None:
    ours = loaded(
        "auth: {htpasswd: {realm: r, path: p}}\n"
        "stackyard:\n  workers: 2\n  trustedproxies: [10.1.2.3/8, '::1']\n  admins: alice, bob\n"
        "  database: {url: 'postgresql://u:pw@db/registry'}\n"
        "  access:\n    groups: {devs: [carol]}\n    rules:\n"
        "    - {anonymous: true, repositories: '**', actions: [pull]}\n"
        "    - {group: devs, repositories: team/*, actions: [Pull, push, push]}\n"
        "    - {authenticated: true, repositories: shared, actions: pull}\n"
        "    - {user: dave, repositories: team/secret, actions: []}\n"
        "  token: {lifetime: 10m, service: me}\n"
        "  limits: {manifestsize: 8MiB, minimumrate: 0}\n  gc: {promise: 10s, undo: 0}"
    ).config.stackyard

    assert (ours.workers, ours.admins) == (2, ("alice", "bob"))
    assert ours.trustedproxies == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert ours.database.url.get_secret_value() == "postgresql://u:pw@db/registry"
    assert ours.access.groups == {"devs": ("carol",)}
    assert [(rule.anonymous, rule.group, rule.authenticated, rule.user) for rule in ours.access.rules] == [
        (True, "", False, ""),
        (False, "devs", False, ""),
        (False, "", True, ""),
        (False, "", False, "dave"),
    ]
    assert [rule.actions for rule in ours.access.rules] == [("pull",), ("pull", "push"), ("pull",), ()]
    assert (ours.token.lifetime, ours.token.service) == (timedelta(minutes=10), "me")
    assert (ours.limits.manifestsize, ours.limits.minimumrate) == (8 * 2**20, 0)
    assert (ours.gc.promise, ours.gc.undo) == (timedelta(seconds=10), timedelta(0))


def test_our_defaults_are_those_the_design_asks_for(loaded: LoadText) -> None:
    ours = loaded().config.stackyard

    assert ours.limits.manifestsize == 4 * 2**20
    assert (ours.gc.promise, ours.gc.undo) == (timedelta(hours=1), timedelta(days=7))
    assert ip_network("127.0.0.0/8") in ours.trustedproxies
    assert ip_network("172.16.0.0/12") in ours.trustedproxies
    assert ours.workers == 0
    assert ours.access.rules == ()


RULE = "{%s, repositories: '**', actions: [pull]}"


@pytest.mark.parametrize(
    ("ours", "problem"),
    [
        ("{worker: 2}", "stackyard.worker: unknown key; did you mean stackyard.workers?"),
        (
            "{limits: {manifest: 1}}",
            "stackyard.limits.manifest: unknown key; did you mean stackyard.limits.manifestsize?",
        ),
        ("{workers: -1}", "stackyard.workers: '-1' is below 0"),
        ("{trustedproxies: [everyone]}", "stackyard.trustedproxies[0]: 'everyone' is neither an address nor a range"),
        ("{gc: {promise: 9s}}", "stackyard.gc.promise: is below 10s"),
        ("{gc: {undo: -1h}}", "stackyard.gc.undo: is negative"),
        ("{token: {lifetime: 30s}}", "stackyard.token.lifetime: is below 60s"),
        ("{limits: {manifestsize: big}}", "stackyard.limits.manifestsize: is not a size"),
        ("{limits: {idletimeout: 1ms}}", "stackyard.limits.idletimeout: is below 1s"),
        ("{database: {url: 'mysql://x/y'}}", "stackyard.database.url: begins with neither"),
        ("{database: {url: 'sqlite://'}}", "stackyard.database.url: names no file"),
        ("{database: {url: 'postgresql://host'}}", "stackyard.database.url: names no database"),
        ("{database: {url: 'postgresql://[::1'}}", "stackyard.database.url: names no database"),
        (f"{{access: {{rules: [{RULE % 'group: devs'}]}}}}", "stackyard.access.rules[0].group: 'devs' is not in"),
        (
            f"{{access: {{rules: [{RULE % 'user: a, anonymous: true'}]}}}}",
            "stackyard.access.rules[0]: names not exactly one",
        ),
        (f"{{access: {{rules: [{RULE % 'anonymous: false'}]}}}}", "stackyard.access.rules[0]: names not exactly one"),
        (f"{{access: {{rules: [{RULE % 'user: a'}]}}}}", "stackyard.access.rules: name users while nobody can log in"),
        ("{access: {rules: [{anonymous: true, repositories: A, actions: [pull]}]}}", "stackyard.access.rules[0].repos"),
        (
            "{access: {rules: [{anonymous: true, repositories: a, actions: [admin]}]}}",
            "stackyard.access.rules[0].actions[0]",
        ),
        ("{access: {rules: [{anonymous: true, repositories: a}]}}", "stackyard.access.rules[0].actions: is missing"),
        ("{gc: {untagged: 7}}", "stackyard.gc.untagged: is not a span such as 14d"),
        ("{retention: {schedule: daily}}", "stackyard.retention.schedule: is no schedule of five fields"),
        ("{retention: {rules: [{keep: {last: 1}}]}}", "stackyard.retention.rules[0].repositories: is missing"),
        (
            "{retention: {rules: [{repositories: a, keep: {lasts: 1}}]}}",
            "stackyard.retention.rules[0].keep.lasts: unknown key; did you mean stackyard.retention.rules[].keep.last?",
        ),
        ("{tags: {immutable: [{repositories: a, tag: x}]}}", "stackyard.tags.immutable[0].tag: unknown key"),
        ("{tags: {forms: [{repositories: a}]}}", "stackyard.tags.forms[0].pattern: is missing"),
    ],
)
def test_what_our_own_keys_cannot_be_is_said_by_key(refusals: Refusals, ours: str, problem: str) -> None:
    assert refusals(f"stackyard: {ours}")[0].startswith(problem)


@pytest.mark.parametrize(
    "auth", ["{silly: {realm: a, service: b}}", "{token: {realm: r, service: s, issuer: i, jwks: k}}"]
)
def test_rules_nobody_would_enforce_are_refused(refusals: Refusals, auth: str) -> None:
    problems = refusals(f"auth: {auth}\nstackyard: {{access: {{rules: [{RULE % 'anonymous: true'}]}}}}")

    assert problems[0].startswith("stackyard.access.rules: do not apply with auth.")


def test_anonymous_rules_need_no_users(loaded: LoadText) -> None:
    rules = loaded(f"stackyard: {{access: {{rules: [{RULE % 'anonymous: true'}]}}}}").config.stackyard.access.rules

    assert rules[0].anonymous


def test_memory_cannot_be_shared_by_workers(refusals: Refusals) -> None:
    problems = refusals("storage: inmemory\nstackyard: {workers: 2}")

    assert problems[0].startswith("stackyard.workers: storage.inmemory lives in one process")


def test_rules_about_tags_are_read_with_days_and_weeks(loaded: LoadText) -> None:
    ours = loaded(
        "stackyard:\n  gc: {untagged: 7d}\n  retention:\n    schedule: '30 4 * * 0'\n    rules:\n"
        "    - {repositories: t/**, tags: dev-*, keep: {last: 10, pulled: 30d, newer: 2w, matching: [v*, 're:x+']}}\n"
        "  tags:\n    immutable: [{repositories: '**', tags: v*, excluding: [v0*]}]\n"
        "    forms: [{repositories: team/app, pattern: version-date-commit, excluding: latest}]"
    ).config.stackyard

    assert ours.gc.untagged == timedelta(days=7)
    [rule] = ours.retention.rules
    assert (rule.tags, rule.keep.last, rule.keep.pulled) == (("dev-*",), 10, timedelta(days=30))
    assert (rule.keep.newer, rule.keep.matching) == (timedelta(weeks=2), ("v*", "re:x+"))
    assert ours.tags.immutable[0].excluding == ("v0*",)
    assert ours.tags.forms[0].pattern == "version-date-commit"


def test_quotas_are_read(loaded: LoadText) -> None:
    ours = loaded(
        "stackyard:\n  quotas:\n  - {prefix: team-a/, bytes: 50GB, repositories: 100}\n  - {prefix: /, bytes: 2TiB}"
    ).config.stackyard

    assert [(each.prefix, each.bytes, each.repositories) for each in ours.quotas] == [
        ("team-a/", 50 * 10**9, 100),
        ("", 2 * 2**40, None),
    ]


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("{prefix: team-a, bytes: 1GB}", "is not the beginning of repository names, such as team-a/"),
        ("{prefix: team-a/}", "limits nothing"),
        ("{prefix: team-a/, bytes: 0}", "is below 1"),
        ("{prefix: team-a/, repositories: -1}", "is below 1"),
        ("{prefix: a/, bytes: 1}, {prefix: a/, bytes: 2}", "there is another quota on a/"),
    ],
)
def test_what_cannot_be_a_quota_is_refused(refusals: Refusals, written: str, says: str) -> None:
    [told] = refusals(f"stackyard: {{quotas: [{written}]}}")

    assert says in told
