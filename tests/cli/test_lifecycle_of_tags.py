"""Pulls and expiry on a real server: what its processes do by themselves."""

import json
import sqlite3
from pathlib import Path

from tests.cli.test_verbs import BLOB, DIGEST, OCI, push
from tests.support import stackyard
from tests.support.running import Running


def rows(registry: Running, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(f"file:{registry.data}/stackyard/stackyard.db?mode=ro", uri=True) as database:
        return list(database.execute(query))


def test_pulls_are_written_when_the_server_stops(tmp_path: Path) -> None:
    with stackyard.start({"stackyard": {"workers": 2}}, folder=tmp_path) as registry:
        push(registry, "app", "v1")
        for _ in range(20):
            assert registry.manifest("app", "v1").status == 200
        registry.stop()

        assert rows(registry, "SELECT name, pulls, pulled_by FROM tag_pull") == [("v1", 20, "anonymous")]


def test_a_tag_expires_when_its_image_says_so(registry: Running) -> None:
    config = {"mediaType": f"{OCI}.config.v1+json", "digest": DIGEST, "size": 2}
    manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": config, "layers": []}
    annotations = {"annotations": {"stackyard.expires-after": "1s"}}
    assert registry.request("POST", f"/v2/app/blobs/uploads/?digest={DIGEST}", body=BLOB).status == 201
    for tag, document in (("soon", manifest | annotations), ("never", manifest)):
        body = json.dumps(document).encode()
        headers = {"Content-Type": f"{OCI}.manifest.v1+json"}
        answer = registry.request("PUT", f"/v2/app/manifests/{tag}", headers=headers, body=body)
        assert answer.status == 201

    registry.process.wait_for(lambda: registry.manifest("app", "soon").status == 404, "the tag to go", timeout=30)

    assert registry.manifest("app", "never").status == 200
    registry.process.wait_for(lambda: "a tag expired" in registry.log, "the log to say so")
