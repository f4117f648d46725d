"""`stackyard import IMAGE REPO:TAG` and `stackyard export REPO:TAG FILE`, with real clients at the other end."""

import gzip
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.support import images, pushing, stackyard, tools
from tests.support.running import Running

PROGRAM = Path(sys.executable).with_name("stackyard")


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *map(str, argv)], capture_output=True, text=True, timeout=60, check=False)


def skopeo(*argv: str | Path) -> None:
    policy = json.dumps({"default": [{"type": "insecureAcceptAnything"}]})
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(policy)
        file.flush()
        command = [tools.path("skopeo"), "--policy", file.name, *argv]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.yml"
    file.write_text(
        yaml.safe_dump({"version": "0.1", "storage": {"filesystem": {"rootdirectory": f"{tmp_path}/data"}}})
    )
    return file


@pytest.fixture
def server(config: Path, tmp_path: Path) -> Iterator[Running]:
    with stackyard.start({}, folder=tmp_path) as running:
        yield running


@pytest.mark.parametrize("form", ["folder", "tar", "tar.gz"])
def test_an_oci_layout_comes_in_and_goes_out_byte_for_byte(tmp_path: Path, config: Path, form: str) -> None:
    image = images.multi_arch(tmp_path / "image", "app:v1")
    source = image.layout if form == "folder" else image.archive
    if form == "tar.gz":
        source = tmp_path / "image.tgz"
        source.write_bytes(gzip.compress(image.archive.read_bytes()))

    done = run("import", source, "team/app:v1", "--config", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{image.digest} imported as team/app:v1: 3 manifests, 6 blobs")
    out = run("export", "team/app:v1", tmp_path / "out", "--config", config)

    assert (out.returncode, out.stderr) == (0, "")
    blobs = {path.name: path.read_bytes() for path in (tmp_path / "out/blobs/sha256").iterdir()}
    assert blobs == {path.name: path.read_bytes() for path in (image.layout / "blobs/sha256").iterdir()}
    again = run("import", tmp_path / "out", "other:v2", "--config", config, "--json")
    assert json.loads(again.stdout)["digest"] == image.digest


def test_skopeo_reads_what_was_exported_and_we_what_it_writes(tmp_path: Path, server: Running) -> None:
    image = images.small(tmp_path / "image", "app:v1")
    reference = f"docker://{server.address}/app:v1"
    skopeo("copy", "--preserve-digests", "--dest-tls-verify=false", f"oci-archive:{image.archive}", reference)

    assert run("export", "app:v1", tmp_path / "app.tar", "--config", server.config).returncode == 0

    skopeo("copy", "--preserve-digests", f"oci-archive:{tmp_path}/app.tar:v1", f"oci:{tmp_path}/oci:v1")
    skopeo("copy", f"docker-archive:{tmp_path}/app.tar:app:v1", f"dir:{tmp_path}/dir")
    assert json.loads((tmp_path / "dir/manifest.json").read_text())["config"]["digest"] == image.config
    skopeo("copy", f"oci:{tmp_path}/oci:v1", f"docker-archive:{tmp_path}/saved.tar:app:saved")
    for source, tag in ((tmp_path / "oci", "oci"), (tmp_path / "saved.tar", "saved")):
        done = run("import", source, f"app:{tag}", "--config", server.config)
        assert done.returncode == 0, done.stderr
        manifest = json.loads(server.manifest("app", tag).body)
        assert manifest["config"]["digest"] == image.config
    assert server.manifest("app", "oci").headers["Docker-Content-Digest"] == image.digest
    skopeo("copy", "--src-tls-verify=false", f"docker://{server.address}/app:saved", f"dir:{tmp_path}/pulled")


def test_what_an_old_docker_saved_is_pushed_as_docker_pushes(tmp_path: Path, server: Running) -> None:
    layer = images.tar({"file": b"content"})
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    saved = tmp_path / "saved.tar"
    with tarfile.open(saved, "w") as tar:
        entries = {"c.json": config, "1/layer.tar": layer}
        for name, tag in (("a", "one:1"), ("b", "two:2")):
            entries[name] = json.dumps(
                {"Config": "c.json", "RepoTags": [tag], "Layers": ["1/layer.tar", "2/layer.tar"]}
            ).encode()
        both = b"[" + entries.pop("a") + b"," + entries.pop("b") + b"]"
        for name, content in (entries | {"manifest.json": both}).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("2/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../1/layer.tar"
        tar.addfile(link)

    several = run("import", saved, "app:v1", "--config", server.config)
    assert (several.returncode, "one:1, two:2" in several.stderr) == (1, True)
    digests = set()
    for tag in ("v1", "v2"):
        assert run("import", saved, f"app:{tag}", "--image", "two:2", "--config", server.config).returncode == 0
        digests.add(server.manifest("app", tag).headers["Docker-Content-Digest"])

    assert len(digests) == 1
    found = json.loads(server.manifest("app", "v1").body)
    assert [each["mediaType"].rpartition(".")[2] for each in found["layers"]] == ["gzip", "gzip"]
    packed = server.request("GET", f"/v2/app/blobs/{found['layers'][0]['digest']}").body
    assert gzip.decompress(packed) == layer
    pushing.served(server)


def test_quotas_hold_for_images_from_files(tmp_path: Path, config: Path) -> None:
    image = images.small(tmp_path / "image", "app:v1")
    assert run("import", image.layout, "other:v1", "--config", config).returncode == 0
    assert run("quota", "set", "team/", "--bytes", "100", "--config", config).returncode == 0

    done = run("import", image.layout, "team/app:v1", "--config", config)

    assert done.returncode == 1
    assert "the quota of team/ is exceeded" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("no index", "neither an OCI layout nor what docker save writes"),
        ("cut", "is no tar, or half of one"),
        ("no blob", "is missing"),
        ("wrong blob", "digest"),
        ("leads out", "no digest"),
        ("not JSON", "index.json is not JSON"),
        ("no file", "cannot be read"),
    ],
)
def test_what_is_no_image_is_told_in_one_sentence(tmp_path: Path, config: Path, damage: str, said: str) -> None:
    image = images.small(tmp_path / "image", "app:v1")
    source = image.layout
    index, blobs = source / "index.json", source / "blobs/sha256"
    if damage == "no index":
        index.unlink()
        (source / "manifest.json").unlink()
    elif damage == "cut":
        source = image.archive
        source.write_bytes(source.read_bytes()[:700])
    elif damage == "no blob":
        (blobs / image.config[7:]).unlink()
    elif damage == "wrong blob":
        (blobs / image.config[7:]).write_bytes(b"other")
    elif damage == "leads out":
        index.write_text(json.dumps({"manifests": [{"digest": "../../../../etc/passwd"}]}))
    elif damage == "not JSON":
        index.write_text("{")
    else:
        source = tmp_path / "none"

    done = run("import", source, "app:v1", "--config", config)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("stackyard: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_export_that_fails_leaves_nothing_and_replaces_nothing(tmp_path: Path, config: Path) -> None:
    image = images.small(tmp_path / "image", "app:v1")
    assert run("import", image.layout, "app:v1", "--config", config).returncode == 0
    out = tmp_path / "out"
    out.mkdir()
    (out / "there.tar").write_bytes(b"mine")

    for name, file in (("app:v1", "there.tar"), ("app:v2", "new.tar"), ("none:v1", "new"), ("HOST/x:v1", "new")):
        done = run("export", name, out / file, "--config", config)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr

    assert [path.name for path in out.iterdir()] == ["there.tar"]
    shutil.rmtree(out)
