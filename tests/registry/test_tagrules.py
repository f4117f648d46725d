"""Forms of tags, and which rule decides."""

import pytest

from stackyard.registry.selections import Selection
from stackyard.registry.tagrules import VERSION_DATE_COMMIT, Form, form_of, is_version_date_commit


@pytest.mark.parametrize(
    ("tag", "right"),
    [
        ("1.0.0-20230801-a1b2c3d", True),
        ("10.20.30-20240229-" + "0123456789abcdef" * 2 + "01234567", True),
        ("1.0.0-20230801-a1b2c3", False),  # six digits
        ("1.0.0-20230801-" + "a" * 41, False),
        ("1.0.0-20230229-a1b2c3d", False),  # no such day
        ("1.0.0-20231301-a1b2c3d", False),
        ("1.0.0-00000101-a1b2c3d", False),
        ("1.0-20230801-a1b2c3d", False),
        ("v1.0.0-20230801-a1b2c3d", False),
        ("1.0.0-20230801-A1B2C3D", False),  # git writes small letters
        ("1.0.0-20230801-a1b2c3g", False),
        ("1.0.0-20230801-a1b2c3d-x", False),
        ("1.0.0-\uff12\uff10\uff12\uff130801-a1b2c3d", False),
        ("latest", False),
    ],
)
def test_the_preset_takes_real_dates_and_commits_only(tag: str, right: bool) -> None:
    assert is_version_date_commit(tag) is right


def test_the_most_specific_repositories_decide() -> None:
    forms = [
        Form(Selection(repositories), "v*", repositories) for repositories in ("**", "team/*", "team/a*", "team/app")
    ]

    def decides(repository: str) -> str | None:
        form = form_of(forms, repository)
        return form.name if form else None

    assert decides("team/app") == "team/app"
    assert decides("team/api") == "team/a*"
    assert decides("team/web") == "team/*"
    assert decides("other") == "**"
    assert form_of(forms[1:], "other") is None


def test_what_is_excluded_may_look_otherwise() -> None:
    form = Form(Selection("**", excluding=("latest", "re:pr-[0-9]+")), VERSION_DATE_COMMIT, "rule 1")

    assert form.allows("latest")
    assert form.allows("pr-17")
    assert not form.allows("pr-x")
    assert form.expected == (
        "VERSION-DATE-COMMIT, such as 1.0.0-20230801-a1b2c3d (a real date, 7 to 40 hex digits), or one of latest, "
        "re:pr-[0-9]+"
    )
