"""What lies in deploy/ is read by the programs that it is for, and says what docs/high-availability.md promises."""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support import tools
from tests.support.certificates import Authority
from tests.support.nodes import DEPLOY, haproxy_config, nginx_config
from tests.support.processes import Child, Failed, run
from tests.support.strace import need

from stackyard.config.load import load
from stackyard.server.supervisor import BACKGROUND_OVERTIME, OVERTIME

NODES = ["127.0.0.1:5001", "127.0.0.1:5002", "127.0.0.1:5003"]


def with_tls(text: str) -> str:
    """As the comment in it says: its lines for TLS come into force."""
    assert "#tls " in text
    return text.replace("#tls ", "")


def documents(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / path).read_text()))


def of_kind(kind: str) -> dict[str, Any]:
    [found] = [each for each in documents("kubernetes/stackyard.yaml") if each["kind"] == kind]
    return found


@pytest.fixture
def drain(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds from SIGTERM until the last process of a node is gone, at the longest."""
    monkeypatch.setenv("STACKYARD_DATABASE_URL", "postgresql://somebody@somewhere/something")
    configured = load(str(DEPLOY / "registry.yml"), os.environ).config.http.draintimeout
    assert configured == timedelta(seconds=30)
    return configured.total_seconds() + OVERTIME + BACKGROUND_OVERTIME + OVERTIME


@pytest.mark.parametrize("count", [1, 2, 3])
def test_nginx_takes_its_configuration(tmp_path: Path, count: int) -> None:
    file = tmp_path / "nginx.conf"
    file.write_text(nginx_config(NODES[:count], tmp_path, 5999))

    done = run(tools.path("nginx"), "-t", "-e", tmp_path / "error.log", "-c", file)

    assert "test is successful" in done.err
    assert "warn" not in done.err


def test_nginx_takes_its_lines_for_tls(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("registry.example")
    text = with_tls(nginx_config(NODES, tmp_path, 5999)).replace("listen 443", "listen 127.0.0.1:5998")
    for name, path in (("registry.crt", issued.certificate), ("registry.key", issued.key)):
        text = text.replace(f"/etc/nginx/tls/{name}", str(path))
    file = tmp_path / "nginx.conf"
    file.write_text(text)

    assert "test is successful" in run(tools.path("nginx"), "-t", "-e", tmp_path / "error.log", "-c", file).err


@pytest.mark.parametrize("tls", [False, True])
def test_haproxy_takes_its_configuration(tmp_path: Path, tls: bool) -> None:
    issued, pem = Authority(tmp_path).issue("registry.example"), tmp_path / "registry.pem"
    pem.write_bytes(issued.certificate.read_bytes() + issued.key.read_bytes())
    text = haproxy_config(NODES, 5999)
    file = tmp_path / "haproxy.cfg"
    file.write_text(with_tls(text).replace("/etc/haproxy/tls/registry.pem", str(pem)) if tls else text)

    done = run(tools.path("haproxy"), "-c", "-f", file)

    assert "Configuration file is valid" in done.text
    assert "WARNING" not in done.text


def test_stackyard_takes_the_configuration_of_the_nodes(drain: float) -> None:
    loaded = load(str(DEPLOY / "registry.yml"), os.environ).config

    assert loaded.storage.delete.enabled
    assert loaded.stackyard.api.socket == "/run/stackyard/admin.sock"


def test_systemd_takes_the_unit_and_finds_little_exposed(tmp_path: Path) -> None:
    text = (DEPLOY / "systemd/stackyard.service").read_text()
    program = tmp_path / "stackyard"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "stackyard.service"
    unit.write_text(text.replace("/opt/stackyard/bin/stackyard", str(program)))

    verified = run(tools.path("systemd-analyze"), "verify", "--man=no", unit)
    judged = run(tools.path("systemd-analyze"), "security", "--offline=true", "--threshold=20", unit)

    assert verified.text == ""
    assert "OK" in judged.text


def test_the_unit_restarts_always_and_waits_for_the_drain(drain: float) -> None:
    lines = (DEPLOY / "systemd/stackyard.service").read_text().splitlines()

    assert {"Restart=always", "StartLimitIntervalSec=0", "KillMode=mixed", "User=stackyard"} <= set(lines)
    [stopping] = [int(line.removeprefix("TimeoutStopSec=").rstrip("s")) for line in lines if "TimeoutStop" in line]
    assert stopping > drain


def test_the_unit_allows_every_system_call_that_serving_makes(tmp_path: Path) -> None:
    """systemd does not run here; strace sees what a server asks of the kernel, systemd-analyze knows what it allows."""
    need()
    (tmp_path / "config.yml").write_text(
        yaml.safe_dump(CONFIG | {"storage": {"filesystem": {"rootdirectory": "data"}}})
    )
    trace = tmp_path / "trace"
    program = str(DEPLOY.parent / ".venv/bin/stackyard")
    server = Child(
        [tools.path("strace"), "-f", "-qq", "-o", trace, program, "serve", "config.yml"],
        log=tmp_path / "log",
        cwd=tmp_path,
    )
    server.wait_line("serving", timeout=90)
    address = re.findall(r"http://127[0-9.]*:\d+", server.output)[0]
    upload = f"{address}/v2/some/thing/blobs/uploads/"
    (tmp_path / "content").write_bytes(bytes(1 << 20))
    digest = "sha256:30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58"
    run("curl", "-sf", "-X", "POST", "--data-binary", f"@{tmp_path}/content", f"{upload}?digest={digest}")
    run("curl", "-sf", "-o", tmp_path / "again", f"{address}/v2/some/thing/blobs/{digest}")
    run(program, "gc", "--config", tmp_path / "config.yml", cwd=tmp_path)
    [supervisor] = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    os.kill(int(supervisor), 15)
    server.wait(timeout=60)
    server.stop()

    made = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(errors="replace"), re.MULTILINE))

    assert {"sendfile", "accept4"} <= made
    assert made - allowed() <= TOLERATED


def allowed() -> set[str]:
    """What the lines of the unit come to, one after the other."""
    found: set[str] = set()
    for line in (DEPLOY / "systemd/stackyard.service").read_text().splitlines():
        if line.startswith("SystemCallFilter="):
            words = line.removeprefix("SystemCallFilter=")
            named = set().union(*map(group, words.removeprefix("~").split()))
            found = found - named if words.startswith("~") else found | named
    return found


CONFIG = {
    "version": "0.1",
    "http": {"addr": "127.0.0.1:0"},
    "stackyard": {"workers": 1, "api": {"socket": "none"}},
}
TOLERATED = {"setrlimit"}
"""Refused with EPERM, and asked for politely only: the limit of open files is the unit's."""


def group(name: str) -> set[str]:
    """The system calls of one of systemd's groups, and of the groups in it."""
    lines = run(tools.path("systemd-analyze"), "syscall-filter", name).out.splitlines()
    words = [line.strip() for line in lines[1:] if line.strip() and not line.strip().startswith("#")]
    return set().union(*(group(word) if word.startswith("@") else {word} for word in words))


def test_the_pods_are_probed_and_given_the_time_to_end(drain: float) -> None:
    pod = of_kind("Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("readiness", "liveness", "startup")}
    waiting = int(container["lifecycle"]["preStop"]["exec"]["command"][1])

    assert probes == {"readiness": "/readyz", "liveness": "/healthz", "startup": "/healthz"}
    assert pod["terminationGracePeriodSeconds"] > waiting + drain
    # The proxy has to have seen that a pod is not ready before the pod's port is closed.
    assert waiting >= 10


def test_the_pods_may_do_nothing_that_they_need_not() -> None:
    pod = of_kind("Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_manifests_mean_each_other() -> None:
    deployment, service, budget = of_kind("Deployment"), of_kind("Service"), of_kind("PodDisruptionBudget")
    pod = deployment["spec"]["template"]
    mounted = {mount["name"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    [ingress] = documents("kubernetes/ingress.yaml")
    backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]

    labels = pod["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == labels
    assert budget["spec"]["selector"]["matchLabels"] == labels
    assert budget["spec"]["maxUnavailable"] < deployment["spec"]["replicas"]
    assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}
    assert (
        pod["spec"]["volumes"][1]["persistentVolumeClaim"]["claimName"]
        == of_kind("PersistentVolumeClaim")["metadata"]["name"]
    )
    assert backend == {"name": service["metadata"]["name"], "port": {"name": service["spec"]["ports"][0]["name"]}}


def test_compose_names_the_nodes_that_nginx_asks(drain: float) -> None:
    [compose] = documents("compose.yaml")
    [with_s3] = documents("compose.s3.yaml")
    services = compose["services"]
    asked = set(re.findall(r"server (\w+):5000", (DEPLOY / "nginx.conf").read_text()))

    assert asked == {"node1", "node2", "node3"} == {name for name in services if name.startswith("node")}
    assert set(with_s3["services"]) == asked
    for name in asked:
        assert services[name]["restart"] == "always"
        assert int(services[name]["stop_grace_period"].rstrip("s")) > drain
        assert "/readyz" in services[name]["healthcheck"]["test"][-1]
    addresses = [services[name]["networks"]["registry"]["ipv4_address"] for name in sorted(asked)]
    assert len(set(addresses)) == 3
    for file in (mount.partition(":")[0] for each in services.values() for mount in each.get("volumes", [])):
        assert not file.startswith("./") or (DEPLOY / file).exists()


def test_docker_compose_takes_the_files() -> None:
    environment = dict.fromkeys(
        ("POSTGRES_PASSWORD", "S3_REGION", "S3_ENDPOINT", "S3_BUCKET", "S3_ACCESS_KEY", "S3_SECRET_KEY"), "x"
    )
    try:
        run(tools.path("docker"), "compose", "version")
    except Failed:
        pytest.skip("docker has no compose here")

    for files in (["compose.yaml"], ["compose.yaml", "compose.s3.yaml"]):
        words = [word for file in files for word in ("-f", str(DEPLOY / file))]
        run(tools.path("docker"), "compose", *words, "config", "--quiet", env=environment)
