"""The rows of the documentation, and the documentation."""

from pathlib import Path

from stackyard.config.describe import describe, effective, markdown
from stackyard.config.load import load
from stackyard.config.shape import ROOT

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_every_key_has_a_meaning() -> None:
    assert [row.key for row in describe() if not row.meaning] == []


def test_every_key_has_a_row_and_those_of_s3aws_are_those_of_s3() -> None:
    leaves = {
        node.path.replace("s3aws.", "s3.") for node in ROOT.walk() if node.leaf is not None and "*" not in node.path
    }

    assert leaves - {row.key for row in describe()} <= {
        path for path in leaves if path.endswith("[]") and not path.endswith("rules[]")
    }


def test_the_page_of_the_documentation_holds_these_rows() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert markdown() in page, "write the output of `python -m stackyard.config.describe` into docs/configuration.md"


def test_effective_configuration_is_plain_values() -> None:
    shown = effective(load(None, {"REGISTRY_HTTP_SECRET": "s", "REGISTRY_HTTP_DRAINTIMEOUT": "90s"}).config)

    assert shown["http"]["draintimeout"] == "1m30s"
    assert shown["http"]["secret"] == "**********"
    assert shown["storage"]["filesystem"]["maxthreads"] == 100
    assert "inmemory" not in shown["storage"]
    assert shown["stackyard"]["trustedproxies"][0] == "127.0.0.0/8"
