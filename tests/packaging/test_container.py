"""The container image under docker, started with the lines that people start registry:2 with."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.packaging import debian
from tests.packaging.machine import ROOT, Machine
from tests.support import tools
from tests.support.processes import Failed, run, wait_until

pytestmark = [pytest.mark.serial, pytest.mark.timeout(600)]

RUN = "docker run -d --name registry --restart=always -p 5000:5000 -v /opt/registry-data:/var/lib/registry"
RUN_TLS = RUN.replace("-p 5000:5000", "-p 443:5000")
TLS = (
    "-v /opt/registry/certs:/certs -e REGISTRY_HTTP_TLS_CERTIFICATE=/certs/registry.crt "
    "-e REGISTRY_HTTP_TLS_KEY=/certs/registry.key"
)
AUTH = (
    '-v /opt/registry/auth:/auth -e REGISTRY_AUTH=htpasswd -e REGISTRY_AUTH_HTPASSWD_REALM="Registry Realm" '
    "-e REGISTRY_AUTH_HTPASSWD_PATH=/auth/htpasswd"
)
DELETES = "-e REGISTRY_STORAGE_DELETE_ENABLED=true -e REGISTRY_STORAGE_FILESYSTEM_MAXTHREADS=100"
NEEDED = "--cap-drop ALL --cap-add CHOWN --cap-add SETGID --cap-add SETUID"
ACCOUNT = 65532
PYTHON = "3.11"  # of Debian 12, which the base is made from

Serve = Callable[..., None]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Docker with our image, which it knows as registry:2, and with my-alpine."""
    for program in ("curl", "openssl", "htpasswd", "script"):
        tools.path(program)
    base = debian.system("python3", variant="essential")
    with Machine(tmp_path_factory.mktemp("machine") / "opt") as machine:
        machine.docker("import", base, "debian:12-python")
        machine.docker("tag", "debian:12-python", "localhost:5000/my-alpine:v1")
        machine.sh(f"cd {ROOT} && tar c README.md | docker import - localhost:5000/hello:v1")  # as README.md has it
        run("sh", ROOT / "scripts/wheels", env={"IMAGE_PYTHON": PYTHON}, timeout=600)
        told = {**machine.environment(), "BASE": "debian:12-python", "TAG": "registry:2", "BUILDER": "docker"}
        run("sh", ROOT / "scripts/image", env=told, timeout=600)
        yield machine


@pytest.fixture
def serve(machine: Machine) -> Iterator[Serve]:
    """Run a line that starts the registry and wait until it answers."""

    def start(line: str, url: str = "http://localhost:5000") -> None:
        machine.sh(line)
        try:
            wait_until(lambda: machine.tried(f"curl -sko /dev/null {url}/v2/").returncode == 0, f"an answer at {url}")
        except AssertionError:
            pytest.fail(machine.tried("docker logs registry").stdout)

    yield start
    sys.stdout.write(machine.tried("docker logs registry").stdout)  # pytest shows it when the test failed
    machine.tried("docker rm --force --volumes registry")
    for entry in machine.folder.iterdir():
        shutil.rmtree(entry)


def certificate(machine: Machine, *more: str, key: str = "rsa:2048") -> None:
    """As the usual guides make one: for a CN alone; its key is readable for root alone."""
    machine.sh(
        "mkdir -p /opt/registry/certs && cd /opt/registry/certs && umask 077 && "
        f"openssl req -newkey {key} -nodes -sha256 -keyout new.key -x509 -days 365 -out new.crt "
        f'-subj "/CN=registry.example.com" {" ".join(more)} '
        "&& mv new.key registry.key && mv new.crt registry.crt"
    )


def htpasswd(machine: Machine, user: str, password: str) -> None:
    machine.sh(
        f"mkdir -p /opt/registry/auth && cd /opt/registry/auth && umask 077 && htpasswd -Bbn {user} {password} >new "
        "&& mv new htpasswd"
    )


def status(machine: Machine, *arguments: str) -> str:
    """The HTTP status that curl gets."""
    return machine.sh(f"curl -sko /dev/null -w '%{{http_code}}' {' '.join(arguments)}").out


def owners(folder: Path) -> set[int]:
    """Who owns the folder and what is in it; the server may make and remove files meanwhile."""
    found = {folder.lstat().st_uid}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            found.add(path.lstat().st_uid)
    return found


def test_push_and_pull_as_with_registry_2(machine: Machine, serve: Serve) -> None:
    serve(f"{RUN} registry:2")

    pushed = machine.sh("docker push localhost:5000/my-alpine:v1")
    machine.sh("docker restart registry")
    machine.sh("docker rmi localhost:5000/my-alpine:v1")
    wait_until(lambda: machine.tried("curl -so /dev/null localhost:5000/v2/").returncode == 0, "an answer again")
    machine.sh("docker pull localhost:5000/my-alpine:v1")

    assert "The push refers to repository [localhost:5000/my-alpine]" in pushed.text
    assert status(machine, "localhost:5000/v2/my-alpine/tags/list") == "200"
    assert "my-alpine" in machine.sh("docker logs registry").text


def test_a_shell_and_the_verbs_work_inside(machine: Machine, serve: Serve) -> None:
    serve(f"{RUN} registry:2")

    shell = machine.sh("echo 'echo it is $((6*7)); exit' | script -qec 'docker exec -it registry sh' /dev/null").out
    collected = machine.sh("docker exec registry bin/registry garbage-collect /etc/docker/registry/config.yml").out

    assert "it is 42" in shell
    assert collected.endswith("freed 0 blobs of 0 B, 0 manifests\n")


def test_a_new_folder_goes_to_the_images_account(machine: Machine, serve: Serve) -> None:
    serve(f"{RUN} registry:2")

    assert owners(machine.folder / "registry-data") == {ACCOUNT}
    assert server_users(machine) == {ACCOUNT}


def test_a_volume_of_registry_2_stays_with_root(machine: Machine, serve: Serve) -> None:
    old = machine.folder / "registry-data/backup"
    old.mkdir(parents=True)

    serve(f"{RUN} registry:2")

    assert owners(old.parent) == {0}
    assert server_users(machine) == {0}


def test_a_users_volume_is_served_by_that_user(machine: Machine, serve: Serve) -> None:
    old = machine.folder / "registry-data/backup"
    old.mkdir(parents=True)
    os.chown(old.parent, 1234, 5678)

    serve(f"{RUN} registry:2")

    assert server_users(machine) == {1234}
    assert owners(old) == {0}
    assert owners(machine.folder / "registry-data/stackyard") == {1234}


def test_a_verb_runs_as_the_owner_too(machine: Machine, serve: Serve) -> None:
    serve(f"{RUN} registry:2")

    machine.tried("docker exec registry registry garbage-collect --dry-run /etc/docker/registry/config.yml")
    machine.sh("docker exec registry registry --version")

    assert owners(machine.folder / "registry-data") == {ACCOUNT}


def test_administration_needs_no_login_inside_and_no_server(machine: Machine, serve: Serve) -> None:
    serve(f"{RUN} registry:2")
    machine.sh("docker push localhost:5000/my-alpine:v1")

    running = machine.sh("docker exec registry stackyard repo list").out
    asked = [line for line in machine.sh("docker logs registry").text.splitlines() if "/api/v1/repositories" in line]
    refused = status(machine, "localhost:5000/api/v1/repositories")
    machine.sh("docker stop registry")
    stopped = machine.sh("docker run --rm -v /opt/registry-data:/var/lib/registry registry:2 stackyard repo list").out

    assert running.startswith("my-alpine\t1\t")
    assert len(asked) == 1
    assert " root [" in asked[0]
    assert refused == "403"
    assert stopped.startswith("my-alpine\t1\t")
    assert owners(machine.folder / "registry-data") == {ACCOUNT}


def server_users(machine: Machine) -> set[int]:
    """Who the processes that hold the volume or the port run as: all but the keeper of the secrets."""
    line = machine.sh("docker inspect --format '{{.State.Pid}}' registry").out.strip()
    pids = [line, *Path(f"/proc/{line}/task/{line}/children").read_text().split()]
    return {Path(f"/proc/{pid}").stat().st_uid for pid in pids}


def test_tls_with_the_guides_certificate(machine: Machine, serve: Serve) -> None:
    certificate(machine, key="rsa:4096")

    serve(f"{RUN_TLS} {TLS} registry:2", "https://localhost")

    assert status(machine, "https://localhost/v2/") == "200"
    assert "subjectAltName" in machine.sh("docker logs registry").text


def test_a_new_certificate_of_root_reaches_workers_that_are_not_root(machine: Machine, serve: Serve) -> None:
    certificate(machine)
    serve(f"{RUN_TLS} {TLS} registry:2", "https://localhost")
    show = "openssl s_client -connect localhost:443 </dev/null 2>/dev/null | openssl x509 -noout -text"
    assert "DNS:registry.example.com" not in machine.sh(show).out

    certificate(machine, '-addext "subjectAltName=DNS:registry.example.com"')
    machine.sh("docker kill --signal HUP registry")

    wait_until(lambda: "DNS:registry.example.com" in machine.tried(show).stdout, "the new certificate", timeout=5)


def test_logins_with_apaches_htpasswd(machine: Machine, serve: Serve) -> None:
    htpasswd(machine, "testuser", "testpassword")

    serve(f"{RUN} {AUTH} registry:2")

    assert status(machine, "localhost:5000/v2/") == "401"
    assert 'Basic realm="Registry Realm"' in machine.sh("curl -si localhost:5000/v2/").out
    with pytest.raises(Failed):
        machine.sh("docker login -u testuser -p wrong localhost:5000")
    assert "Login Succeeded" in machine.sh("docker login -u testuser -p testpassword localhost:5000").text
    machine.sh("docker push localhost:5000/hello:v1")


def test_a_removed_user_of_roots_file_is_refused_within_two_seconds(machine: Machine, serve: Serve) -> None:
    htpasswd(machine, "testuser", "testpassword")
    serve(f"{RUN} {AUTH} registry:2")
    assert status(machine, "-u testuser:testpassword", "localhost:5000/v2/") == "200"

    htpasswd(machine, "another", "testpassword")

    gone = "the old user refused, the new one let in"
    wait_until(lambda: status(machine, "-u testuser:testpassword", "localhost:5000/v2/") == "401", gone, timeout=2)
    wait_until(lambda: status(machine, "-u another:testpassword", "localhost:5000/v2/") == "200", gone, timeout=2)


@pytest.mark.parametrize(("options", "expected"), [(DELETES, "202"), ("", "405")], ids=["enabled", "not enabled"])
def test_deletes_are_allowed_by_the_environment(machine: Machine, serve: Serve, options: str, expected: str) -> None:
    serve(f"{RUN} {options} registry:2")
    line = machine.sh("docker push localhost:5000/hello:v1").out.splitlines()[-1]
    digest = line.split("digest: ")[1].split()[0]

    assert status(machine, "-X DELETE", f"localhost:5000/v2/hello/manifests/{digest}") == expected


def test_with_user_on_a_read_only_root_and_without_capabilities(machine: Machine, serve: Serve) -> None:
    folder = machine.folder / "registry-data"
    folder.mkdir()
    os.chown(folder, 1000, 1000)

    serve(f"{RUN} --user 1000:1000 --read-only --cap-drop ALL --security-opt no-new-privileges registry:2")
    machine.sh("docker push localhost:5000/hello:v1")

    assert owners(folder) == {1000}


def test_as_root_on_a_read_only_root_with_the_named_capabilities(machine: Machine, serve: Serve) -> None:
    certificate(machine)
    htpasswd(machine, "testuser", "testpassword")

    serve(f"{RUN_TLS} {TLS} {AUTH} --read-only {NEEDED} registry:2", "https://localhost")

    assert status(machine, "-u testuser:testpassword", "https://localhost/v2/") == "200"
    assert owners(machine.folder / "registry-data") == {ACCOUNT}


def test_a_capability_that_is_missing_is_named(machine: Machine, serve: Serve) -> None:
    result = machine.tried("docker run --rm -v /opt/registry-data:/var/lib/registry --cap-drop ALL registry:2")

    assert result.returncode != 0
    assert "CAP_CHOWN" in result.stdout
    assert "Traceback" not in result.stdout


def test_an_anonymous_volume_belongs_to_the_account(machine: Machine, serve: Serve) -> None:
    serve(f"docker run -d --name registry -p 5000:5000 {NEEDED.replace('--cap-add CHOWN', '')} registry:2")

    assert server_users(machine) == {ACCOUNT}


def test_a_config_at_registry_3s_path_counts(machine: Machine, serve: Serve) -> None:
    config = machine.folder / "config.yml"
    config.write_text(
        "version: 0.1\nstorage: {filesystem: {rootdirectory: /var/lib/registry}}\n"
        "http: {addr: ':5000', headers: {X-Yard: [three]}}\n"
    )

    try:
        serve(f"{RUN} -v /opt/config.yml:/etc/distribution/config.yml registry:2")

        assert "x-yard: three" in machine.sh("curl -si localhost:5000/v2/").out.lower()
    finally:
        config.unlink()


def test_arguments_mean_what_they_mean_to_registry_2(machine: Machine) -> None:
    expected = {
        "sh -c 'echo it is $((6*7))'": "it is 42",
        "--version": "stackyard 0",
        "registry --version": "stackyard 0",
        "serve --help": "CONFIG",
        "ls /etc/docker/registry /etc/distribution": "config.yml",
        "/etc/hostname": "hostname",  # a file, so a config to serve; not a good one
    }

    printed = {line: machine.tried(f"docker run --rm registry:2 {line}").stdout for line in expected}

    assert {line: expected[line] for line in expected if expected[line] not in printed[line]} == {}, printed
