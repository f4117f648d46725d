"""Everything that the description of the API allows, and much that it does not, sent to a real server.

Examples per endpoint: STACKYARD_FUZZ, else a few.
"""

import base64
import os
from collections.abc import Iterator
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis import checks as all_checks
from tests.cli.test_verbs import push
from tests.support import htpasswd, stackyard
from tests.support.running import Running

from stackyard.api.app import make
from stackyard.registry.registry import Registry

EXAMPLES = int(os.environ.get("STACKYARD_FUZZ", "8"))
LOGIN = ("root", "secret")
HEADERS = {"X-Requested-With": "schemathesis"}
CHECKS = [
    all_checks.not_a_server_error,
    all_checks.status_code_conformance,
    all_checks.content_type_conformance,
    all_checks.response_schema_conformance,
    all_checks.response_headers_conformance,
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("fuzz")
    file = htpasswd.write(folder / "htpasswd", dict([LOGIN]), cost=4)
    config: dict[str, Any] = {
        "auth": {"htpasswd": {"realm": "x", "path": str(file)}},
        "stackyard": {"admins": [LOGIN[0]], "workers": 1},
    }
    with stackyard.start(config, folder=folder) as running:
        basic = base64.b64encode(":".join(LOGIN).encode()).decode()
        push(running, "team/app", headers={"Authorization": f"Basic {basic}"})
        yield running
        assert "Traceback" not in running.log, running.log[-4000:]


# Made without a registry, as nothing is asked yet. (`schemathesis.pytest.from_fixture` knows no pytest as new as ours.)
schema = schemathesis.openapi.from_dict(make(cast(Registry, None)).openapi())


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_answers_are_as_described_and_never_our_fault(case: Case[Any], server: Running) -> None:
    case.call_and_validate(base_url=server.url, auth=LOGIN, headers=HEADERS, checks=CHECKS)
