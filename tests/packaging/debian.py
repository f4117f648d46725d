"""Small Debian systems, made by mmdebstrap from wherever this machine gets its own packages."""

import fcntl
import hashlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from tests.support import tools
from tests.support.processes import run

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "stackyard-tests")
_NOT_NEEDED = ("doc", "info", "locale", "man")


def system(*packages: str, variant: str) -> Path:
    """A tar of this machine's Debian release with `packages`, made once per user and kept.

    Args:
        packages: What it holds beyond the variant.
        variant: mmdebstrap's: `essential` (no apt) or `minbase` (with apt, as debootstrap's).
    """
    mmdebstrap = tools.path("mmdebstrap")
    tools.need_root("mmdebstrap's systems have files of several users")
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "bookworm")
    name = hashlib.sha256(" ".join([codename, platform.machine(), variant, *packages]).encode()).hexdigest()[:16]
    archive = CACHE / f"debian-{codename}-{name}.tar"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            unfinished = archive.with_suffix(".unfinished.tar")
            options = [f"--variant={variant}", *_options(packages)]
            run(mmdebstrap, "--quiet", *options, codename, unfinished, *_sources(), timeout=600)
            unfinished.rename(archive)
    return archive


def _options(packages: Sequence[str]) -> list[str]:
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in _NOT_NEEDED]
    included = [f"--include={','.join(packages)}"] if packages else []
    return ["--mode=root", '--aptopt=APT::Install-Recommends "false"', *_proxies(), *included, *excluded]


def _sources() -> list[str]:
    """This machine's own sources of Debian packages; without any, mmdebstrap's default."""
    line = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    found = run("apt-get", "indextargets", "--format", line, "Created-By: Packages", "Origin: Debian").out
    return sorted(set(found.splitlines()))


def _proxies() -> list[str]:
    settings = run("apt-config", "dump").out.splitlines()
    return [f"--aptopt={setting}" for setting in settings if setting.startswith("Acquire::") and "roxy" in setting]
