"""What cannot be opened is refused at the start, with the file and the reason."""

import re
from pathlib import Path

import pytest
from tests.auth.making import rule, write
from tests.auth.signing import ISSUER, SERVICE, make_key

from stackyard.auth.errors import AccessUnusable
from stackyard.auth.opening import open_access
from stackyard.auth.settings import ASYMMETRIC, HtpasswdSettings, Settings, SillySettings, TokenSettings

REALM = "https://auth.example.com"


def test_missing_htpasswd_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AccessUnusable, match=re.escape(str(tmp_path / "htpasswd"))):
        open_access(Settings(HtpasswdSettings(tmp_path / "htpasswd")))


@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_unusable_file_of_keys_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)

    for settings in (
        TokenSettings(REALM, SERVICE, ISSUER, root_cert_bundle=file),
        TokenSettings(REALM, SERVICE, ISSUER, jwks=file),
    ):
        with pytest.raises(AccessUnusable, match=re.escape(str(file))):
            open_access(Settings(settings))


def test_files_are_read_as_the_caller_says(tmp_path: Path) -> None:
    asked = []

    def read(path: Path) -> bytes:
        asked.append(path.name)
        return make_key(tmp_path).public_pem if path.name == "bundle" else b""

    open_access(Settings(HtpasswdSettings(tmp_path / "htpasswd")), read=read)
    open_access(Settings(TokenSettings(REALM, SERVICE, ISSUER, root_cert_bundle=tmp_path / "bundle")), read=read)

    assert asked == ["htpasswd", "bundle"]


@pytest.mark.parametrize("algorithms", [{"HS256"}, {"none"}, {"ES256", "HS512"}, {"ES256K"}, set()])
def test_algorithm_that_lets_others_forge_tokens_is_refused(algorithms: set[str]) -> None:
    with pytest.raises(ValueError, match="algorithm"):
        TokenSettings(REALM, SERVICE, ISSUER, jwks=Path("x"), signing_algorithms=frozenset(algorithms))


def test_token_settings_without_any_key_are_refused() -> None:
    with pytest.raises(ValueError, match="rootcertbundle or jwks"):
        TokenSettings(REALM, SERVICE, ISSUER)


def test_rules_beside_a_server_that_decides_itself_are_refused() -> None:
    for provider in (
        TokenSettings(REALM, SERVICE, ISSUER, jwks=Path("x"), signing_algorithms=ASYMMETRIC),
        SillySettings(REALM, SERVICE),
    ):
        with pytest.raises(ValueError, match="rules"):
            Settings(provider, rules=(rule("anonymous", "**", "pull"),))


async def test_only_rules_make_us_an_issuer(tmp_path: Path) -> None:
    provider = HtpasswdSettings(write(tmp_path / "htpasswd", {"alice": "secret"}))
    rules = (rule("anonymous", "**", "pull"),)

    for settings, issuing in (
        (Settings(), False),
        (Settings(provider), False),
        (Settings(rules=rules), True),
        (Settings(provider, rules=rules), True),
    ):
        access = open_access(settings)
        assert access.issues_tokens is issuing
        await access.close()
