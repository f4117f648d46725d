"""The arrows of ARCHITECTURE.md: which room may import which."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "stackyard"
FILES = sorted(file for file in SOURCE.rglob("*.py") if file.name != "__init__.py")

MAY_IMPORT: dict[str, set[str]] = {
    "oci": set(),
    "config": set(),
    "telemetry": set(),
    "storage": {"oci"},
    "metadata": {"oci"},
    "auth": {"oci", "metadata"},
    "registry": {"oci", "metadata", "storage"},
    "jobs": {"oci", "auth", "registry"},
    "http": {"oci", "auth", "registry"},
    "api": {"oci", "auth", "registry"},
    # The composition root sees every room.
    "server": {"oci", "config", "storage", "metadata", "auth", "registry", "jobs", "http", "api"},
    "cli": {"oci", "config", "server"},
}
"""Besides itself and `telemetry`, which every room but the two leaves beside it may use."""

LEAVES = {"oci", "config", "telemetry"}


def imported_rooms(source: str) -> Iterator[str]:
    """Every room of ours that this source text imports, also inside functions and TYPE_CHECKING blocks."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            ours = [alias.name for alias in node.names if alias.name.split(".")[0] == "stackyard"]
            assert not ours, f"write `from stackyard.room import noun`, not `import {ours[0]}`"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "stackyard":
            _, *rooms = (node.module or "").split(".")
            names = {alias.name for alias in node.names}
            assert rooms or not names & MAY_IMPORT.keys(), "write `from stackyard.room import noun`, not the room"
            yield from rooms[:1]


def allowed(room: str) -> set[str]:
    return MAY_IMPORT[room] | {room} | (set() if room in LEAVES else {"telemetry"})


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_room_imports_only_what_it_may(file: Path) -> None:
    room = file.relative_to(SOURCE).parts[0].removesuffix(".py")

    forbidden = set(imported_rooms(file.read_text(encoding="utf-8"))) - allowed(room)

    assert not forbidden, f"{room} may not import {', '.join(sorted(forbidden))}"


def test_every_room_is_on_the_list() -> None:
    assert {file.relative_to(SOURCE).parts[0] for file in FILES} <= MAY_IMPORT.keys()


def test_arrows_make_no_circle() -> None:
    below: set[str] = set()

    while rest := MAY_IMPORT.keys() - below:
        free = {room for room in rest if MAY_IMPORT[room] <= below}
        assert free, f"these import one another: {sorted(rest)}"
        below |= free


@pytest.mark.parametrize(
    "source",
    ["import stackyard.oci", "import stackyard.oci.names as names", "import stackyard", "from stackyard import oci"],
)
def test_a_whole_room_is_never_imported(source: str) -> None:
    with pytest.raises(AssertionError, match="write `from stackyard"):
        list(imported_rooms(source))


def test_an_import_inside_a_function_is_seen() -> None:
    source = "def f():\n    from stackyard.metadata.tags import page\n"

    assert list(imported_rooms(source)) == ["metadata"]
