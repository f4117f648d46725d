"""Loading a configuration from text."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from stackyard.config.errors import ConfigError
from stackyard.config.load import Loaded, load


class LoadText(Protocol):
    """Load what follows `version: 0.1`, under an environment."""

    def __call__(self, text: str = "", **environ: str) -> Loaded: ...


@pytest.fixture
def loaded(tmp_path: Path) -> LoadText:
    def load_text(text: str = "", **environ: str) -> Loaded:
        file = tmp_path / "config.yml"
        file.write_text(f"version: 0.1\n{text}", encoding="utf-8")
        return load(str(file), environ)

    return load_text


@pytest.fixture
def refusals(loaded: LoadText) -> Callable[..., list[str]]:
    """The problems a text is refused for."""

    def problems(text: str = "", **environ: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            loaded(text, **environ)
        return list(caught.value.problems)

    return problems
