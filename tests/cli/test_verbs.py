"""The frame of the verbs that administer: where they find the registry, and what they print and return."""

import json
import os
import pty
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.cli.test_main import run
from tests.support import htpasswd, stackyard
from tests.support.running import Running

BLOB = b"{}"
DIGEST = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
OCI = "application/vnd.oci.image"


def push(registry: Running, repository: str, tag: str = "1.0", headers: Mapping[str, str] | None = None) -> None:
    config = {"mediaType": f"{OCI}.config.v1+json", "digest": DIGEST, "size": 2}
    manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": config, "layers": []}
    answers = [
        registry.request("POST", f"/v2/{repository}/blobs/uploads/?digest={DIGEST}", headers=headers, body=BLOB),
        registry.request(
            "PUT",
            f"/v2/{repository}/manifests/{tag}",
            headers={**(headers or {}), "Content-Type": f"{OCI}.manifest.v1+json"},
            body=json.dumps(manifest).encode(),
        ),
    ]
    assert [answer.status for answer in answers] == [201, 201]


def test_a_verb_finds_the_running_server_and_the_stopped_registry(registry: Running) -> None:
    push(registry, "team/app")
    asked = ("repo", "list", "--config", registry.config)

    running = run(*asked)
    local = [line for line in registry.log.splitlines() if "GET /api/v1/repositories" in line]
    registry.stop()
    stopped = run(*asked)

    assert running.stdout.startswith("team/app\t1\t1\t2 B\t20")
    assert len(local) == 1
    assert (stopped.returncode, stopped.stdout) == (0, running.stdout)
    assert not (registry.data / "stackyard" / "admin.sock").exists()


def test_a_verb_asks_the_server_it_is_told(tmp_path: Path) -> None:
    file = htpasswd.write(tmp_path / "htpasswd", {"root": "secret", "alice": "secret"})
    config = {"auth": {"htpasswd": {"realm": "x", "path": str(file)}}, "stackyard": {"admins": ["root"]}}
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    with stackyard.start(config, folder=tmp_path) as server:
        asked = ("repo", "list", "--server", server.url)
        by_file = run(*asked, "--user", "root", "--password-file", secret)
        by_variable = run(*asked, "--user", "root", env={"STACKYARD_PASSWORD": "secret"})
        no_admin = run(*asked, "--user", "alice", "--password-file", secret)
        nobody = run(*asked)

    assert [done.returncode for done in (by_file, by_variable, no_admin, nobody)] == [0, 0, 1, 1]
    assert "stackyard.admins" in no_admin.stderr
    assert nobody.stderr == "stackyard: authentication required\n"


def test_what_is_refused_is_told_in_one_sentence(registry: Running) -> None:
    done = run("repo", "show", "none", "--config", registry.config)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "stackyard: repository name not known to registry: none\n"


def test_scripts_get_the_documents(registry: Running) -> None:
    empty = run("repo", "list", "--json", "--config", registry.config)
    for name in ("b", "a"):
        push(registry, name)
    full = run("repo", "list", "--json", "--config", registry.config)

    assert json.loads(empty.stdout) == []
    assert [one["name"] for one in json.loads(full.stdout)] == ["a", "b"]


def test_a_terminal_gets_a_table(registry: Running) -> None:
    push(registry, "team/app")
    ours, theirs = pty.openpty()
    command = [str(stackyard.ROOT / ".venv/bin/stackyard"), "repo", "list", "--config", str(registry.config)]
    subprocess.run(command, stdout=theirs, check=True, timeout=60)
    os.close(theirs)
    shown = os.read(ours, 4096).decode()

    assert "NAME" in shown.splitlines()[0]
    assert shown.splitlines()[1].startswith("team/app ")


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--server", "registry:5000"), 1, "write https://host:port"),
        (("--server", "http://a:b@localhost"), 1, "use --user"),
        (("--server", "http://127.0.0.1:1"), 1, "does not answer"),
        (("--server", "http://127.0.0.1:1", "--user", "root"), 1, "STACKYARD_PASSWORD"),
        (("--config", "/nonexistent.yml"), 78, "/nonexistent.yml"),
        (("--nonsense",), 2, "--nonsense"),
    ],
)
def test_what_cannot_be_asked_says_why(options: tuple[str, ...], status: int, said: str) -> None:
    done = run("repo", "list", *options)

    assert done.returncode == status
    assert said in done.stderr


def test_where_no_registry_ever_ran_nothing_is_made(tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    config.write_text(f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/data}}}}\n")

    done = run("repo", "list", "--config", config)

    assert done.returncode == 1
    assert "no stackyard has run on" in done.stderr
    assert not (tmp_path / "data").exists()


def test_changes_are_listed(registry: Running) -> None:
    done = run("audit", "list", "--since", "2026-01-01", "--actor", "local:root", "--config", registry.config)

    assert (done.returncode, done.stdout) == (0, "")


def test_a_job_that_is_not_there_is_told(registry: Running) -> None:
    for verb in ("show", "cancel", "follow"):
        done = run("job", verb, "7", "--config", registry.config)

        assert (done.returncode, done.stderr) == (1, "stackyard: no such job: 7\n")


def test_what_was_pushed_is_shown_and_deleted(registry: Running) -> None:
    push(registry, "team/app")
    where = ("--config", registry.config)

    tags = run("tag", "list", "team/app", *where).stdout.split("\t")
    shown = run("manifest", "show", "team/app:1.0", *where).stdout
    listed = run("manifest", "list", "team/app", *where).stdout
    used = run("repo", "du", *where).stdout.splitlines()
    deleted = run("tag", "delete", "team/app:1.0", *where)
    gone = run("tag", "list", "team/app", "--deleted", *where).stdout
    untagged = run("manifest", "list", "team/app", "--untagged", *where).stdout
    no_tag = run("tag", "show", "team/app", *where)

    assert (tags[0], tags[5]) == ("1.0", "anonymous")
    assert tags[1] in shown
    assert f"config 1\t{DIGEST} 2 B" in shown
    assert tags[1] in listed
    assert [line.split("\t")[:3] for line in used] == [["team/app", "2 B", "2 B"], ["total", "2 B", "2 B"]]
    assert (deleted.returncode, deleted.stdout) == (0, "team/app:1.0 is deleted\n")
    assert gone.startswith("1.0\t")
    assert tags[1] in untagged
    assert (no_tag.returncode, no_tag.stderr) == (1, "stackyard: 'team/app' is no tag: write REPO:TAG\n")
