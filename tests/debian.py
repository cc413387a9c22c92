"""Debian packages that tests need, unpacked once into a cache: no root, nothing installed."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

CACHE = Path(os.environ.get("AGENTCMD_TEST_CACHE") or Path.home() / ".cache" / "agentcmd-tests")
"""Where what is fetched stays; read at import, because tests run in an empty HOME."""


def unpacked(*names: str) -> Path:
    """Return the folder into which these packages were unpacked, as a root of its own.

    Dependencies are not followed: name each package that the machine may lack.
    """
    folder = CACHE / "debian" / "+".join(names)
    folder.mkdir(parents=True, exist_ok=True)
    with (CACHE / "debian" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
        done = folder / "done"
        if not done.exists():
            apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg-deb")
            assert apt, f"tests need apt-get for {names}"
            assert dpkg, f"tests need dpkg-deb for {names}"
            archives = folder / "archives"
            shutil.rmtree(archives, ignore_errors=True)
            archives.mkdir()
            _fetch([apt, *_options()], names, archives)
            for archive in archives.glob("*.deb"):
                _run([dpkg, "-x", str(archive), str(folder / "root")], folder)
            done.touch()
    return folder / "root"


def _fetch(apt: list[str], names: tuple[str, ...], archives: Path) -> None:
    """Download the archives; lists of our own are fetched where they are missing or outdated."""
    lists = CACHE / "debian" / "lists"
    for again in (False, True):
        if again or not (lists / "done").exists():
            (lists / "partial").mkdir(parents=True, exist_ok=True)
            (CACHE / "debian" / "apt" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
            _run([*apt, "update"], lists)
            (lists / "done").touch()
        try:
            _run([*apt, "download", *names], archives)
        except AssertionError:
            if again:
                raise
        else:
            return


def _options() -> list[str]:
    own = {
        "Dir::State::Lists": CACHE / "debian" / "lists",
        "Dir::Cache": CACHE / "debian" / "apt",
        "APT::Sandbox::User": "root",
    }
    return ["-q", *(f"-o{name}={value}" for name, value in own.items())]


def _run(command: list[str], folder: Path) -> None:
    run = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
