"""`stackyard.retention` and `stackyard.tags`: which tags go by themselves, which never change, what they look like."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator

from stackyard.config.section import LongSpan, Section, Texts, option, section

_REPOSITORIES = "Repository name; * stands for anything within one path component, ** also across them."
_TAGS = "Tags this is about; * stands for anything. re: and a regular expression (RE2) has to match the whole tag."
_EXCLUDING = "Of those, tags this is not about."
_NOT_ASKED = timedelta(0)
_ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)


def _cron(text: str) -> str:
    if not text:
        return text
    # Loaded only where a schedule is read.
    from cronsim import CronSim, CronSimError

    try:
        next(CronSim(text, _ANY_TIME))
    except StopIteration:
        raise ValueError("names a time that never comes") from None
    except CronSimError as error:
        raise ValueError(f"is no schedule of five fields such as '0 3 * * *': {error}") from None
    return text


class Keep(Section):
    """`keep` of one of `stackyard.retention.rules`. What any of these, or any other rule, keeps is kept."""

    last: int = option(0, "So many tags that were pushed last; 0: not asked.", ge=0)
    pulled: LongSpan = option(_NOT_ASKED, "Tags pulled within this span, by their name or by digest; 0: not asked.")
    newer: LongSpan = option(_NOT_ASKED, "Tags pushed within this span; 0: not asked.")
    matching: Texts = option((), "Tags like these, written as in tags.")


class RetentionRule(Section):
    """One of `stackyard.retention.rules`."""

    repositories: str = option(meaning=_REPOSITORIES)
    tags: Texts = option(("*",), _TAGS)
    excluding: Texts = option((), _EXCLUDING)
    keep: Keep = section(Keep)


class Retention(Section):
    """`stackyard.retention`. Tags that no rule is about are kept."""

    schedule: Annotated[str, AfterValidator(_cron)] = option(
        "0 3 * * *",
        "When tags are removed: minute, hour, day, month and weekday as in cron, in UTC. Empty: only on demand.",
    )
    rules: tuple[RetentionRule, ...] = option((), "What is kept of which tags; the rest goes, and can be restored.")


class ImmutableTags(Section):
    """One of `stackyard.tags.immutable`."""

    repositories: str = option(meaning=_REPOSITORIES)
    tags: Texts = option(("*",), _TAGS)
    excluding: Texts = option((), _EXCLUDING)


class TagForm(Section):
    """One of `stackyard.tags.forms`. Of all that match, the most specific repositories decide."""

    repositories: str = option(meaning=_REPOSITORIES)
    pattern: str = option(meaning="version-date-commit, or a pattern as in tags, that new tags have to match.")
    excluding: Texts = option((), "Tags that may look otherwise, such as latest.")


class Tags(Section):
    """`stackyard.tags`."""

    immutable: tuple[ImmutableTags, ...] = option((), "Tags that, once pushed, never change and are never deleted.")
    forms: tuple[TagForm, ...] = option((), "What tags have to look like.")
