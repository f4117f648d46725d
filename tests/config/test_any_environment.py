"""Every key by environment, and every environment without a crash."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stackyard.config.environment import override
from stackyard.config.errors import ConfigError
from stackyard.config.load import load
from stackyard.config.nearest import variable_of
from stackyard.config.shape import ROOT, Node

LEAVES = [
    node
    for node in ROOT.walk()
    if node.leaf is not None and "*" not in node.path and node.rule is None and node.path != "version"
]


@pytest.mark.parametrize("node", LEAVES, ids=lambda node: node.path)
def test_every_key_can_be_set_by_environment(node: Node) -> None:
    found = override({}, {variable_of(node.path): "value"})

    assert found.warnings == found.problems == found.ignored == []
    value: object = found.tree
    for part in node.path.replace("[]", ".0").split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]  # type: ignore[index]
    assert value == "value"


SEGMENTS = ["AUTH", "HTTP", "STORAGE", "HEADERS", "TCP", "0", "1", "99999", "HEALTH", "LOG", "FIELDS", "S3", "TLS", "x"]
NAMES = st.one_of(
    st.sampled_from([variable_of(node.path) for node in ROOT.walk() if node.path]),
    st.lists(st.sampled_from(SEGMENTS) | st.text(alphabet="ABZ019é_-. \n", max_size=4), max_size=5).map(
        lambda parts: "_".join(["REGISTRY", *parts])
    ),
    st.text(max_size=8).map(lambda tail: f"STACKYARD_{tail}"),
)
ODD = [
    "",
    "null",
    "[[]]",
    "{a: {b: c}}",
    "[{}]",
    "1",
    "-1",
    "true",
    "&a [*a]",
    "9" * 5000,
    "[" * 300,
    "1h",
    "\x00",
    "[[",
]
FLOW = st.recursive(
    st.text(alphabet="ab1-:/ ", max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(st.sampled_from(["enabled", "addr", "htpasswd", "rules", "a"]), inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"{key}: {item}" for key, item in items.items()) + "}"
        )
    ),
    max_leaves=6,
)
VALUES = st.text(max_size=30) | st.sampled_from(ODD) | FLOW


@settings(deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=6))
@example({"REGISTRY_STORAGE": "[a]", "REGISTRY_STORAGE_DELETE_ENABLED": "1"})
@example({"REGISTRY_HTTP_HEADERS": "[a]", "REGISTRY_HTTP_HEADERS_A": "1"})
@example({"REGISTRY_AUTH_TOKEN": "{? [a] : b}"})
def test_no_environment_raises_anything_but_config_error(environ: dict[str, str]) -> None:
    try:
        load(None, {name: value for name, value in environ.items() if name != "REGISTRY_CONFIGURATION_PATH"})
    except ConfigError:
        return
