"""`stackyard gc`, `purge`, `scrub`, `check`, `damaged` and `imported`, and `registry garbage-collect`."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from stackyard.cli.jobs import Wait
from stackyard.cli.verbs import FAILED, USAGE, Place, verb

if TYPE_CHECKING:
    from stackyard.cli.client import Client
    from stackyard.cli.output import Output

DryRun = Annotated[bool, typer.Option("--dry-run", "-d", help="Only say what would go.")]
DeleteUntagged = Annotated[
    bool,
    typer.Option(
        "--delete-untagged", "-m", help="Delete manifests that no tag reaches, too; they can be restored for a while."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing unless it fails.")]


def register(stackyard: typer.Typer) -> None:
    """Add the verbs."""
    verb(stackyard, "gc", example="stackyard gc --dry-run")(collect)
    verb(stackyard, "purge", example="stackyard purge team/app:v1")(purge)
    verb(stackyard, "imported", example="stackyard imported")(show_imported)
    verb(stackyard, "scrub", example="stackyard scrub")(scrub)
    verb(stackyard, "check", example="stackyard check --repair")(check)
    verb(stackyard, "damaged", example="stackyard damaged")(list_damaged)


async def collect(  # noqa: PLR0913 - each is an option
    api: "Client",
    out: "Output",
    dry_run: DryRun = False,
    grace: Annotated[
        Optional[str],  # noqa: UP045 - typer reads the annotation
        typer.Option(
            metavar="SPAN",
            show_default=False,
            help="Also what was deleted longer ago than this, such as 1d or 0, though it could still be restored.",
        ),
    ] = None,
    delete_untagged: DeleteUntagged = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Collection paused as the clock leapt: the clock is right, go on.")
    ] = False,
    wait: Wait = True,
) -> int:
    """Delete now what nothing needs. It happens by itself as well, slowly.

    What clients were promised (an hour, unless set otherwise) and what can be restored stays.
    """
    if resume:
        await api.post("/gc/resume", {})
        out.note("collection goes on")
        return 0
    try:
        seconds = None if grace is None else int(_span(grace).total_seconds())
    except ValueError:
        out.note(f"--grace: {grace!r} is no span of time: write 0, 36h or 7d")
        return USAGE
    request = {"grace_seconds": seconds, "dry_run": dry_run, "delete_untagged": delete_untagged}
    return await _run(api, out, "/gc", request, _collected, wait=wait)


async def purge(
    api: "Client",
    out: "Output",
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REF", help="REPO:TAG, REPO@DIGEST, a whole REPO (also a deleted one), or the DIGEST of a blob."
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Wait = True,
) -> int:
    """Take a named thing away at once and for good, such as a secret that was pushed by mistake.

    Nothing of it can be restored. Layers that other images need stay, and are named.
    """
    from stackyard.cli.confirming import confirmed

    named = _named(reference)
    if not confirmed(f"Purge {reference} for good?", yes=yes):
        return FAILED
    return await _run(api, out, "/purge", named, _purged, wait=wait)


async def scrub(
    api: "Client",
    out: "Output",
    rate: Annotated[str, typer.Option(metavar="SIZE", help="Bytes per second, such as 20MB; 0: all there is.")] = "0",
    wait: Wait = True,
) -> int:
    """Read every stored blob back; what is damaged is kept from clients until it is pushed again."""
    from stackyard.config.sizes import parse

    try:
        per_second = int(parse(rate))
    except ValueError:
        out.note(f"--rate: {rate!r} is no size: write 0 or 20MB")
        return USAGE
    return await _run(api, out, "/scrub", {"rate": per_second}, _scrubbed, wait=wait)


async def check(
    api: "Client",
    out: "Output",
    repair: Annotated[
        bool, typer.Option(help="Quarantine blobs without their file; let files go that nothing tells of.")
    ] = False,
    wait: Wait = True,
) -> int:
    """Compare what the database and the store tell of each other; status 1 when they do not agree."""
    return await _run(api, out, "/check", {"repair": repair}, _checked, wait=wait)


async def list_damaged(api: "Client", out: "Output") -> None:
    """List blobs that are kept from clients as their bytes are not what they should be."""
    from stackyard.cli.output import size

    await out.rows(
        api.items("/damaged"),
        {
            "DIGEST": lambda one: one["digest"],
            "SIZE": lambda one: size(one["size"]),
            "DAMAGE": lambda one: one["damage"],
            "TAGS": lambda one: " ".join(one["tags"]) or "-",
        },
    )


async def show_imported(api: "Client", out: "Output") -> None:
    """Tell how far docker-registry's volume is taken over, and what of it was not taken over as it was.

    A server takes a volume over when it starts on it, and again after docker-registry had it meanwhile.
    """
    found = await api.get("/import")
    if out.as_json:
        out.show({**found, "problems": [one async for one in api.items("/import/problems")]}, {})
        return
    async for one in api.items("/import/problems"):
        out.note(f"{one['path']}: {one['reason']}")
    counts = f"{found['manifests']} manifests and {found['tags']} tags of {found['repositories']} repositories"
    left = f"; {found['waiting']} repositories wait" if found["state"] != "done" else ""
    out.note(f"{counts} are imported{left}")


def garbage_collect(file: Path | None, *, dry_run: bool, delete_untagged: bool, quiet: bool) -> int:
    """`registry garbage-collect`: the exit status."""
    from stackyard.cli.running import run

    async def work(api: "Client", out: "Output") -> int:
        from stackyard.cli.following import follow

        request = {"grace_seconds": None, "dry_run": dry_run, "delete_untagged": delete_untagged}
        job = await api.post("/gc", request)
        result = (await follow(api, job, quiet=quiet))["result"]
        if not quiet:
            for digest in result.get("digests", ()):
                print(f"blob eligible for deletion: {digest}")
            _collected(out, result)
        return 0

    return run(Place(config=file), work, as_json=False)


async def _run(api: "Client", out: "Output", path: str, request: dict[str, Any], tell: Any, *, wait: bool) -> int:
    from stackyard.cli.following import accepted

    job = await accepted(api, out, await api.post(path, request), wait=wait)
    if job is None:
        return 0
    result = job["result"]
    if out.as_json:
        out.show(result, {})
        return FAILED if _is_bad(result) else 0
    return tell(out, result) or 0


def _collected(out: "Output", result: dict[str, Any]) -> None:
    from stackyard.cli.output import counted, size

    would = "would " if "digests" in result else ""
    freed = f"{counted(result['blobs'], 'blob')} of {size(result['bytes'])}, {counted(result['manifests'], 'manifest')}"
    out.note(f"{would}free {freed}" if would else f"freed {freed}")
    if result["untagged"]:
        out.note(f"{would}delete{'' if would else 'd'} {counted(result['untagged'], 'manifest')} without a tag")
    if result["restorable"]:
        out.note(f"{size(result['restorable'])} more can still be restored: stackyard gc --grace 0 frees it")


def _purged(out: "Output", result: dict[str, Any]) -> None:
    from stackyard.cli.output import counted, size

    manifests, blobs = counted(len(result["manifests"]), "manifest"), counted(len(result["blobs"]), "blob")
    out.note(f"gone: {manifests}, {blobs} of {size(result['bytes'])}")
    for tag in result["tags"]:
        out.note(f"tag gone: {tag}")
    for digest in result["kept"]:
        out.note(f"kept, as other images have it too: {digest}")


def _scrubbed(out: "Output", result: dict[str, Any]) -> int:
    from stackyard.cli.output import counted, size

    out.note(f"read {counted(result['blobs'], 'blob')} of {size(result['bytes'])}; {len(result['damaged'])} damaged")
    for digest in result["damaged"]:
        out.note(f"damaged: {digest}")
    for digest in result["healed"]:
        out.note(f"healed: {digest}")
    return FAILED if result["damaged"] else 0


def _checked(out: "Output", result: dict[str, Any]) -> int:
    from stackyard.cli.output import counted

    out.note(f"compared {counted(result['blobs'], 'blob')} with {counted(result['files'], 'file')}")
    for name, meaning in (
        ("missing", "no file"),
        ("wrong_size", "file of another size"),
        ("unowned", "file that nothing tells of"),
        ("broken", "broken"),
    ):
        for one in result[name]:
            out.note(f"{meaning}: {one}")
    if result["quarantined"]:
        out.note(f"{counted(result['quarantined'], 'damaged blob')} kept from clients: stackyard damaged names them")
    if _is_well(result):
        out.note("all is well" if not result["quarantined"] else "else all is well")
        return 0
    if result["repaired"]:
        out.note("what is safe to repair was")
    return FAILED


def _is_well(result: dict[str, Any]) -> bool:
    return not any(result[name] for name in ("missing", "wrong_size", "unowned", "broken"))


def _is_bad(result: dict[str, Any]) -> bool:
    """Whether a scrub or a check found something."""
    return bool(result.get("damaged")) or ("missing" in result and not _is_well(result))


def _named(reference: str) -> dict[str, str | None]:
    """The request for what a person named. Raises Problem when a server's name stands before it."""
    from stackyard.cli.client import without_server

    reference = without_server(reference)
    repository, at, digest = reference.rpartition("@")
    if at or reference.startswith(("sha256:", "sha512:")):
        return {"repository": repository or None, "tag": None, "digest": digest}
    name, colon, tag = reference.rpartition(":")
    if colon and "/" not in tag:
        return {"repository": name, "tag": tag, "digest": None}
    return {"repository": reference, "tag": None, "digest": None}


def _span(text: str) -> timedelta:
    """Raises ValueError."""
    from stackyard.config.durations import parse_long

    return timedelta(0) if text == "0" else parse_long(text)
