"""The stores that the benchmark of collection makes: what they hold, and that collecting frees what was scripted."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bench.collecting import Yard
from bench.scripted import BLOBS, IMAGES, Store
from bench.servers import Programs
from bench.wire import Unexpected

from bench import collecting, scripted

STACKYARD = Path(sys.executable).parent / "stackyard"
REFERENCE = shutil.which("docker-registry")


async def yard(store: Store, folder: Path, *, links: int) -> Yard:
    programs = Programs(STACKYARD, Path(REFERENCE or ""), Path())
    made = await collecting.make(store, folder, programs, links=links, more={"stackyard": {"gc": {"linger": "0s"}}})
    made.hold(on=False)
    return made


def test_a_store_has_as_many_blobs_and_as_much_garbage_as_it_says() -> None:
    store = Store(2 * BLOBS)
    every = {blob for number in range(2) for image in store.images(number) for blob in image.named}
    kept = {blob for image in store.kept() for blob in image.named}
    deleted = {blob for image in store.garbage() for blob in image.named}

    garbage = list(store.garbage_bytes())

    assert (len(every), store.manifests) == (store.blobs, 2 * IMAGES)
    assert set(garbage) == (deleted - kept) | {image.manifest for image in store.garbage()}
    assert len(garbage) == store.garbage_blobs == (store.blobs + store.manifests) // 10
    assert deleted & kept, "some layers are shared with images that stay"


@pytest.mark.timeout(280)
async def test_collecting_frees_exactly_the_garbage_of_50_000_blobs(tmp_path: Path) -> None:
    store = Store(50_000)
    made = await yard(store, tmp_path, links=10)

    with made.served() as server:
        _, found = collecting.collect(server, dry_run=True)
        _, freed = collecting.collect(server)

    garbage = [blob.digest for blob in store.garbage_bytes()]
    kept = {blob.digest for image in store.kept() for blob in (image.manifest, *image.named)}
    assert sorted(found["digests"]) == sorted(garbage)
    assert (found["manifests"], found["blobs"]) == (store.garbage_manifests, store.garbage_blobs)
    assert (freed["manifests"], freed["blobs"], freed["bytes"]) == (
        *(found["manifests"], found["blobs"]),
        found["bytes"],
    )
    assert made.count("manifest") == store.manifests - store.garbage_manifests
    assert made.count("blob") == made.count("blob", "state = 'live'") == len(kept)
    assert made.count("blob_link") == made.count("blob_link", "counted") == 50 * 900 + 49
    assert made.missing(garbage) == len(garbage)
    assert made.missing(list(kept)) == 0


async def test_nothing_is_collected_while_the_benchmark_holds_it(tmp_path: Path) -> None:
    made = await yard(Store(BLOBS), tmp_path, links=0)
    made.hold(on=True)
    before = made.progress()

    with made.served() as server, pytest.raises(Unexpected, match="nothing is collected while"):
        collecting.collect(server)

    assert made.progress() == before


@pytest.mark.skipif(REFERENCE is None, reason="docker-registry is not installed")
async def test_docker_registry_finds_the_same_garbage_and_restoring_brings_it_back(tmp_path: Path) -> None:
    store = Store(2 * BLOBS)
    made = await yard(store, tmp_path, links=IMAGES)
    made.keep_rows()
    garbage = [blob.digest for blob in store.garbage_bytes()]
    kept = [blob.digest for image in store.kept() for blob in (image.manifest, *image.named)]

    _, said = collecting.command(REFERENCE or "", "garbage-collect", made.reference)
    gone, lost = made.missing(garbage), made.missing(kept)
    made.restore()
    with made.served() as server:
        _, freed = collecting.collect(server)

    assert f"{store.garbage_blobs} blobs and 0 manifests eligible for deletion" in said
    assert (gone, lost) == (len(garbage), 0)
    assert freed["blobs"] == store.garbage_blobs


def test_the_command_lists_each_set_of_cases() -> None:
    core, lifecycle, scale = (
        subprocess.run(
            [sys.executable, "-m", "bench", "--list", *more],
            cwd=Path(scripted.__file__).parent.parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for more in ([], ["--lifecycle"], ["--scale"])
    )

    assert "manifest-get" in core
    assert "gc-decide" in lifecycle
    assert "gc-decide" not in core
    assert "nodes-push" in scale
    assert "nodes-push" not in core + lifecycle
