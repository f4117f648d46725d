"""The command line, run as its own process."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.support import ports, tools
from tests.support.processes import Child
from typer.main import get_command

ENTRY = "import sys; sys.argv[0] = {name!r}; from stackyard.cli.main import main; main()"


def run(
    *arguments: str | Path, name: str = "stackyard", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("REGISTRY_", "STACKYARD_"))}
    command = [sys.executable, "-c", ENTRY.format(name=f"/usr/bin/{name}"), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**clean, **(env or {})}, timeout=60, check=False
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def write(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


@pytest.fixture
def config(tmp_path: Path) -> Path:
    text = f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/data}}}}\nhttp: {{addr: 127.0.0.1:0}}\n"
    return write(tmp_path / "config.yml", text)


@pytest.mark.parametrize("name", ["stackyard", "registry"])
def test_version_is_one_line(name: str) -> None:
    done = run("--version", name=name)

    assert (done.returncode, done.stdout.split()[0], done.stdout.count("\n")) == (0, "stackyard", 1)


def test_without_a_command_help_is_shown() -> None:
    done = run()

    assert "Usage: stackyard" in done.stdout + done.stderr


def commands(group: Any, *words: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below, by the words that call it."""
    yield words, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, *words, name)


def test_every_command_has_help_with_an_example() -> None:
    from stackyard.cli.main import registry, stackyard

    found = [*commands(get_command(stackyard), "stackyard"), *commands(get_command(registry), "registry")]

    assert len(found) > 20
    for words, command in found:
        shown = CliRunner().invoke(command, ["--help"], prog_name=" ".join(words))
        assert shown.exit_code == 0, words
        assert words[-1] in shown.output.partition("Example: ")[2], words


def test_help_is_printed() -> None:
    done = run("serve", "--help")

    assert (done.returncode, "Example: " in done.stdout) == (0, True)


def test_help_loads_nothing_of_the_server() -> None:
    """So that it, and completion, answer at once."""
    probe = "import sys, stackyard.cli.main; print(*(name for name in sys.modules if name.startswith('stackyard.')))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=30)

    heavy = {"client", "output", "running", "serving", "loading", "checking"}
    assert {name.split(".")[1] for name in done.stdout.split()} == {"cli"}
    assert not {name.rpartition(".")[2] for name in done.stdout.split()} & heavy


@pytest.mark.parametrize("arguments", [("nonsense",), ("serve", "--nonsense"), ("serve", "a", "b")], ids=" ".join)
def test_wrong_usage_is_status_2(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).returncode == 2


def test_name_registry_has_the_verbs_of_registry_2() -> None:
    done = run("--help", name="registry")

    assert "garbage-collect" in done.stdout
    assert "config " not in done.stdout


def test_good_configuration_is_said_to_be_good(config: Path) -> None:
    done = run("config", "check", config)

    assert done.returncode == 0
    assert f"{config} can be served" in done.stdout


@pytest.mark.parametrize("command", [("config", "check"), ("serve",)], ids=" ".join)
def test_bad_configuration_is_status_78_with_a_line_per_problem(command: tuple[str, ...], tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.yml", "version: 0.1\nlog: {level: loud}\nhttp: {addr: nonsense}\n")

    done = run(*command, bad)

    assert done.returncode == 78
    assert [line.split()[:3] for line in done.stderr.splitlines()] == [
        ["stackyard:", f"{bad}:", "log.level:"],
        ["stackyard:", f"{bad}:", "http.addr:"],
    ]


def test_missing_file_is_status_78(tmp_path: Path) -> None:
    done = run("serve", tmp_path / "none.yml")

    assert done.returncode == 78
    assert "none.yml" in done.stderr


def test_taken_port_is_one_line_that_says_how_to_choose_another(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("serve", config, env={"REGISTRY_HTTP_ADDR": address})

    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if line.startswith("stackyard: ")]
    assert len(told) == 1
    assert "is taken by another process; to choose another address set http.addr" in told[0]


def serve(folder: Path, *arguments: str | Path, env: Mapping[str, str], before: Sequence[str] = ()) -> Child:
    command = [*before, sys.executable, "-c", ENTRY.format(name="stackyard"), "serve", *arguments]
    return Child(command, log=folder / "output", env=env)


def hiding_default_configs() -> list[str]:
    """What to put before a command so that it sees no config at Distribution's paths."""
    folders = [path for path in ("/etc/docker/registry", "/etc/distribution") if os.path.isdir(path)]
    if not folders:
        return []
    tools.need_root("this machine has a config at a default path, and hiding it needs a mount of its own")
    hide = "".join(f"mount -t tmpfs none {folder} && " for folder in folders)
    return [tools.path("unshare"), "--mount", "/bin/sh", "-c", f'{hide}exec "$@"', "sh"]


def test_without_config_it_says_where_it_serves_where_data_lies_and_what_to_try(tmp_path: Path) -> None:
    port = ports.free()
    env = {"REGISTRY_HTTP_ADDR": f":{port}", "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(tmp_path / "data")}
    child = serve(tmp_path, env=env, before=hiding_default_configs())
    child.wait_line("/v2/_catalog")
    child.stop()

    assert f":{port}" in child.output
    assert f"Data in {tmp_path}/data" in child.output
    assert f"docker push localhost:{port}/hello:v1" in child.output


def test_served_registry_answers_logs_and_stops(config: Path, tmp_path: Path) -> None:
    port = ports.free()
    child = serve(tmp_path, config, env={"REGISTRY_HTTP_ADDR": f"127.0.0.1:{port}"})
    child.wait_line('msg="serving"')
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        wire.sendall(b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n")
        assert wire.recv(100).startswith(b"HTTP/1.1 200 OK")
    child.wait_line('"GET /v2/ HTTP/1.1" 200')

    assert child.stop() == 0


def test_welcome_names_the_address_a_client_on_this_machine_uses() -> None:
    from stackyard.cli.serving import welcome

    assert "localhost:5000/hello:v1" in welcome(["http://[::]:5000"], "/data")
    assert "curl https://localhost:443/v2/_catalog" in welcome(["https://0.0.0.0:443"], "/data")
    assert "docker push [::1]:5000/hello:v1" in welcome(["http://[::1]:5000"], "/data")
    assert "docker" not in welcome(["unix:/run/s"], "/data")


def broken(config: Path, what: str) -> Path:
    """A configuration that can be read and not be served."""
    text, folder = config.read_text(), config.parent
    (folder / "file").write_text("nothing of use")
    match what:
        case "data folder is a file":
            text = text.replace(f"{folder}/data", f"{folder}/file")
        case "data folder of the kernel's":
            text = text.replace(f"{folder}/data", "/proc/stackyard")
        case "no htpasswd file":
            text += f"auth: {{htpasswd: {{realm: x, path: {folder}/none}}}}\n"
        case "no token keys":
            text += f"auth: {{token: {{realm: x, service: y, issuer: z, jwks: {folder}/file}}}}\n"
        case "no certificate":
            text = text.replace("http: {", f"http: {{tls: {{certificate: {folder}/file, key: {folder}/file}}, ")
        case "a rule that deletes everything":
            text += "stackyard: {retention: {rules: [{repositories: '**'}]}}\n"
        case "a rule that can match no tag":
            text += "stackyard: {tags: {immutable: [{repositories: '**', tags: 'dev-*', excluding: 're:dev-.*'}]}}\n"
        case "half of a volume":
            (folder / "data/docker/registry/v2/repositories/a/_manifests/revisions/sha256").mkdir(parents=True)
        case "no database server":
            text += f"stackyard: {{database: {{url: 'postgresql://u:hunter2@127.0.0.1:{ports.free()}/x'}}}}\n"
    return write(folder / "broken.yml", text)


@pytest.mark.parametrize(
    "what",
    [
        "data folder is a file",
        "data folder of the kernel's",
        "no htpasswd file",
        "no token keys",
        "no certificate",
        "a rule that deletes everything",
        "a rule that can match no tag",
        "half of a volume",
        "no database server",
    ],
)
def test_what_cannot_be_served_is_told_without_a_trace(config: Path, what: str) -> None:
    done = run("serve", broken(config, what))

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1 if "htpasswd" not in what else -2].startswith("stackyard: ")
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "what",
    [
        "no htpasswd file",
        "no token keys",
        "no certificate",
        "half of a volume",
        "a rule that deletes everything",
        "a rule that can match no tag",
    ],
)
def test_check_looks_at_the_files_that_a_start_would_read(config: Path, what: str) -> None:
    done = run("config", "check", broken(config, what))

    assert (done.returncode, "can be served" in done.stdout) == (1, False)
    assert done.stderr.startswith("stackyard: ")
    assert not (config.parent / "data" / "stackyard").exists()


def test_a_taken_debug_port_names_its_own_key(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        done = run("serve", config, env={"REGISTRY_HTTP_DEBUG_ADDR": taken})

    assert done.returncode == 1
    assert f"{taken} is taken" in done.stderr
    assert "http.debug.addr" in done.stderr
    assert "REGISTRY_HTTP_ADDR" not in done.stderr
