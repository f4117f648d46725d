"""Which file is read, and what it takes to be one."""

from collections.abc import Callable
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

import pytest
from tests.config.conftest import LoadText

from stackyard.config.auth import Auth
from stackyard.config.errors import ConfigError
from stackyard.config.load import load

Refusals = Callable[..., list[str]]
DEFAULTS = Path(str(files("stackyard.config"))) / "defaults"


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_without_any_file_everything_has_a_default() -> None:
    loaded = load(None, {})

    assert loaded.path is None
    assert loaded.warnings == loaded.notices == ()
    assert loaded.config.http.addr == ":5000"
    assert loaded.config.storage.filesystem is not None
    assert loaded.config.storage.filesystem.rootdirectory == "/var/lib/registry"
    assert loaded.config.storage.delete.enabled is False
    assert loaded.config.auth == Auth()


def test_given_path_wins_over_the_environment_and_the_defaults(tmp_path: Path) -> None:
    given = write(tmp_path / "given.yml", "version: 0.1\nhttp: {addr: ':1'}")
    named = write(tmp_path / "named.yml", "version: 0.1\nhttp: {addr: ':2'}")
    usual = write(tmp_path / "usual.yml", "version: 0.1\nhttp: {addr: ':3'}")
    environ = {"REGISTRY_CONFIGURATION_PATH": named}

    assert load(given, environ, defaults=[usual]).config.http.addr == ":1"
    assert load(None, environ, defaults=[usual]).config.http.addr == ":2"
    assert load(None, {}, defaults=[str(tmp_path / "missing.yml"), usual]).config.http.addr == ":3"
    assert load(None, {}).config.http.addr == ":5000"


def test_missing_file_is_named_by_the_error(tmp_path: Path) -> None:
    path = str(tmp_path / "missing.yml")

    with pytest.raises(ConfigError, match="cannot be read: No such file") as caught:
        load(None, {"REGISTRY_CONFIGURATION_PATH": path})

    assert caught.value.path == path


@pytest.mark.parametrize(
    "text",
    ["", "- a", "hello", "http: {}", "version: 0.2", "version: 1", "version: latest", "version: [0.1]", "version:"],
)
def test_file_without_version_0_1_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"version: 0\.1"):
        load(write(tmp_path / "config.yml", text), {})


@pytest.mark.parametrize("version", ["0.1", "'0.1'", '"0.1"'])
def test_version_may_be_quoted(tmp_path: Path, version: str) -> None:
    assert load(write(tmp_path / "config.yml", f"version: {version}"), {}).config.version == "0.1"


@pytest.mark.parametrize(
    "body",
    [
        b"version: 0.1\nhttp: {addr: [}",
        b"version: 0.1\n\thttp: x",
        b"version: 0.1\nlog: *nowhere",
        b"version: 0.1\nlog: &a [*a]",
        b"version: 0.1\nhttp: {? [a]: b}",
        b"version: 0.1\nhttp: \x00",
        b'version: 0.1\nstorage: {filesystem: {rootdirectory: "/a\\0b"}}',
        b"\xff\xfe\xff",
        b"version: 0.1\nhttp: " + b"[" * 1500,
        b"a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + b"".join(f"a{i}: &a{i} [{','.join(['*a' + (str(i - 1) if i else '')] * 10)}]\n".encode() for i in range(9)),
    ],
)
def test_broken_or_boundless_yaml_is_refused_and_nothing_else(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "config.yml"
    path.write_bytes(body)

    with pytest.raises(ConfigError):
        load(str(path), {})


def test_yaml_error_says_where_it_is(refusals: Refusals) -> None:
    assert "line 3" in refusals("http:\n  addr: ]x")[0]


@pytest.mark.parametrize("name", ["registry-2.yml", "registry-3.yml"])
def test_unchanged_default_file_loads_without_warning(name: str) -> None:
    loaded = load(str(DEFAULTS / name), {})

    assert loaded.warnings == ()
    assert [notice.partition(":")[0] for notice in loaded.notices] == (
        ["storage.cache"] if name == "registry-2.yml" else ["storage.cache", "storage.tag", "http.debug.prometheus"]
    )
    assert loaded.config.storage.filesystem is not None
    assert loaded.config.storage.filesystem.rootdirectory == "/var/lib/registry"
    assert loaded.config.http.addr == ":5000"
    assert loaded.config.health.storagedriver.enabled
    assert loaded.config.health.storagedriver.interval == timedelta(seconds=10)
    assert loaded.config.health.storagedriver.threshold == 3


def test_default_files_differ_as_those_of_the_two_images_do() -> None:
    two = load(str(DEFAULTS / "registry-2.yml"), {}).config
    three = load(str(DEFAULTS / "registry-3.yml"), {}).config

    assert (two.log.level, three.log.level) == ("info", "debug")
    assert (two.storage.delete.enabled, three.storage.delete.enabled) == (False, True)
    assert (two.http.debug.addr, three.http.debug.addr) == ("", ":5001")
    assert two.http.headers == {"X-Content-Type-Options": ("nosniff",)}


def test_scalars_keep_the_text_that_was_written(loaded: LoadText) -> None:
    config = loaded("http: {secret: 0123}\nauth: {htpasswd: {realm: yes, path: 2024-01-01}}").config

    assert config.http.secret.get_secret_value() == "0123"
    assert config.auth.htpasswd is not None
    assert (config.auth.htpasswd.realm, config.auth.htpasswd.path) == ("yes", "2024-01-01")


def test_anchors_and_merge_keys_work(loaded: LoadText) -> None:
    text = "health:\n  tcp:\n  - &first {addr: 'a:1', interval: 3s}\n  - {<<: *first, addr: 'b:2'}"

    first, second = loaded(text).config.health.tcp

    assert (first.addr, second.addr) == ("a:1", "b:2")
    assert first.interval == second.interval == timedelta(seconds=3)


def test_key_given_twice_warns_and_the_last_one_counts(loaded: LoadText) -> None:
    result = loaded("log: {level: debug}\nlog: {level: error}")

    assert result.config.log.level == "error"
    assert result.warnings == ("line 3: a key is given twice; the last one counts",)


def test_sections_may_be_null_or_empty(loaded: LoadText) -> None:
    result = loaded("log:\nstorage: {filesystem:, delete:}\nauth:\nhttp: {tls:, headers:, addr:, net: ''}\nhealth: {}")

    assert result.config == load(None, {}).config


def test_section_that_is_no_map_is_a_problem(refusals: Refusals) -> None:
    assert refusals("http: 5000\nhealth: [x]") == ["http: must be a map of keys", "health: must be a map of keys"]


def test_all_problems_are_reported_at_once_by_key(refusals: Refusals) -> None:
    problems = refusals("log: {level: loud}\ncatalog: {maxentries: many}\nstorage: {delete: {enabled: maybe}}")

    assert problems == [
        "log.level: 'loud' is none of 'error', 'warn', 'info' or 'debug'",
        "storage.delete.enabled: 'maybe' is neither true nor false",
        "catalog.maxentries: 'many' is not a whole number",
    ]


def test_error_names_the_file_on_every_line(tmp_path: Path) -> None:
    path = write(tmp_path / "config.yml", "version: 0.1\nlog: {level: loud}\ntags: {maxtags: x}")

    with pytest.raises(ConfigError) as caught:
        load(path, {})

    assert all(line.startswith(f"{path}: ") for line in str(caught.value).splitlines())
    assert len(caught.value.problems) == 2


def test_configuration_cannot_be_changed() -> None:
    config = load(None, {}).config

    with pytest.raises(ValueError, match="frozen"):
        config.http.addr = ":1"  # type: ignore[misc]
