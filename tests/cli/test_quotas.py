"""`stackyard quota`."""

import json
from pathlib import Path

from tests.cli.test_main import run
from tests.cli.test_verbs import push
from tests.support import stackyard
from tests.support.running import Running

from stackyard.metadata.driver import module as sqlite
from stackyard.oci import layout
from stackyard.oci.digests import Digest


def test_quotas_are_set_shown_proved_and_removed(registry: Running) -> None:
    push(registry, "team/app")
    config = ("--config", registry.config)

    made = run("quota", "set", "team/", "--bytes", "50GB", "--repositories", "100", *config)
    run("quota", "set", "/", "--bytes", "1KiB", *config)
    listed = run("quota", "list", *config)
    verified = run("quota", "verify", *config)

    assert made.returncode == 0, made.stderr
    assert "limit\t50 GB" in made.stdout
    lines = [line.split("\t") for line in listed.stdout.splitlines()]
    assert [line[0] for line in lines] == ["/", "team/"]
    assert lines[0][2:] == ["1 KiB", "1", "-", "api"]
    assert lines[1][2:] == ["50 GB", "1", "100", "api"]
    assert verified.returncode == 0
    assert "team/: exact: " in verified.stdout

    assert run("quota", "remove", "/", *config).returncode == 0
    left = json.loads(run("quota", "list", "--json", *config).stdout)
    assert [one["prefix"] for one in left] == ["team/"]
    assert "Traceback" not in registry.log


def test_verifying_a_stopped_registry_with_wrong_counts_fails(registry: Running) -> None:
    push(registry, "team/app")
    run("quota", "set", "team/", "--bytes", "50GB", "--config", registry.config)
    registry.stop()
    with sqlite.connect(str(registry.data / layout.DATABASE)) as database:
        database.execute("UPDATE quota SET used_bytes = used_bytes + 7")
    database.close()

    got = run("quota", "verify", "--config", registry.config)

    assert got.returncode == 1
    assert "team/: bytes: counted" in got.stdout


def test_what_cannot_be_set_is_told_in_a_sentence(registry: Running) -> None:
    config = ("--config", registry.config)
    for arguments, says in (
        (("team",), "write team/, or / for all"),
        (("team/",), "limits nothing"),
        (("team/", "--bytes", "many"), "--bytes 'many' is not a size such as"),
        (("team/", "--bytes", "0"), "the limit on bytes is not a number from 1 on"),
        (("team/", "--repositories", "-3"), "the limit on repositories is not a number from 1 on"),
    ):
        if len(arguments) == 1 and arguments[0] == "team":
            arguments = (*arguments, "--bytes", "5")
        got = run("quota", "set", *arguments, *config)
        assert got.returncode == 1, got
        assert says in got.stderr
        assert "Traceback" not in got.stderr


def test_quotas_of_the_file_are_in_force_from_the_start(tmp_path: Path) -> None:
    document = {"stackyard": {"quotas": [{"prefix": "team/", "bytes": "1kB"}, {"prefix": "/", "repositories": 5}]}}
    with stackyard.start(document, folder=tmp_path) as server:
        refused = server.request("POST", f"/v2/team/a/blobs/uploads/?digest={Digest.of(bytes(1001))}", body=bytes(1001))
        listed = run("quota", "list", "--config", server.config)
        changed = run("quota", "set", "team/", "--bytes", "2kB", "--config", server.config)

    assert refused.status == 403
    assert "0 B of 1 kB used, 1 kB more needed" in refused.body.decode()
    assert listed.stdout == "/\t0 B\t-\t0\t5\tconfig\nteam/\t0 B\t1 kB\t0\t-\tconfig\n"
    assert changed.returncode == 1
    assert "change stackyard.quotas there" in changed.stderr
