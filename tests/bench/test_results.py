"""What counts as reached, and how it is told."""

import json
import xml.etree.ElementTree as ET
from dataclasses import asdict
from pathlib import Path

import pytest
from bench.cases.pushes import last_to_first
from bench.chart import draw
from bench.pages import Page
from bench.report import Result, read, table, write
from bench.results import AtLeast, AtMost, Cheaper, Faster, Measurement, Outcome, Sooner

from bench import pages

OURS = Measurement([9.0, 30.0, 62.0], [0.001, 0.002, 0.009], pss=80)
THEIRS = Measurement([10.0, 10.0, 20.0], [0.004, 0.004, 0.004], pss=20)
MEASURED = {"Stackyard": OURS, "docker-registry": THEIRS}


@pytest.mark.parametrize(("least", "reached"), [(3, True), (3.1, False)])
def test_faster_is_the_median_of_the_ratios_of_the_rounds(least: float, reached: bool) -> None:
    verdict = Faster(least, "docker-registry").judge(MEASURED)

    assert verdict is not None
    assert (verdict.got, verdict.reached) == ("3.00x", reached)


def test_cheaper_compares_the_processor_time_per_unit_of_work() -> None:
    verdict = Cheaper(0.5, "docker-registry").judge(MEASURED)

    assert verdict is not None
    assert (verdict.got, verdict.reached) == ("0.50x", True)


def test_at_most_looks_at_stackyard_alone() -> None:
    verdict = AtMost(29, "MB").judge(MEASURED)

    assert verdict is not None
    assert (verdict.got, verdict.reached) == ("30 MB", False)


@pytest.mark.parametrize("goal", [Faster(1, "nginx"), Cheaper(1, "nginx")])
def test_a_goal_against_who_was_not_there_is_not_judged(goal: Faster | Cheaper) -> None:
    assert goal.judge(MEASURED) is None


def test_growth_is_that_of_the_straight_line() -> None:
    assert last_to_first([1.0, 1.5, 2.0]) == pytest.approx(2)


def test_the_table_says_no_where_a_target_is_missed() -> None:
    row = table(_result()).splitlines()[-1]

    assert row == (
        "| Manifest GET | ≥ 4x docker-registry | 30 requests/s | 10 requests/s |  | 3.00x | **no** "
        "| 2 ms / 4 ms | 80 / 20 |"
    )


def test_sooner_compares_seconds() -> None:
    verdict = Sooner(0.3, "docker-registry").judge(MEASURED)

    assert verdict is not None
    assert (verdict.got, verdict.reached) == ("0.333x", True)


def test_at_least_looks_at_stackyard_alone() -> None:
    verdict = AtLeast(31, "manifests/s").judge(MEASURED)

    assert verdict is not None
    assert (verdict.got, verdict.reached) == ("30 manifests/s", False)


def test_a_result_that_was_stored_gives_the_same_table(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps(asdict(_result())))

    assert table(read(file)) == table(_result())


@pytest.mark.parametrize("page", [pages.CORE, pages.LIFECYCLE, pages.SCALE], ids=lambda page: page.name)
def test_each_page_is_written_with_its_picture(page: Page, tmp_path: Path) -> None:
    write(_result(), tmp_path, page)

    text = (tmp_path / f"{page.name}.md").read_text()
    assert "| Manifest GET |" in text
    assert f"({page.name}.svg)" in text
    assert (tmp_path / f"{page.name}.svg").exists()


def test_a_case_that_failed_says_why_in_the_table() -> None:
    failed = Outcome("x", "Manifest GET", "requests/s", "request", {}, [], failure="the server ended\nwith a trace")

    row = table(Result("full", {}, {}, [failed])).splitlines()[-1]

    assert row.startswith("| Manifest GET | the server ended | ")


def test_the_picture_is_well_formed_and_names_each_case() -> None:
    picture = ET.fromstring(draw(_result().outcomes))

    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "Manifest GET" in texts
    assert "3" in texts


def _result() -> Result:
    verdict = Faster(4, "docker-registry").judge(MEASURED)
    assert verdict is not None
    return Result("full", {}, {}, [Outcome("x", "Manifest GET", "requests/s", "request", MEASURED, [verdict])])
