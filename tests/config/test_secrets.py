"""No secret in anything that is said."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.config.conftest import LoadText

from stackyard.config.describe import effective
from stackyard.config.errors import ConfigError
from stackyard.config.load import load

SECRET = "hunter2"
Refusals = Callable[..., list[str]]


def test_secrets_are_hidden_wherever_a_configuration_is_shown(loaded: LoadText) -> None:
    result = loaded(
        f"http: {{secret: {SECRET}}}\nstackyard: {{database: {{url: 'postgresql://u:{SECRET}@db/r'}}}}\n"
        f"health: {{http: [{{uri: 'http://x/', headers: {{Authorization: ['Basic {SECRET}']}}}}]}}\n"
        f"redis: {{password: {SECRET}}}\nproxy: {{password: {SECRET}}}\n{SECRET}x: 1\nhttpx: {SECRET}"
    )

    shown = [repr(result.config), str(result.config), repr(effective(result.config)), result.config.model_dump_json()]
    assert not [text for text in shown if SECRET in text]
    assert not [text for text in (*result.notices, *result.warnings) if SECRET in text.removeprefix(f"{SECRET}x")]


@pytest.mark.parametrize(
    "environ",
    [
        {"STACKYARD_DATABASE_URL": f"mysql://u:{SECRET}@db/r"},
        {"STACKYARD_DATABASE_URL": f"postgresql://u:{SECRET}@db"},
        {"STACKYARD_DATABASE": f"{{url: [{SECRET}]}}"},
        {"REGISTRY_HTTP": f"{{secret: [{SECRET}]}}"},
        {"REGISTRY_HTTP": f"{{secret: *{SECRET}}}"},
        {"REGISTRY_HTTP_HEADERS": f"{{Authorization: {{a: {SECRET}}}}}"},
        {"REGISTRY_HTTP_HEADERS": f'{{Authorization: ["{SECRET}\\n"]}}'},
        {"REGISTRY_HEALTH_HTTP": f"[{{uri: 'http://x', headers: {{A: {{b: {SECRET}}}}}}}]"},
        {"REGISTRY_STORAGE": "s3", "REGISTRY_STORAGE_S3_SECRETKEY": SECRET},
        {"REGISTRY_PROXY_REMOTEURL": f"https://u:{SECRET}@x"},
        {"REGISTRY_AUTH_PASSWORD": SECRET},
        {"REGISTRY_HTTP_HOST": f"https://u:{SECRET}@x"},
    ],
)
def test_refusal_does_not_repeat_a_secret(loaded: LoadText, environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(**environ)

    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "text", [f"redis: {{password: *{SECRET}}}", f'redis: {{password: "{SECRET}\\q"}}', f"redis: [a, {SECRET}: b"]
)
def test_yaml_error_does_not_repeat_a_secret(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yml"
    file.write_text(f"version: 0.1\n{text}\n", encoding="utf-8")

    with pytest.raises(ConfigError, match="not valid YAML") as caught:
        load(str(file), {})

    assert SECRET not in str(caught.value)
