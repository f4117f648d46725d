"""From a file and an environment to a configuration, or to the list of what is wrong with them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from stackyard.config import document, environment, explain
from stackyard.config.document import NotYaml, Tree
from stackyard.config.environment import Environment
from stackyard.config.errors import ConfigError
from stackyard.config.model import Config
from stackyard.config.shape import ROOT
from stackyard.config.sieve import Sieve

# Where the images of Distribution 2 and 3 keep their file, in the order they are looked for.
DEFAULT_PATHS = ("/etc/docker/registry/config.yml", "/etc/distribution/config.yml")

_VARIABLE = "REGISTRY_CONFIGURATION_PATH"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and what is to be said about it. No text here holds a secret."""

    config: Config
    path: str | None
    """The file it was read from; None: there was none, and defaults and environment are all."""
    notices: tuple[str, ...]
    """Keys that are accepted and have no effect."""
    warnings: tuple[str, ...]
    """What the operator probably did not mean."""
    ignored: tuple[str, ...]
    """Names of variables that begin as ours do and are somebody else's."""


def load(path: str | None, environ: Mapping[str, str], *, defaults: Sequence[str] = ()) -> Loaded:
    """Read the configuration.

    Args:
        path: The file to read; None: the one in REGISTRY_CONFIGURATION_PATH, else the first of `defaults` that
            exists, else none.
        environ: Its REGISTRY_* and STACKYARD_* override the file.
        defaults: Usually DEFAULT_PATHS.

    Raises:
        ConfigError: The file cannot be read, or keys in it cannot be honoured; all of them are named.
    """
    chosen = path or environ.get(_VARIABLE) or next((file for file in defaults if os.path.exists(file)), None)
    tree, odd = _read(chosen) if chosen else ({}, [])
    found = environment.override(tree, environ)
    sieve = Sieve(found.tree)
    kept = _without_alias(sieve.sift())
    advice: list[str] = []
    config = _validated(kept, advice, found, sieve, chosen)
    warnings = (*odd, *found.warnings, *sieve.warnings, *advice)
    return Loaded(config, chosen, tuple(sieve.notices), warnings, tuple(found.ignored))


def _read(path: str) -> tuple[dict[str, Tree], list[str]]:
    try:
        with open(path, "rb") as file:
            tree, odd = document.read(file.read())
    except OSError as error:
        raise ConfigError([f"cannot be read: {error.strerror or 'no such file'}"], path=path) from None
    except (NotYaml, ValueError) as error:
        raise ConfigError([str(error)], path=path) from None
    if not isinstance(tree, dict):
        raise ConfigError(["is no map of keys; it must begin with version: 0.1"], path=path)
    version = tree.get("version")
    if version != "0.1":
        was = "is missing" if version is None else "is not supported"
        raise ConfigError([f"version: {was}; the file must say version: 0.1"], path=path)
    return {name: _chosen(name, value) for name, value in tree.items()}, odd


def _chosen(name: str, value: Tree) -> Tree:
    """`storage: inmemory` is short for a map with that one key."""
    node = ROOT.children.get(name)
    return {value: {}} if node is not None and node.is_choice and isinstance(value, str) else value


def _without_alias(tree: dict[str, Tree]) -> dict[str, Tree]:
    """`loglevel` is what `log.level` was called; the new name wins."""
    level, log = tree.pop("loglevel", None), tree.get("log", {})
    if level and isinstance(log, dict):
        tree["log"] = {"level": level, **log}
    return tree


def _validated(tree: dict[str, Tree], advice: list[str], found: Environment, sieve: Sieve, path: str | None) -> Config:
    wrong = [*found.problems, *sieve.problems]
    try:
        config = Config.model_validate(tree, context=advice)
    except ValidationError as error:
        raise ConfigError([*wrong, *explain.problems(error)], path=path) from None
    if wrong:
        raise ConfigError(wrong, path=path)
    return config
