"""`stackyard rule` and `stackyard retention`, on a running server."""

import json

from tests.cli.test_main import run
from tests.cli.test_verbs import push
from tests.support.running import Running


def test_a_rule_is_made_and_what_it_lets_go_is_shown_and_removed(registry: Running) -> None:
    for tag in ("1.0", "1.1", "dev"):
        push(registry, "team/app", tag)
    at = ("--config", registry.config)

    made = run("rule", "keep", "team/**", "--excluding", "1.1", "--last", "1", *at)
    listed = run("rule", "list", *at)
    shown = run("retention", "preview", "team/app", *at)
    summary = run("retention", "preview", *at)
    removed = run("retention", "run", *at)
    again = run("retention", "preview", "team/app", "--json", *at)

    assert made.returncode == 0, made.stderr
    assert listed.stdout.split("\t") == [
        "1",
        "retention",
        "team/**",
        "*",
        "excluding: 1.1, keep last: 1",
        "api\n",
    ]
    assert [line.split("\t")[:3] for line in shown.stdout.splitlines()] == [
        ["1.0", "goes", "not one of the last 1 pushed (rule 1)"],
        ["1.1", "stays", "no rule is about it"],
        ["dev", "stays", "one of the last 1 pushed (rule 1)"],
    ]
    assert summary.stdout == "team/app\t3\t1\t\n"
    assert (removed.returncode, removed.stdout) == (0, "1 tag removed, 2 kept; repositories: 1\n")
    assert [one["tag"] for one in json.loads(again.stdout)] == ["1.1", "dev"]


def test_more_than_half_needs_force(registry: Running) -> None:
    for tag in ("1", "2", "3"):
        push(registry, "app", tag)
    at = ("--config", registry.config)
    run("rule", "keep", "**", "--last", "1", *at)

    asked = run("retention", "run", *at)
    forced = run("retention", "run", "app", "--force", *at)

    assert asked.returncode == 1
    assert "app: more than half of its tags would go, so none did" in asked.stdout
    assert forced.stdout == "2 tags removed, 1 kept; repositories: 1\n"


def test_a_bad_rule_is_refused_with_the_reason(registry: Running) -> None:
    at = ("--config", registry.config)

    nothing = run("rule", "keep", "**", *at)
    frozen = run("rule", "immutable", "**", "--tags", "v*", *at)
    again = run("rule", "immutable", "a", "--tags", "v1*", *at)
    form = run("rule", "form", "**", "version-date-commit", "--excluding", "latest", *at)
    removed = run("rule", "remove", "1", *at)
    unknown = run("rule", "remove", "1", *at)

    assert nothing.stderr.startswith("stackyard: the new rule: keeps nothing, so it would delete every tag")
    assert (frozen.returncode, form.returncode, removed.stdout) == (0, 0, "rule 1 is removed\n")
    assert again.stderr == "stackyard: the new rule: has no effect, because rule 1 makes the same tags immutable\n"
    assert unknown.stderr == "stackyard: there is no such rule: 1\n"
