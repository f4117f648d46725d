"""A volume that Debian's docker-registry wrote is served at once."""

import asyncio
import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.cli.test_main import run
from tests.support import docker_registry, postgresql, pushing, stackyard, tools
from tests.support.processes import wait_until
from tests.support.pushing import Descriptor
from tests.support.running import Running
from tests.support.trees import FOREIGN, Tree

from stackyard.oci import layout

PROGRAM = Path(sys.executable).with_name("stackyard")
THEIRS = {"validation": {"manifests": {"urls": {"allow": ["^https://example.com/"]}}}}
UNTAGGED = ("--delete-untagged",)
Answers = dict[str, tuple[int, str | None, str | None, bytes]]


def fill(server: Running) -> dict[str, Descriptor]:
    """Multi-arch, foreign layers, tags that were moved and deleted, and half an upload."""
    foreign = {"mediaType": FOREIGN, "digest": pushing.of(b"windows"), "size": 7, "urls": ["https://example.com/w"]}
    layer = pushing.blob(server, "team/app", b"layer" * 1000)
    arm, amd = (pushing.image(server, "team/app", "", layer, config=each) for each in (b'"arm"', b'"amd"'))
    made = {"index": pushing.index(server, "team/app", "v1", arm, amd)}
    made["moved index"] = pushing.index(server, "team/app", "moved", arm)
    pushing.index(server, "team/app", "moved", amd)
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
    for repository in ("half", "team/app"):
        started = server.request("POST", f"/v2/{repository}/blobs/uploads/")
        place = urlsplit(started.headers["Location"])
        headers = {"Content-Type": "application/octet-stream"}
        sent = server.request("PATCH", f"{place.path}?{place.query}", headers=headers, body=b"half of a layer" * 1000)
        assert (started.status, sent.status) == (202, 202)
    return made


def collect(server: Running, *options: str) -> None:
    """Distribution's own garbage collection, on a stopped server."""
    registry = tools.path("docker-registry")
    subprocess.run([registry, "garbage-collect", *options, str(server.config)], check=True, capture_output=True)


def test_what_was_pushed_to_the_very_end_is_served_by_docker_registry(tmp_path: Path) -> None:
    """A stop waits for the follower, which looks once in a while."""
    with stackyard.start({}, folder=tmp_path) as server:
        layer = pushing.blob(server, "team/app", b"layer")
        made = [pushing.image(server, "team/app", f"v{n}", layer, config=b'{"n": %d}' % n) for n in range(30)]
        server.kill(signal.SIGTERM)
        assert server.process.wait() == 0

    with docker_registry.start({}, folder=tmp_path) as server:
        for number, one in enumerate(made):
            found = server.manifest("team/app", f"v{number}")
            assert (found.status, found.headers["Docker-Content-Digest"]) == (200, one["digest"])


def answers(server: Running, made: dict[str, Descriptor]) -> Answers:
    """How every tag, every manifest that was made, and all that they name is answered."""
    found: Answers = {}
    for repository in json.loads(server.request("GET", "/v2/_catalog?n=1000").body)["repositories"]:
        listed = server.request("GET", f"/v2/{repository}/tags/list")
        for tag in json.loads(listed.body).get("tags") or ():
            _ask(server, found, repository, tag)
    for name, one in made.items():
        _ask(server, found, "team" if name == "docker" else "team/app", one["digest"])
    return found


def _ask(server: Running, found: Answers, repository: str, reference: str) -> None:
    url = f"{repository}/manifests/{reference}"
    if url in found:
        return
    got = server.manifest(repository, reference)
    if got.status != 200:
        found[url] = (got.status, None, None, b"")
        return
    found[url] = (200, got.headers["Docker-Content-Digest"], got.headers["Content-Type"], got.body)
    document = json.loads(got.body)
    for child in document.get("manifests", ()):
        _ask(server, found, repository, child["digest"])
    for one in (document.get("config"), *document.get("layers", ())):
        if one:
            url = f"{repository}/blobs/{one['digest']}"
            blob = server.request("GET", f"/v2/{url}")
            found[url] = (blob.status, None, None, blob.body if blob.status == 200 else b"")


@pytest.mark.parametrize(
    "collected",
    [None, (), UNTAGGED],
    ids=["as it was", "after its own collection", "after one that deleted what has no tag, images of indexes too"],
)
def test_a_volume_of_docker_registry_is_served_byte_for_byte(tmp_path: Path, collected: tuple[str, ...] | None) -> None:
    with docker_registry.start(THEIRS, folder=tmp_path) as server:
        made = fill(server)
    if collected is not None:
        collect(server, *collected)
    with docker_registry.start(THEIRS, folder=tmp_path) as server:
        before = answers(server, made)
    tree = Tree(tmp_path / "data").everything()

    with stackyard.start({}, folder=tmp_path) as ours:
        assert answers(ours, made) == before  # while it is read, perhaps
        assert ours.manifest("team/app", "deleted").status == 404
        assert ours.request("GET", "/v2/half/tags/list").status == 404
        for name in ("moved from", "moved index"):
            status = ours.manifest("team/app", made[name]["digest"]).status
            assert status == (404 if collected == UNTAGGED else 200)
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
    verb = run("repo", "list", "--config", server.config)

    assert again.process.wait() == verb.returncode == 1
    assert "stackyard recover CONFIG" in again.log
    assert "stackyard recover CONFIG" in verb.stderr
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


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_the_other_half_of_a_volume_is_refused(
    tmp_path: Path, engine: str, postgresql_server: postgresql.Server
) -> None:
    tree = Tree(tmp_path / "data")
    tree.image("a", tag="v1")
    (tree.root / layout.REPOSITORIES).rename(tmp_path / "elsewhere")
    new = {"database": {"url": asyncio.run(postgresql_server.create())}} if engine == "postgresql" else {}

    server = stackyard.launch({"stackyard": new}, folder=tmp_path)

    assert server.process.wait() == 1
    assert "holds blobs and no repositories: it is half of a volume" in server.log
    assert not (tree.root / "stackyard").exists()


def test_a_volume_that_cannot_be_written_is_refused_and_told_how_it_can_be_served(tmp_path: Path) -> None:
    tools.need_root("a mount needs it")
    tree = Tree(tmp_path / "data")
    made = tree.image("a", tag="v1")
    read_only = f"mount --bind {tree.root} {tree.root} && mount -o remount,ro,bind {tree.root}"
    before = [tools.path("unshare"), "--mount", "sh", "-c", f'{read_only} && exec "$@"', "sh"]

    server = stackyard.launch({}, folder=tmp_path, inside=before)

    assert server.process.wait() == 1
    assert "is mounted read-only: mount it writable; or, only to serve what is there, set " in server.log
    elsewhere = {
        "storage": {"maintenance": {"readonly": {"enabled": True}}},
        "stackyard": {"database": {"url": f"sqlite:///{tmp_path}/elsewhere.db"}},
    }
    with stackyard.launch(elsewhere, folder=tmp_path, inside=before) as server:
        server.wait_ready()
        assert server.manifest("a", "v1").headers["Docker-Content-Digest"] == made["digest"]


@pytest.mark.timeout(300)  # eight servers, one after the other
def test_docker_registry_serves_the_volume_afterwards_and_we_after_it(tmp_path: Path) -> None:
    """There and back, twice, with its own collection in between, and then without a database.

    Everything, old and new, tagged or not, is there all the time.
    """
    with docker_registry.start(THEIRS, folder=tmp_path) as server:
        made = fill(server)
    with stackyard.start({}, folder=tmp_path) as ours:
        shared = {"mediaType": pushing.LAYER, "digest": pushing.of(b"layer" * 1000), "size": 5000}
        fresh = pushing.blob(ours, "team/new", b"fresh")
        assert ours.request("POST", f"/v2/team/new/blobs/uploads/?mount={shared['digest']}&from=team/app").status == 201
        arm, amd = (pushing.image(ours, "team/new", "", fresh, shared, config=each) for each in (b'"1"', b'"2"'))
        pushing.index(ours, "team/new", "v1", arm, amd)
        made["newest"] = pushing.image(ours, "team/app", "latest", shared, config=b'"newest"')
        made["new, untagged"] = pushing.image(ours, "team/app", "", shared, config=b'"untagged"')
        pushing.manifest(ours, "team/app", "again", json.loads(ours.manifest("team/app", "v1").body))
        assert ours.request("DELETE", f"/v2/team/app/manifests/{made['moved from']['digest']}").status == 202
        assert ours.request("DELETE", "/v2/team/app/manifests/v1").status == 202
        longer = pushing.blob(ours, "team/new", b"sha512", digest=pushing.of(b"sha512", "sha512"))
        pushing.image(ours, "team/new", "sha512", longer)
        after = answers(ours, made)
        followed(ours)
    gone = {url for url, answer in after.items() if answer[0] != 200}
    windows = f"team/blobs/{pushing.of(b'windows')}"
    assert gone == {windows, *(f"team/app/manifests/{made[one]['digest']}" for one in ("deleted", "moved from"))}

    for _ in range(2):
        with docker_registry.start(THEIRS, folder=tmp_path) as server:
            assert answers(server, made) == after
        collect(server)
    with stackyard.start({}, folder=tmp_path) as ours:
        assert answers(ours, made) == after
        followed(ours)

    for file in (ours.data / layout.OWN).glob("stackyard.db*"):
        file.unlink()
    recovered = subprocess.run([PROGRAM, "recover", str(ours.config)], capture_output=True, text=True, check=False)
    assert recovered.returncode == 0, recovered.stderr
    with stackyard.start({}, folder=tmp_path) as ours:
        assert answers(ours, made) == after
        followed(ours)
    with docker_registry.start(THEIRS, folder=tmp_path) as server:
        assert answers(server, made) == after


def test_what_docker_registry_took_meanwhile_is_served_at_the_next_start(tmp_path: Path) -> None:
    """Without a word of command: new images, tags that were moved; and what was deleted here stays deleted."""
    with stackyard.start({}, folder=tmp_path) as ours:
        old = pushing.image(ours, "a", "v1", pushing.blob(ours, "a", b"one"))
        pushing.image(ours, "a", "gone", pushing.blob(ours, "a", b"gone"), config=b'"gone"')
        assert ours.request("DELETE", "/v2/a/manifests/gone").status == 202
        followed(ours)
        wait_until(lambda: known(ours), "the first look at the files")
    with stackyard.start({}, folder=tmp_path) as ours:
        assert "read again" not in ours.log
    with docker_registry.start({}, folder=tmp_path) as theirs:
        pushing.image(theirs, "a", "v1", pushing.blob(theirs, "a", b"two"), config=b'"2"')
        pushing.image(theirs, "new", "v1", pushing.blob(theirs, "new", b"three"))
        before = pushing.served(theirs)

    with stackyard.start({}, folder=tmp_path) as ours:
        assert pushing.served(ours) == before
        assert ours.manifest("a", old["digest"]).status == 200
        assert ours.manifest("a", "gone").status == 404
        assert "another registry pushed to the volume" in ours.log


def test_what_docker_registry_collected_is_pushed_again_and_not_taken_to_be_here(tmp_path: Path) -> None:
    """Its collection removes what no manifest names. Our rows tell of that for a while, and promise nothing of it."""
    with docker_registry.start({}, folder=tmp_path) as theirs:
        pass
    with stackyard.start({}, folder=tmp_path) as ours:
        lone, layer = pushing.blob(ours, "a", b"lone"), pushing.blob(ours, "a", b"layer")
        image = pushing.image(ours, "a", "v1", layer)
        kept = pushing.image(ours, "a", "kept", pushing.blob(ours, "a", b"kept"), config=b"1")
        lost = pushing.image(ours, "a", "lost", pushing.blob(ours, "a", b"lost"), config=b"2")
        index = pushing.index(ours, "a", "index", lost)
        for one in (image, index, lost):
            assert ours.request("DELETE", f"/v2/a/manifests/{one['digest']}").status == 202
        followed(ours)
    collect(theirs)

    with stackyard.start({}, folder=tmp_path) as ours:
        assert ours.request("HEAD", f"/v2/a/blobs/{lone['digest']}").status == 404
        assert ours.request("POST", f"/v2/b/blobs/uploads/?mount={layer['digest']}&from=a").status == 202
        pushing.image(ours, "b", "v1", pushing.blob(ours, "b", b"layer"))
        assert ours.request("GET", f"/v2/b/blobs/{layer['digest']}").body == b"layer"
        assert ours.manifest("a", "kept").status == 200
        assert ours.request("GET", f"/v2/a/blobs/{pushing.of(b'kept')}").body == b"kept"
        restored = run("tag", "restore", "a:index", "--config", ours.config)
        assert f"a:index points to {index['digest']}\nbut it cannot be pulled" in restored.stdout
        assert pushing.of(b"lost") in restored.stdout
        whole = run("tag", "restore", "a:v1", "--config", ours.config, "--json")
        assert (whole.returncode, json.loads(whole.stdout)["lacking"]) == (0, [])
        ours.process.wait_for(lambda: "did docker-registry collect its garbage" in ours.log, "the look at the files")
        assert ours.manifest("a", kept["digest"]).status == 200


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


def known(server: Running) -> bool:
    """The folders of blobs were looked at and found right."""
    with sqlite3.connect(server.data / layout.DATABASE) as database:
        row = database.execute("SELECT state FROM lease WHERE name = 'presence'").fetchone()
        return row is not None and row[0] is not None
