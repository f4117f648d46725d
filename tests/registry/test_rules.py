"""Rules in the database: remembered by epoch, changed one after the other, refused with the reason."""

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import Connection, select
from tests.metadata.making import ACTOR

from stackyard.metadata import rules as rows
from stackyard.metadata.database import Database
from stackyard.metadata.schema import audit
from stackyard.oci.errors import RuleRefused, RuleUnknown
from stackyard.registry.rules import FORM, IMMUTABLE, RETENTION, Rules, check_all, read

KEEP_TEN = {"repositories": "team/**", "keep": {"last": 10}}
RELEASES = {"repositories": "**", "tags": ["v*"]}


async def test_a_rule_is_added_changed_and_removed_and_each_is_recorded(database: Database) -> None:
    rules = Rules(database)

    id_ = (await rules.add(RETENTION, KEEP_TEN, actor=ACTOR)).id
    await rules.change(id_, RETENTION, KEEP_TEN | {"tags": ["dev-*"]}, actor="user:bob")
    [one] = await rules.list()
    assert (one.kind, one.detail["tags"], one.source, one.updated_by) == (RETENTION, ["dev-*"], "api", "user:bob")
    assert (await rules.policy()).retention[0].selection.tags == ("dev-*",)
    await rules.remove(id_, actor=ACTOR)

    assert await rules.list() == []
    recorded = await database.read(lambda c: c.execute(select(audit.c.actor, audit.c.action).order_by(audit.c.id)))
    assert [tuple(row) for row in recorded] == [
        (ACTOR, "rule.add"),
        ("user:bob", "rule.change"),
        (ACTOR, "rule.remove"),
    ]
    with pytest.raises(RuleUnknown):
        await rules.remove(id_, actor=ACTOR)


async def test_the_number_of_a_rule_that_is_gone_is_not_given_again(database: Database) -> None:
    """The audit log goes on naming it."""
    rules = Rules(database)
    gone = (await rules.add(RETENTION, KEEP_TEN, actor=ACTOR)).id
    await rules.remove(gone, actor=ACTOR)

    assert (await rules.add(RETENTION, KEEP_TEN, actor=ACTOR)).id > gone


async def test_another_process_sees_a_change_in_its_next_transaction(database: Database) -> None:
    mine, others = Rules(database), Rules(database)
    assert (await others.policy()).immutable == ()

    id_ = (await mine.add(IMMUTABLE, RELEASES, actor=ACTOR)).id

    before = await others.policy()
    assert [one.name for one in before.immutable] == [f"rule {id_}"]
    assert await others.policy() is before  # remembered, not read again


async def test_the_rules_of_the_file_replace_those_that_stood_there_before(database: Database) -> None:
    rules = Rules(database)
    own = (await rules.add(RETENTION, {"repositories": "mine", "keep": {"last": 1}}, actor=ACTOR)).id

    await rules.adopt([(RETENTION, KEEP_TEN), (IMMUTABLE, RELEASES)])
    kept = next(one.id for one in await rules.list() if one.kind == IMMUTABLE)
    epoch = await database.read(rows.epoch)
    await rules.adopt([(RETENTION, KEEP_TEN), (IMMUTABLE, RELEASES)])
    assert await database.read(rows.epoch) == epoch  # nothing changed, nothing written
    await rules.adopt([(IMMUTABLE, RELEASES)])

    assert [(one.id, one.source) for one in await rules.list()] == [(own, "api"), (kept, "config")]
    for refused in (rules.remove(kept, actor=ACTOR), rules.change(kept, IMMUTABLE, RELEASES, actor=ACTOR)):
        with pytest.raises(RuleRefused, match="stands in the configuration file"):
            await refused


async def test_two_workers_adopt_the_same_rules_once(database: Database) -> None:
    workers = [Rules(database) for _ in range(4)]

    await asyncio.gather(*(one.adopt([(RETENTION, KEEP_TEN)]) for one in workers))

    assert len(await workers[0].list()) == 1


async def test_of_two_rules_that_do_not_go_together_the_second_is_refused(database: Database) -> None:
    rules = Rules(database)

    async def add(pattern: str) -> bool:
        try:
            await rules.add(FORM, {"repositories": "team/*", "pattern": pattern}, actor=ACTOR)
        except RuleRefused:
            return False
        return True

    assert sorted(await asyncio.gather(add("v*"), add("r*"), add("s*"))) == [False, False, True]


async def test_a_rule_nobody_understands_does_not_take_the_others_away(database: Database) -> None:
    def broken(c: Connection) -> None:
        rows.lock(c)
        rows.add(c, "of-the-future", {"repositories": "**"}, source="api", actor=ACTOR)

    await database.write(broken)
    rules = Rules(database)

    id_ = (await rules.add(IMMUTABLE, RELEASES, actor=ACTOR)).id

    assert [one.name for one in (await rules.policy()).immutable] == [f"rule {id_}"]


@pytest.mark.parametrize(
    ("kind", "detail", "reason"),
    [
        ("other", {}, "is none of retention, immutable, form"),
        (RETENTION, {}, "repositories is missing"),
        (RETENTION, {"repositories": 1}, "repositories is missing"),
        (RETENTION, {"repositories": "**"}, "keeps nothing"),
        (RETENTION, {"repositories": "**", "keep": []}, "keep is no object"),
        (RETENTION, {"repositories": "**", "keep": {"lats": 1}}, "keep.lats is unknown"),
        (RETENTION, {"repositories": "**", "keep": {"last": True}}, "keep.last is no number"),
        (RETENTION, {"repositories": "**", "keep": {"pulled": 30}}, "keep.pulled is no length of time"),
        (RETENTION, {"repositories": "**", "keep": {"pulled": "30 days"}}, "no length of time|not a length of time"),
        (RETENTION, {"repositories": "**", "keep": {"newer": "999999w"}}, "longer than a hundred years"),
        (RETENTION, {"repositories": "**", "tags": "re:(", "keep": {"last": 1}}, "not a regular expression"),
        (RETENTION, {"repositories": "**", "keep": {"matching": "re:("}}, "not a regular expression"),
        (RETENTION, {"repositories": "**", "tags": "re:^$", "keep": {"last": 1}}, "re:.* can match no tag"),
        (RETENTION, {"repositories": "**", "tag": "v*", "keep": {"last": 1}}, "tag is unknown"),
        (IMMUTABLE, {"repositories": "**", "tags": {"a": 1}}, "tags is no list"),
        (IMMUTABLE, {"repositories": "Team"}, "not a repository name"),
        (FORM, {"repositories": "**"}, "pattern is missing"),
        (FORM, {"repositories": "**", "pattern": ".x"}, "can match no tag"),
        (FORM, {"repositories": "**", "pattern": "re:v\\d a"}, "can match no tag, so nothing could be pushed"),
        (FORM, {"repositories": "**", "pattern": "*"}, "no effect"),
        (FORM, {"repositories": "**", "pattern": "re:[^/]+"}, "lets every tag through"),
        (FORM, {"repositories": "**", "pattern": "version-commit"}, "or version-date-commit for tags such as"),
        (IMMUTABLE, {"repositories": "**", "tags": "v1", "excluding": "v*"}, "all that v1 stands for is excluded by v"),
        (IMMUTABLE, {"repositories": "**", "tags": "dev-*", "excluding": "re:dev-.*"}, "is excluded by re:dev-"),
    ],
)
def test_a_bad_rule_is_refused_with_the_reason(kind: str, detail: dict[str, Any], reason: str) -> None:
    with pytest.raises(RuleRefused, match=reason):
        read(kind, json.loads(json.dumps(detail)), "the new rule")


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ((IMMUTABLE, RELEASES), (IMMUTABLE, {"repositories": "a", "tags": ["v1*"]}), "two: has no effect, because one"),
        ((IMMUTABLE, {"repositories": "a", "tags": ["v1*"]}), (IMMUTABLE, RELEASES), "one: has no effect, because two"),
        (
            (IMMUTABLE, {"repositories": "**", "tags": ["re:v[0-9].*"]}),
            (IMMUTABLE, {"repositories": "a", "tags": ["v1*"]}),
            "two: has no effect, because one",
        ),
        (
            (FORM, {"repositories": "a*", "pattern": "v*"}),
            (FORM, {"repositories": "a*", "pattern": "version-date-commit"}),
            "two: there can be repositories that one is about",
        ),
        (
            (FORM, {"repositories": "**", "pattern": "version-date-commit"}),
            (IMMUTABLE, {"repositories": "a", "tags": ["stable"]}),
            "two: can match no tag, because one refuses stable",
        ),
        (
            (IMMUTABLE, RELEASES),
            (RETENTION, {"repositories": "a", "tags": ["v1*"], "keep": {"last": 1}}),
            "two: can remove nothing, because one makes",
        ),
    ],
)
def test_rules_that_do_not_go_together_are_refused(first: Any, second: Any, reason: str) -> None:
    with pytest.raises(RuleRefused, match=reason):
        check_all([(*first, "one"), (*second, "two")])


async def test_a_rule_is_compared_with_the_others_though_they_do_not_go_together(database: Database) -> None:
    """The configuration file and the API know nothing of each other."""
    rules = Rules(database)
    keep = {"repositories": "**", "keep": {"last": 1}}
    await rules.adopt([(RETENTION, keep)])
    more = {"repositories": "**", "keep": {"last": 2}}
    await database.write(rows.add, RETENTION, more, source="api", actor="local:root")

    with pytest.raises(RuleRefused, match="has no effect"):
        await rules.add(RETENTION, keep | {"repositories": "a"}, actor="x")
    await rules.add(IMMUTABLE, RELEASES, actor="local:root")


def test_a_more_specific_form_may_differ() -> None:
    check_all(
        [
            (FORM, {"repositories": "**", "pattern": "v*"}, "one"),
            (FORM, {"repositories": "team/*", "pattern": "version-date-commit"}, "two"),
        ]
    )
