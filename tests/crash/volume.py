"""A stopped server's volume, looked at from outside: every row against the bytes that it promises."""

import contextlib
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stackyard.metadata.driver import module as sqlite
from stackyard.oci import layout


@dataclass
class Volume:
    """A data folder, and what was seen in it before."""

    root: Path
    seen: dict[Path, tuple[int, int, int]] = field(default_factory=dict)
    """Inode, modification time in ns and size of each published file."""

    def check_files(self) -> None:
        """Every published file is whole, and none that was there before has changed. Also while a server runs.

        A file that no row names is whole as well: it was linked to its place after it was synced.
        """
        for file in (self.root / layout.DISTRIBUTION / "blobs").glob("*/*/*/data*"):
            status = file.stat()
            identity = (status.st_ino, status.st_mtime_ns, status.st_size)
            if file not in self.seen:
                algorithm, hexdigest = file.parts[-4], file.parts[-2]
                assert hashlib.new(algorithm, file.read_bytes()).hexdigest() == hexdigest, f"{file} has other bytes"
                self.seen[file] = identity
            assert self.seen[file] == identity, f"{file} was written twice"

    def unfinished(self) -> set[Path]:
        """The files of unfinished uploads."""
        return set((self.root / layout.UPLOADS).iterdir())

    def check_rows(self) -> None:
        """The database is sound, and no row promises what is not there (invariants 1 and 3).

        What was written last may have come with the stop: manifests' bytes, for Distribution.
        """
        self.check_files()
        with contextlib.closing(sqlite.connect(str(self.root / layout.DATABASE))) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            live = database.execute("SELECT digest, location, size FROM blob WHERE state = 'live'").fetchall()
            self._check_live(live)
            _check_references(database)

    def _check_live(self, live: list[tuple[str, str, int]]) -> None:
        assert live
        for digest, location, size in live:
            file = self.root / location
            assert file in self.seen, f"{digest} is promised at {location}, and nothing is there"
            assert self.seen[file][2] == size, f"{digest} is promised with {size} bytes"
            assert digest == f"{file.parts[-4]}:{file.parts[-2]}"


def _check_references(database: Any) -> None:
    """Every blob and child that a manifest names is in the store."""
    missing = database.execute(
        """
        SELECT named.digest FROM manifest_reference AS named WHERE named.required
        AND NOT EXISTS (SELECT 1 FROM blob WHERE blob.digest = named.digest AND blob.state = 'live')
        AND NOT EXISTS (
            SELECT 1 FROM manifest
            WHERE manifest.digest = named.digest AND manifest.repository_id = named.repository_id
        )
        """
    ).fetchall()
    assert missing == []
    orphans = database.execute(
        "SELECT count(*) FROM tag WHERE NOT EXISTS (SELECT 1 FROM manifest WHERE manifest.id = tag.manifest_id)"
    ).fetchone()
    assert orphans == (0,)
