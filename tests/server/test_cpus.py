"""CPUs that may be used, read from made-up trees."""

import os
from pathlib import Path

import pytest

from stackyard.server import cpus


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_without_quota_affinity_counts(tmp_path: Path) -> None:
    assert cpus.usable(tmp_path) == 8


def test_quota_of_a_container_with_its_own_root_counts(tmp_path: Path) -> None:
    write(tmp_path, {"sys/fs/cgroup/cpu.max": "150000 100000\n", "proc/self/cgroup": "0::/\n"})

    assert cpus.usable(tmp_path) == 2


def test_no_quota_is_max(tmp_path: Path) -> None:
    write(tmp_path, {"sys/fs/cgroup/cpu.max": "max 100000\n", "proc/self/cgroup": "0::/\n"})

    assert cpus.usable(tmp_path) == 8


def test_tightest_quota_on_the_way_to_the_root_counts(tmp_path: Path) -> None:
    own = "system.slice/stackyard.service"
    write(
        tmp_path,
        {
            "proc/self/cgroup": f"0::/{own}\n",
            f"sys/fs/cgroup/{own}/cpu.max": "max 100000\n",
            "sys/fs/cgroup/system.slice/cpu.max": "300000 100000\n",
        },
    )

    assert cpus.usable(tmp_path) == 3


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_quota_of_cgroup_v1_counts(tmp_path: Path, mount: str) -> None:
    write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n",
            f"sys/fs/cgroup/{mount}/cpu.cfs_quota_us": "50000\n",
            f"sys/fs/cgroup/{mount}/cpu.cfs_period_us": "100000\n",
        },
    )

    assert cpus.usable(tmp_path) == 1


def test_quota_of_minus_one_is_none(tmp_path: Path) -> None:
    files = {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}
    write(tmp_path, {f"sys/fs/cgroup/cpu/{name}": value for name, value in files.items()})

    assert cpus.usable(tmp_path) == 8


def test_four_workers_are_the_most_unless_told(tmp_path: Path) -> None:
    assert cpus.workers(None) <= 4
    assert cpus.workers(7) == 7
