"""The suite of the v1.1 line, from `conformance/v1.1`: four workflows, written for ginkgo."""

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tests.conformance import suite
from tests.conformance.suite import Report, Totals

OLDEST_GO = (1, 20)
REPOSITORY = "conformance/v1.1/one"
WORKFLOWS = {f"OCI_TEST_{name}": "1" for name in ("PULL", "PUSH", "CONTENT_DISCOVERY", "CONTENT_MANAGEMENT")}
_PREFIX = "[It] OCI Distribution Conformance Tests "


def build() -> Path:
    """Its program. Skips where it cannot be built."""
    return suite.build("v1.1", "test", "-c", oldest=OLDEST_GO)


def check(program: Path, url: str, *, results: Path, env: Mapping[str, str]) -> Report:
    """Run the workflows that `env` names."""
    settings = {
        "OCI_ROOT_URL": url,
        "OCI_NAMESPACE": REPOSITORY,
        "OCI_CROSSMOUNT_NAMESPACE": "conformance/v1.1/two",
        "OCI_HIDE_SKIPPED_WORKFLOWS": "0",
        "OCI_REPORT_DIR": str(results),
        **env,
    }
    return _read(suite.execute(program, settings, results=results))


def _read(root: ET.Element) -> Report:
    # Beside the tests, "[It] …", it lists the writing of its own report.
    cases = [case for case in root.iter("testcase") if case.get("name", "").startswith("[It]")]
    count = Counter(case.get("status") for case in cases)
    totals = Totals(
        total=len(cases),
        passed=count["passed"],
        failed=count["failed"],
        errors=len(cases) - count["passed"] - count["failed"] - count["skipped"],
        skipped=count["skipped"],
        disabled=0,
    )
    skipped = frozenset(_name(case) for case in cases if case.get("status") == "skipped")
    complaints = [_complaint(case) for case in cases if case.get("status") not in ("passed", "skipped")]
    return Report(totals, skipped, "\n".join(complaints))


def _name(case: ET.Element) -> str:
    return case.get("name", "").removeprefix(_PREFIX)


def _complaint(case: ET.Element) -> str:
    failure = case.find("failure")
    said = "" if failure is None else (failure.text or "")
    return f"{case.get('status')}: {_name(case)}\n    {said.strip()}"
