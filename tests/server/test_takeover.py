"""A volume that Debian's docker-registry wrote is served at once."""

import json
import random
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from tests.support import docker_registry, pushing, stackyard, tools
from tests.support.processes import wait_until
from tests.support.pushing import Descriptor
from tests.support.running import Running
from tests.support.trees import FOREIGN, Tree

from stackyard.oci import layout


def fill(server: Running) -> dict[str, Descriptor]:
    """Multi-arch, foreign layers, tags that were moved and deleted, half an upload."""
    foreign = {"mediaType": FOREIGN, "digest": pushing.of(b"windows"), "size": 7, "urls": ["https://example.com/w"]}
    layer = pushing.blob(server, "team/app", b"layer" * 1000)
    arm, amd = (pushing.image(server, "team/app", "", layer, config=each) for each in (b'"arm"', b'"amd"'))
    made = {"index": pushing.index(server, "team/app", "v1", arm, amd)}
    made["moved from"] = pushing.image(server, "team/app", "latest", layer, config=b'"old"')
    made["latest"] = pushing.image(server, "team/app", "latest", layer, config=b'"new"')
    made["deleted"] = pushing.image(server, "team/app", "deleted", layer, config=b'"deleted"')
    made["docker"] = pushing.manifest(
        server,
        "team",
        "v1",
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": pushing.blob(server, "team", b"{}", "application/vnd.docker.container.image.v1+json"),
            "layers": [foreign],
        },
    )
    assert server.request("DELETE", f"/v2/team/app/manifests/{made['deleted']['digest']}").status == 202
    assert server.request("POST", "/v2/half/blobs/uploads/").status == 202
    return made


def collect(server: Running) -> None:
    """Distribution's own garbage collection, on a stopped server."""
    registry = tools.path("docker-registry")
    subprocess.run([registry, "garbage-collect", str(server.config)], check=True, capture_output=True)


@pytest.mark.parametrize("collected", [False, True], ids=["as it was", "after its own collection"])
def test_a_volume_of_docker_registry_is_served_byte_for_byte(tmp_path: Path, collected: bool) -> None:
    theirs = {"validation": {"manifests": {"urls": {"allow": ["^https://example.com/"]}}}}
    with docker_registry.start(theirs, folder=tmp_path) as server:
        made = fill(server)
        before = pushing.served(server)
    if collected:
        collect(server)
    tree = Tree(tmp_path / "data").everything()

    with stackyard.start({}, folder=tmp_path) as ours:
        assert pushing.served(ours) == before  # while it is read, perhaps
        assert ours.manifest("team/app", "deleted").status == 404
        assert ours.manifest("team/app", made["moved from"]["digest"]).status == 200
        ours.process.wait_for(lambda: "the volume is imported" in ours.log, "the import")
        assert "Warning" not in ours.request("GET", "/v2/_catalog").headers
    assert Tree(tmp_path / "data").everything() == tree


def test_a_volume_of_many_repositories_is_served_while_it_is_read(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "data")
    for number in range(300):
        tree.image(f"r{number:03}", tree.layer(f"r{number:03}", b"%d" % number), tag="v1")

    with stackyard.start({"storage": {"maintenance": {"readonly": {"enabled": True}}}}, folder=tmp_path) as server:
        first = server.request("GET", "/v2/_catalog?n=1000")
        assert server.manifest("r299", "v1").status == 200
        server.process.wait_for(lambda: "the volume is imported" in server.log, "the import")
        last = server.request("GET", "/v2/_catalog?n=1000")

    assert first.status == 200  # with a warning, unless all is read already
    assert "Warning" not in last.headers
    assert len(json.loads(last.body)["repositories"]) == 300


def test_a_lost_database_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    with stackyard.start({}, folder=tmp_path) as server:
        pushing.image(server, "a", "v1")
    Tree(server.data).image("b", tag="v1")
    for file in (server.data / layout.OWN).glob("stackyard.db*"):
        file.unlink()
    before = sorted(server.data.rglob("*"))

    again = stackyard.launch({}, folder=tmp_path)

    assert again.process.wait() == 1
    assert "stackyard recover CONFIG" in again.log
    assert sorted(server.data.rglob("*")) == before


@pytest.mark.parametrize("damage", ["garbage", "cut short", "empty"])
def test_a_damaged_database_is_told_and_not_touched(tmp_path: Path, damage: str) -> None:
    Tree(tmp_path / "data").image("b", tag="v1")
    with stackyard.start({}, folder=tmp_path) as server:
        server.process.wait_for(lambda: "the volume is imported" in server.log, "the import")
    file = server.data / layout.DATABASE
    content = {"garbage": b"no database " * 500, "cut short": file.read_bytes()[:8192], "empty": b""}[damage]
    file.write_bytes(content)

    again = stackyard.launch({}, folder=tmp_path)

    assert again.process.wait() == 1
    assert "stackyard recover CONFIG" in again.log
    assert "Traceback" not in again.log
    assert file.read_bytes() == content


@pytest.mark.parametrize("part", ["docker", "docker/registry", "docker/registry/v2"])
def test_a_folder_within_a_volume_is_refused_by_name(tmp_path: Path, part: str) -> None:
    Tree(tmp_path / "volume").image("a", tag="v1")
    root = tmp_path / "volume" / part

    server = stackyard.launch({"storage": {"filesystem": {"rootdirectory": str(root)}}}, folder=tmp_path)

    assert server.process.wait() == 1
    assert f"set storage.filesystem.rootdirectory to {tmp_path / 'volume'}\n" in server.log
    assert not (root / "stackyard").exists()


def test_half_a_volume_is_refused(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "data")
    tree.image("a", tag="v1")
    (tree.root / layout.BLOBS).rename(tmp_path / "elsewhere")

    server = stackyard.launch({}, folder=tmp_path)

    assert server.process.wait() == 1
    assert "half of a volume" in server.log
    assert not (tree.root / "stackyard").exists()


def test_docker_registry_serves_the_volume_afterwards_and_we_after_it(tmp_path: Path) -> None:
    """There and back, twice, with its own collection in between: everything, old and new, is there all the time."""
    folder, theirs = tmp_path, {"validation": {"manifests": {"urls": {"allow": ["^https://example.com/"]}}}}
    with docker_registry.start(theirs, folder=folder) as server:
        made = fill(server)
    with stackyard.start({}, folder=folder) as ours:
        shared = {"mediaType": pushing.LAYER, "digest": pushing.of(b"layer" * 1000), "size": 5000}
        fresh = pushing.blob(ours, "team/new", b"fresh")
        assert ours.request("POST", f"/v2/team/new/blobs/uploads/?mount={shared['digest']}&from=team/app").status == 201
        arm, amd = (pushing.image(ours, "team/new", "", fresh, shared, config=each) for each in (b'"1"', b'"2"'))
        pushing.index(ours, "team/new", "v1", arm, amd)
        pushing.image(ours, "team/app", "latest", shared, config=b'"newest"')
        pushing.manifest(ours, "team/app", "again", json.loads(ours.manifest("team/app", "v1").body))
        assert ours.request("DELETE", f"/v2/team/app/manifests/{made['moved from']['digest']}").status == 202
        assert ours.request("DELETE", "/v2/team/app/manifests/v1").status == 202
        longer = pushing.blob(ours, "team/new", b"sha512", digest=pushing.of(b"sha512", "sha512"))
        pushing.image(ours, "team/new", "sha512", longer)
        after = pushing.served(ours)
        followed(ours)

    for _ in range(2):
        with docker_registry.start(theirs, folder=folder) as server:
            assert pushing.served(server) == after
            assert server.manifest("team/app", made["moved from"]["digest"]).status == 404
        collect(server)
    with stackyard.start({}, folder=folder) as ours:
        assert pushing.served(ours) == after


def test_an_import_goes_on_after_kill_9_at_any_moment(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "data")
    for number in range(400):
        name = f"r{number % 8}"
        tree.image(name, tree.layer(name, b"%d" % (number % 40)), tag=f"v{number}", config=b"%d" % number)
    before = tree.everything()
    chance = random.Random(4)

    for _ in range(5):
        with stackyard.start({}, folder=tmp_path) as server:
            end = time.monotonic() + chance.random() * 0.5
            while time.monotonic() < end:
                tags = server.request("GET", f"/v2/r{chance.randrange(8)}/tags/list")
                assert (tags.status, len(json.loads(tags.body)["tags"])) == (200, 50)
            server.kill(signal.SIGKILL)  # and its processes go with it
    with stackyard.start({}, folder=tmp_path) as server:  # the rest follows when the lease of the dead runs out
        for number in range(400):
            got = server.manifest(f"r{number % 8}", f"v{number}")
            assert got.body == tree.blob_path(got.headers["Docker-Content-Digest"]).read_bytes()
    assert tree.everything() == before


def test_a_later_copy_is_found_by_docker_registry(tmp_path: Path) -> None:
    with stackyard.start({}, folder=tmp_path) as ours:
        pushing.image(ours, "a", "v1", pushing.blob(ours, "a", b"layer"))
        after = pushing.served(ours)
        followed(ours)
    data = Tree(ours.data).blob_path(pushing.of(b"layer"))
    second = data.rename(data.with_name("data.1"))
    with sqlite3.connect(ours.data / layout.DATABASE) as database:  # as after a collection and another push
        database.execute(
            "UPDATE blob SET copy = 1, location = location || '.1' WHERE digest = ?", [pushing.of(b"layer")]
        )
        database.execute("INSERT INTO tombstone VALUES (?, 1)", [pushing.of(b"layer")])
        database.execute("UPDATE installation SET view_complete = 0")

    with stackyard.start({}, folder=tmp_path) as ours:
        wait_until(data.exists, "the follower")
        assert pushing.served(ours) == after
    assert data.samefile(second)
    for _ in range(2):
        with docker_registry.start({}, folder=tmp_path) as server:
            assert pushing.served(server) == after
        collect(server)


def followed(server: Running) -> None:
    """The follower has nothing left to do."""
    with sqlite3.connect(server.data / layout.DATABASE) as database:
        wait_until(lambda: database.execute("SELECT count(*) FROM follow").fetchone() == (0,), "the follower")
