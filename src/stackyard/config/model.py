"""The whole configuration, and what only its sections together can get wrong."""

from typing import Literal

from pydantic import model_validator

from stackyard.config.auth import Auth
from stackyard.config.health import Health
from stackyard.config.http import Http
from stackyard.config.listings import Catalog, Tags
from stackyard.config.log import Log
from stackyard.config.section import Section, option, section
from stackyard.config.stackyard import Stackyard
from stackyard.config.storage import Storage
from stackyard.config.validation import Validation


class Config(Section):
    """What the server runs with. Passwords and keys print as asterisks."""

    version: Literal["0.1"] = option("0.1", "The version of the file's format.")
    log: Log = section(Log)
    storage: Storage = section(Storage)
    auth: Auth = section(Auth)
    http: Http = section(Http)
    validation: Validation = section(Validation)
    catalog: Catalog = section(Catalog)
    tags: Tags = section(Tags)
    health: Health = section(Health)
    stackyard: Stackyard = section(Stackyard)

    @model_validator(mode="after")
    def _rules_have_users(self) -> "Config":
        """A rule nobody enforces is a hole that looks like a wall."""
        rules = self.stackyard.access.rules
        other = "auth.token" if self.auth.token else "auth.silly" if self.auth.silly else None
        if rules and other:
            raise ValueError(f"stackyard.access.rules: do not apply with {other}; use auth.htpasswd, or remove them")
        if not self.auth.htpasswd and any(not rule.anonymous for rule in rules):
            raise ValueError("stackyard.access.rules: name users while nobody can log in; set auth.htpasswd")
        return self

    @model_validator(mode="after")
    def _rows_have_a_place(self) -> "Config":
        """There is no volume for the embedded database to lie in, and none may be made up: rows must not get lost."""
        if self.storage.objects and not self.stackyard.database.url.get_secret_value():
            raise ValueError(
                f"stackyard.database.url: is missing while storage.{self.storage.objects[0]} keeps the bytes; give "
                "postgresql://user:password@host/database, for several nodes, or sqlite:////path/of/a/file, for one"
            )
        return self

    @model_validator(mode="after")
    def _memory_is_one_process(self) -> "Config":
        if self.storage.inmemory is not None and self.stackyard.workers > 1:
            raise ValueError("stackyard.workers: storage.inmemory lives in one process; set 1 or leave it out")
        return self
