"""The share of operations that succeed while a node is killed once a minute: the availability figure, printed.

STACKYARD_SCALE times thirty is how many operations there are; an operation is a whole push or pull with its retries.
"""

import asyncio
import os
import random
import secrets
import threading
import time
from pathlib import Path

import pytest
from tests.scale.conftest import SCALE, store
from tests.scale.light import Light, Tally
from tests.scale.working import Goal
from tests.support import postgresql
from tests.support.nodes import Node, Proxy, ShippedNginx, cluster, shared, shipped_haproxy

OPERATIONS = 30 * SCALE or 400
EVERY = 60.0 if SCALE else 3.0  # seconds from one kill to the next
CLIENTS = 6
NEEDED = 0.9999 if SCALE else 0.99
"""In CI one kill comes upon a few hundred operations, where it comes upon ten thousand at the full size."""
SEED = int(os.environ.get("STACKYARD_SCALE_SEED", "0")) or secrets.randbits(32)


@pytest.mark.parametrize("kind", ["nginx", "haproxy"] if SCALE else ["nginx"])
def test_almost_every_operation_succeeds_while_nodes_are_killed(
    engine: postgresql.Server, tmp_path: Path, kind: str
) -> None:
    common = shared(asyncio.run(engine.create()), store(tmp_path))
    with cluster(tmp_path, common) as nodes:
        proxy: Proxy = ShippedNginx(nodes) if kind == "nginx" else shipped_haproxy(nodes)
        try:
            goal, tally, seeds = Goal(OPERATIONS), Tally(), random.Random(SEED)
            lights = [
                Light(proxy.address, number, goal, tally, seed=seeds.getrandbits(32)) for number in range(CLIENTS)
            ]
            work(nodes, lights, goal, tally, kind)
        finally:
            proxy.stop()

        assert [light.complaint for light in lights if light.complaint] == []
        assert tally.wrong == []
        for light in lights:
            for tag, manifest in light.pushed.items():
                for node in nodes[: None if len(light.pushed) < 100 else 1]:
                    assert node.request("GET", f"/v2/{light.repository}/manifests/{tag}").body == manifest
    assert tally.availability >= NEEDED


def work(nodes: list[Node], lights: list[Light], goal: Goal, tally: Tally, kind: str) -> None:
    """Until there were enough operations and a few kills."""
    randomness, kills, began = random.Random(SEED), 0, time.monotonic()
    for light in lights:
        light.start()
    try:
        while goal.left > 0 or kills < 2:
            due = time.monotonic() + EVERY
            while time.monotonic() < due and (goal.left > 0 or kills < 2):
                threading.Event().wait(0.05)
            victim = randomness.choice(nodes)
            victim.kill()
            victim.start()
            kills += 1
            if not any(light.is_alive() for light in lights):
                break
    finally:
        goal.open, goal.left = False, min(goal.left, 0)
        for light in lights:
            light.join()
    took = time.monotonic() - began
    print(  # noqa: T201 - it is what this is for
        f"\n{kind}: {tally.all} operations in {took:.0f} s, {kills} kills, "
        f"availability {100 * tally.availability:.4f} %, {dict(tally.counts)}, STACKYARD_SCALE_SEED={SEED}"
    )
    for failure in tally.failures:
        print(f"  {failure}")  # noqa: T201
