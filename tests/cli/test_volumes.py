"""`stackyard import`, `recover` and `export --distribution` as programs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import docker_registry, pushing, stackyard
from tests.support.processes import wait_until
from tests.support.running import Running
from tests.support.trees import Tree

from stackyard.oci import layout

PROGRAM = Path(sys.executable).with_name("stackyard")


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *map(str, argv)], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A volume with one image that is whole, one that is not, and a tag of nothing."""
    tree = Tree(tmp_path / "data")
    tree.image("team/app", tree.layer("team/app", b"layer"), tag="v1")
    lost = tree.layer("b", b"lost")
    tree.image("b", lost, tag="v1")
    tree.blob_path(lost["digest"]).unlink()
    return tree


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_a_dry_run_tells_what_an_import_does_and_touches_nothing(tree: Tree) -> None:
    before = names(tree.root)

    dry = run("import", "--dry-run", tree.root)

    assert (dry.returncode, dry.stderr) == (0, "")
    assert (
        "2 repositories, 2 manifests and 2 tags would be imported; not as it should be, see above: 2 things"
        in dry.stdout
    )
    assert names(tree.root) == before
    wet = run("import", tree.root)
    assert wet.stdout == dry.stdout.replace("would be imported", "imported")
    again = json.loads(run("import", "--json", tree.root).stdout)
    assert (again["repositories"], again["manifests"], again["tags"]) == (2, 2, 2)
    assert sorted(each["reason"].partition(":")[0] for each in again["problems"]) == ["incomplete", "skipped"]


def test_an_import_adds_what_docker_registry_took_meanwhile(tmp_path: Path) -> None:
    with stackyard.start({}, folder=tmp_path) as server:
        pushing.image(server, "a", "v1", pushing.blob(server, "a", b"one"))
        followed(server)
    with docker_registry.start({}, folder=tmp_path) as server:
        pushing.image(server, "a", "v2", pushing.blob(server, "a", b"two"), config=b'"2"')
        pushing.image(server, "new", "v1", pushing.blob(server, "new", b"three"))
        before = pushing.served(server)

    done = run("import", server.data)

    assert done.returncode == 0, done.stderr
    with stackyard.start({}, folder=tmp_path) as server:
        assert pushing.served(server) == before


def test_a_volume_that_is_served_is_not_read_again(tmp_path: Path) -> None:
    Tree(tmp_path / "data").image("a", tag="v1")
    with stackyard.start({}, folder=tmp_path) as server:
        server.process.wait_for(lambda: "the volume is imported" in server.log, "the import")

        done = run("import", server.data)
        told = run("imported", "--config", server.config)

    assert (done.returncode, done.stdout) == (1, "")
    assert "stop it" in done.stderr
    assert told.stdout == "1 manifests and 1 tags of 1 repositories are imported\n"


@pytest.mark.parametrize("verb", ["import", "import --dry-run"])
def test_what_is_no_volume_of_docker_registry_is_refused(tmp_path: Path, verb: str) -> None:
    (tmp_path / "photos").mkdir()

    for path in (tmp_path / "photos", tmp_path / "none"):
        done = run(*verb.split(), path)
        assert (done.returncode, done.stdout) == (1, "")
        assert "is no volume of docker-registry" in done.stderr
    assert names(tmp_path) == ["photos"]


def test_a_lost_database_is_recovered(tmp_path: Path) -> None:
    with stackyard.start({}, folder=tmp_path) as server:
        layer = pushing.blob(server, "team/app", b"layer" * 1000)
        arm, amd = (pushing.image(server, "team/app", "", layer, config=each) for each in (b'"arm"', b'"amd"'))
        pushing.index(server, "team/app", "v1", arm, amd)
        before = pushing.served(server)
        followed(server)
    for file in (server.data / layout.OWN).glob("stackyard.db*"):
        file.unlink()

    done = run("recover", server.config)

    assert done.returncode == 0, done.stderr
    assert "1 repository, 3 manifests and 1 tag recovered\n" in done.stdout
    assert "Lost with the database" in done.stdout
    with stackyard.start({}, folder=tmp_path) as server:
        assert pushing.served(server) == before
    refused = run("recover", server.config)
    assert refused.returncode == 1
    assert "the database is in use" in refused.stderr


def test_recovery_takes_the_copy_that_is_whole(tmp_path: Path) -> None:
    with stackyard.start({}, folder=tmp_path) as server:
        for number in range(3):
            pushing.image(server, f"r{number}", "v1", pushing.blob(server, f"r{number}", b"%d" % number * 1000))
        before = pushing.served(server)
        followed(server)
    data = [Tree(server.data).blob_path(pushing.of(b"%d" % number * 1000)) for number in range(3)]
    data[0].rename(data[0].with_name("data.1"))  # its second name, for docker-registry, is lost
    data[1].with_name("data.1").hardlink_to(data[1])
    data[2].rename(data[2].with_name("data.3"))
    data[2].write_bytes(b"half")
    data[2].with_name("data.7").write_bytes(b"2" * 999 + b"3")
    for file in (server.data / layout.OWN).glob("stackyard.db*"):
        file.unlink()

    assert run("recover", server.config).returncode == 0

    with stackyard.start({}, folder=tmp_path) as server:
        assert pushing.served(server) == before
        followed(server)
        wait_until(data[0].exists, "the follower")
    assert data[0].samefile(data[0].with_name("data.1"))
    assert data[1].samefile(data[1].with_name("data.1"))


def test_export_brings_the_links_up_to_date_and_names_what_cannot_be_served(tmp_path: Path, tree: Tree) -> None:
    with stackyard.start({"stackyard": {"distribution": {"follow": False}}}, folder=tmp_path) as server:
        pushing.image(server, "c", "v1", pushing.blob(server, "c", b"c"))
        server.process.wait_for(lambda: "the volume is imported" in server.log, "the import")
        while_it_runs = run("export", "--distribution", server.config)
        assert while_it_runs.returncode == 0, while_it_runs.stderr
        assert tree.repository("c").is_dir()
        pushing.image(server, "d", "v1", pushing.blob(server, "d", b"d"))

    done = run("export", "--distribution", server.config)

    assert (done.returncode, done.stderr) == (0, "")
    assert "b@sha256:" in done.stdout
    assert "incomplete: it names content that is not here" in done.stdout
    assert "docker-registry's view of the volume is up to date: 5 links written, 0 removed" in done.stdout
    with docker_registry.start({}, folder=tmp_path) as theirs:
        assert theirs.manifest("d", "v1").status == theirs.manifest("c", "v1").status == 200


def followed(server: Running) -> None:
    """The follower has nothing left to do."""
    import sqlite3

    with sqlite3.connect(server.data / layout.DATABASE) as database:
        wait_until(lambda: database.execute("SELECT count(*) FROM follow").fetchone() == (0,), "the follower")
