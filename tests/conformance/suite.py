"""The official OCI conformance suite: built by Go from `conformance/`, run against a registry, read from its report."""

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from tests.support.processes import run

ROOT = Path(__file__).parent.parent.parent
MODULE = "github.com/opencontainers/distribution-spec/conformance"
GO = (1, 24)  # the oldest that the suite builds with


@dataclass(frozen=True)
class Totals:
    """What the suite counted."""

    total: int
    passed: int
    failed: int
    errors: int
    skipped: int
    disabled: int
    """Tests the suite leaves out by itself for this version of the spec."""


@dataclass(frozen=True)
class Report:
    totals: Totals
    complaints: str
    """One paragraph per test that did not pass, with the suite's own words."""


@cache
def build() -> Path:
    """The suite's program. Skips when there is no Go, or one too old; Go builds only what changed."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("no Go toolchain: the OCI conformance suite is a Go program")
    said = run(go, "env", "GOVERSION").out.strip()
    version = re.match(r"go(\d+)\.(\d+)", said)
    if version and tuple(map(int, version.groups())) < GO:
        pytest.skip(f"{said} is too old: the OCI conformance suite needs go{GO[0]}.{GO[1]}")
    program = ROOT / "build/conformance/suite"
    run(go, "build", "-buildvcs=false", "-o", program, MODULE, cwd=ROOT / "conformance", timeout=600)
    return program


def check(address: str, *, version: str, results: Path, env: Mapping[str, str]) -> Report:
    """Run the whole suite for one `version` of the spec, `stable` or `dev`.

    The program says nothing by its exit status when it could not read its
    settings, so the report must be there, and be new.
    """
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    settings = {
        "PATH": "/usr/bin:/bin",
        "OCI_REGISTRY": address,
        "OCI_TLS": "disabled",
        "OCI_VERSION": version,
        "OCI_RESULTS_DIR": str(results),
        "OCI_REPO1": f"conformance/{version}/one",
        "OCI_REPO2": f"conformance/{version}/two",
        **env,
    }
    ended = subprocess.run(
        [build()], cwd=results, env=settings, capture_output=True, text=True, timeout=280, check=False
    )
    report = results / "junit.xml"
    assert report.exists(), f"the suite wrote no report:\n{ended.stdout}{ended.stderr}"
    return read(report)


def read(report: Path) -> Report:
    """The suite's junit.xml as counts and complaints."""
    suite = next(ET.parse(report).getroot().iter("testsuite"))
    counts = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped", "disabled")}
    # The suite counts the steps within a test too, and lists only the tests.
    totals = Totals(
        total=counts["tests"],
        passed=2 * counts["tests"] - sum(counts.values()),
        failed=counts["failures"],
        errors=counts["errors"],
        skipped=counts["skipped"],
        disabled=counts["disabled"],
    )
    cases = [case for case in suite.iter("testcase") if case.get("status") != "passed"]
    return Report(totals, "\n".join(_complaint(case) for case in cases))


def _complaint(case: ET.Element) -> str:
    return f"{case.get('status')}: {case.get('name')}\n    {(case.findtext('system-out') or '').strip()}"
