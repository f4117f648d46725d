"""The suite's current runner, from `conformance/current`: it tests one version of the spec, `stable` or `dev`."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

from tests.conformance import suite
from tests.conformance.suite import Report, Totals

OLDEST_GO = (1, 24)


def build() -> Path:
    """Its program. Skips where it cannot be built."""
    return suite.build("current", "build", oldest=OLDEST_GO)


def check(program: Path, address: str, *, version: str, results: Path, env: Mapping[str, str]) -> Report:
    """Run the whole suite for one `version` of the spec."""
    settings = {
        "OCI_REGISTRY": address,
        "OCI_TLS": "disabled",
        "OCI_VERSION": version,
        "OCI_RESULTS_DIR": str(results),
        "OCI_REPO1": f"conformance/{version}/one",
        "OCI_REPO2": f"conformance/{version}/two",
        **env,
    }
    return _read(suite.execute(program, settings, results=results))


def _read(root: ET.Element) -> Report:
    tests = next(root.iter("testsuite"))
    counts = {name: int(tests.get(name, "0")) for name in ("tests", "failures", "errors", "skipped", "disabled")}
    # The suite counts the steps within a test too, and lists only the tests.
    totals = Totals(
        total=counts["tests"],
        passed=2 * counts["tests"] - sum(counts.values()),
        failed=counts["failures"],
        errors=counts["errors"],
        skipped=counts["skipped"],
        disabled=counts["disabled"],
    )
    cases = [case for case in tests.iter("testcase") if case.get("status") != "passed"]
    skipped = frozenset(case.get("name", "") for case in cases if case.get("status") == "skipped")
    return Report(totals, skipped, "\n".join(map(_complaint, cases)))


def _complaint(case: ET.Element) -> str:
    return f"{case.get('status')}: {case.get('name')}\n    {(case.findtext('system-out') or '').strip()}"
