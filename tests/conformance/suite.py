"""What both runners of the official OCI conformance suite have in common: built by Go, read from junit.xml."""

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.processes import run

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "build/conformance"
MODULE = "github.com/opencontainers/distribution-spec/conformance"


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
    skipped: frozenset[str]
    """Names of the tests that the suite skipped."""
    complaints: str
    """One paragraph per test that did not pass, with the suite's own words."""


def build(folder: str, *command: str, oldest: tuple[int, int]) -> Path:
    """The program that `go <command>` makes in `conformance/<folder>`; Go builds only what changed.

    Skips when there is no Go, or one that is older than `oldest`.
    """
    go = shutil.which("go")
    if go is None:
        pytest.skip("no Go toolchain: the OCI conformance suite is a Go program")
    said = run(go, "env", "GOVERSION").out.strip()
    version = re.match(r"go(\d+)\.(\d+)", said)
    if version and tuple(map(int, version.groups())) < oldest:
        pytest.skip(f"{said} is too old: conformance/{folder} needs go{oldest[0]}.{oldest[1]}")
    program = RESULTS / f"suite-{folder}"
    run(go, *command, "-buildvcs=false", "-o", program, MODULE, cwd=ROOT / "conformance" / folder, timeout=600)
    return program


def execute(program: Path, env: Mapping[str, str], *, results: Path) -> ET.Element:
    """Run the suite in the new folder `results` and return the root of the report that it wrote there.

    A suite that could not read its settings does not always say so by its
    exit status, so the report must be there, and be new.
    """
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    settings = {"PATH": "/usr/bin:/bin", **env}
    ended = subprocess.run(
        [program], cwd=results, env=settings, capture_output=True, text=True, timeout=280, check=False
    )
    report = results / "junit.xml"
    assert report.exists(), f"the suite wrote no report:\n{ended.stdout}{ended.stderr}"
    return ET.parse(report).getroot()
