"""Pinned packages from npm, fetched once into a cache that all test runs share."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from debian import CACHE

ENVIRONMENT = dict(os.environ)
"""As the tests were started: npm finds its settings in that HOME, not in a test's empty one."""


def package(wanted: str) -> Path:
    """Give the folder that has `node_modules` with a package, `NAME@VERSION`."""
    folder = CACHE / wanted.replace("/", "-")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
        done = folder / "done"
        if not done.exists():
            npm = shutil.which("npm")
            assert npm, f"the tests with {wanted} need npm; install it"
            quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--silent"]
            subprocess.run(
                [npm, "install", *quiet, "--prefix", str(folder), wanted],
                check=True,
                env=ENVIRONMENT,
            )
            done.touch()
    return folder
