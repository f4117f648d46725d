"""Collecting, bringing back and purging, as an administrator types it: beside a running server and without one."""

import json
import os
import pty
import signal
import subprocess
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from tests.cli.test_main import run
from tests.cli.test_verbs import BLOB, DIGEST, OCI, push
from tests.support import stackyard
from tests.support.processes import wait_until
from tests.support.running import Running

OTHER = "sha256:76f75e6129fe30135bd44d80ab7cc46fdba81907758dc808f3e2517beef2b1e9"
SHORT = {"stackyard": {"gc": {"promise": "10s", "linger": "1s"}, "workers": 2}}


@pytest.fixture
def registry(tmp_path: Path) -> Running:
    return stackyard.start(SHORT, folder=tmp_path)


def verb(registry: Running, *words: str) -> CompletedProcess[str]:
    return run(*words, "--config", registry.config)


def push_and_follow(registry: Running, repository: str) -> None:
    """Until Distribution's view of the volume has it, too: the manifest's bytes lie beside the blob's then."""
    push(registry, repository)
    folder = registry.data / "docker/registry/v2/blobs"
    wait_until(lambda: len(list(folder.rglob("data"))) == 2, "the manifest to be in the store")


def digest_of(registry: Running, reference: str) -> str:
    name, _, tag = reference.partition(":")
    return registry.manifest(name, tag).headers["Docker-Content-Digest"]


def test_a_repository_is_deleted_brought_back_and_purged(registry: Running) -> None:
    push_and_follow(registry, "team/app")

    deleted = verb(registry, "repo", "delete", "team/app", "--yes")
    gone = registry.manifest("team/app", "1.0").status
    back = verb(registry, "repo", "restore", "team/app")
    served = registry.manifest("team/app", "1.0").status
    purged = verb(registry, "purge", "team/app", "--yes")
    again = verb(registry, "repo", "restore", "team/app")
    registry.stop()

    assert "bring it back with: stackyard repo restore team/app" in deleted.stdout
    assert (gone, back.returncode, served) == (404, 0, 200)
    assert purged.stdout == "gone: 1 manifest, 2 blobs of 260 B\n"
    assert again.stderr == "stackyard: no repository team/app was deleted that can still be restored\n"
    assert not list((registry.data / "docker/registry/v2/blobs").rglob("data"))


def test_a_tag_goes_back_to_what_it_was(registry: Running) -> None:
    push(registry, "team/app")
    old = digest_of(registry, "team/app:1.0")
    index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": []}
    headers = {"Content-Type": f"{OCI}.index.v1+json"}
    registry.request("PUT", "/v2/team/app/manifests/1.0", headers=headers, body=json.dumps(index).encode())

    history = verb(registry, "tag", "history", "team/app:1.0")
    restored = verb(registry, "tag", "restore", "team/app:1.0")
    nothing = verb(registry, "tag", "restore", "team/app:none")
    unclear = verb(registry, "tag", "restore", "team/app")
    registry.stop()

    lines = [line.split("\t") for line in history.stdout.splitlines()]
    assert [line[5] for line in lines] == ["-", "moved"]
    assert lines[1][0] == old
    assert restored.stdout == f"team/app:1.0 points to {old}\n"
    assert (nothing.returncode, unclear.returncode) == (1, 2)
    assert nothing.stderr == "stackyard: team/app:none never pointed to anything else\n"


def test_what_cannot_be_restored_says_why(registry: Running) -> None:
    push(registry, "team/app")
    digest = digest_of(registry, "team/app:1.0")

    said = {
        "had none": verb(registry, "tag", "history", "team/app:none"),
        "give one of them": verb(registry, "tag", "restore", "team/app:1.0", "--digest", digest, "--at", "2026-01-31"),
        "write 2026-01-31": verb(registry, "tag", "restore", "team/app:1.0", "--at", "yesterday"),
        "is not deleted": verb(registry, "manifest", "restore", f"team/app@{digest}"),
        "leave out the server's name: team/app:1.0": verb(registry, "purge", "localhost:5000/team/app:1.0", "--yes"),
        "leave out the server's name: team/app": verb(registry, "repo", "restore", "localhost:5000/team/app"),
        "say --yes": verb(registry, "repo", "delete", "team/app"),
    }
    registry.stop()

    for words, done in said.items():
        assert words in done.stdout + done.stderr
        assert done.returncode in (1, 2)


def test_who_is_asked_may_leave_with_ctrl_c(registry: Running) -> None:
    push(registry, "team/app")
    ours, theirs = pty.openpty()
    program = str(stackyard.ROOT / ".venv/bin/stackyard")
    for words in (("purge", "team/app:1.0"), ("repo", "delete", "team/app")):
        asking = subprocess.Popen(
            [program, *words, "--config", str(registry.config)], stdin=theirs, stdout=theirs, stderr=theirs
        )
        shown = b""
        while b"[y/N]" not in shown:
            shown += os.read(ours, 4096)

        asking.send_signal(signal.SIGINT)

        assert asking.wait(timeout=30) == 130
    os.close(theirs)
    assert registry.manifest("team/app", "1.0").status == 200


def test_registry_garbage_collect_word_for_word_while_it_serves(registry: Running) -> None:
    push(registry, "kept/app")
    other = registry.request("POST", "/v2/lost/app/blobs/uploads/?digest=" + OTHER, body=b"lost")
    assert other.status == 201
    config = str(registry.config)

    early = run("garbage-collect", config, name="registry")
    promised = registry.request("GET", f"/v2/lost/app/blobs/{OTHER}").status

    def is_gone() -> bool:
        done = run("garbage-collect", "--delete-untagged", "-q", config, name="registry")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return registry.request("GET", f"/v2/lost/app/blobs/{OTHER}").status == 404

    wait_until(is_gone, "the promise to end", timeout=60)
    served = registry.manifest("kept/app", "1.0").status
    registry.stop()

    assert early.stdout == "freed 0 blobs of 0 B, 0 manifests\n"
    assert (promised, served) == (200, 200)


def test_what_could_be_restored_goes_with_a_grace_and_a_dry_run_says_so_before(registry: Running) -> None:
    push_and_follow(registry, "team/app")
    manifest = digest_of(registry, "team/app:1.0")
    verb(registry, "repo", "delete", "team/app", "--yes")
    wait_until(
        lambda: "would free 2 blobs" in verb(registry, "gc", "--dry-run", "--grace", "0").stdout,
        "the promise to end",
        timeout=60,
    )

    without = run("garbage-collect", "--dry-run", registry.config, name="registry")
    found = json.loads(verb(registry, "gc", "--dry-run", "--grace", "0", "--json").stdout)
    collected = verb(registry, "gc", "--grace", "0")
    again = verb(registry, "repo", "restore", "team/app")
    wrong = verb(registry, "gc", "--grace", "soon")
    registry.stop()

    size = found["bytes"]
    assert without.stdout.splitlines() == [
        "would free 0 blobs of 0 B, 0 manifests",
        f"{size} B more can still be restored: stackyard gc --grace 0 frees it",
    ]
    assert sorted(found["digests"]) == sorted([DIGEST, manifest])
    assert collected.stdout == f"freed 2 blobs of {size} B, 1 manifest\n"
    assert (again.returncode, wrong.returncode) == (1, 2)


def test_without_a_server_the_same_words_do_the_same(registry: Running) -> None:
    push(registry, "team/app")
    registry.stop()
    data = registry.data / "docker/registry/v2/blobs/sha256" / DIGEST[7:9] / DIGEST[7:] / "data"

    well = verb(registry, "check")
    data.write_bytes(b"[]")
    scrubbed = verb(registry, "scrub", "--json")
    listed = verb(registry, "damaged")
    data.unlink()
    asked = verb(registry, "scrub", "--rate", "fast")
    with stackyard.start(SHORT, folder=registry.folder) as again:
        kept = again.request("GET", f"/v2/team/app/blobs/{DIGEST}").status
        push(again, "team/app")
        healed = again.request("GET", f"/v2/team/app/blobs/{DIGEST}").body

    assert (well.returncode, well.stdout) == (0, "compared 2 blobs with 2 files\nall is well\n")
    assert (scrubbed.returncode, json.loads(scrubbed.stdout)["damaged"]) == (1, [DIGEST])
    assert listed.stdout.split("\t")[0] == DIGEST
    assert listed.stdout.rstrip().endswith("team/app:1.0")
    assert (asked.returncode, kept, healed) == (2, 404, BLOB)


def test_without_a_server_no_reader_is_waited_for(tmp_path: Path) -> None:
    registry = stackyard.start({"stackyard": {"gc": {"promise": "10s", "linger": "1h"}, "workers": 1}}, folder=tmp_path)
    push(registry, "team/app")
    deleted = verb(registry, "repo", "delete", "team/app", "--yes")
    registry.stop()
    blobs = registry.data / "docker/registry/v2/blobs"
    assert list(blobs.rglob("data"))

    wait_until(
        lambda: verb(registry, "gc", "--grace", "0").returncode == 0 and not list(blobs.rglob("data")),
        "the promise to be over",
    )

    assert deleted.returncode == 0


def test_without_anybody_to_ask_nothing_is_deleted(registry: Running) -> None:
    push(registry, "team/app")

    done = [verb(registry, *words) for words in (("repo", "delete", "team/app"), ("purge", "team/app"))]

    assert [each.returncode for each in done] == [1, 1]
    assert all(each.stderr.endswith("say --yes\n") for each in done)
    assert registry.manifest("team/app", "1.0").status == 200
