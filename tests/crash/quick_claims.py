"""`stackyard` as it is shipped, but for one setting: a silent writer's claim on an upload ends after two seconds.

Shipped it is half a minute, which no test should wait for.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from stackyard.cli.main import main
from stackyard.registry.settings import Settings
from stackyard.server import mapping

CLAIM = timedelta(seconds=2)
_shipped = mapping.registry


def _with_quick_claims(*args: Any) -> Settings:
    return replace(_shipped(*args), claim=CLAIM)


if __name__ == "__main__":
    setattr(mapping, _shipped.__name__, _with_quick_claims)
    main()
