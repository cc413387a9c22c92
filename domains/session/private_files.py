"""Files with what an agent is told that no list of processes should show, for its lifetime."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

FOLDER = "session-files"
"""The folder of the state directory with one folder for each session that has such files."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class PrivateFiles:
    """Writes them before a program starts, and removes them once it has ended."""

    def __init__(self, state_dir: Path) -> None:
        """Keep them below the state directory; what a daemon that died has left is removed."""
        self._folder = state_dir / FOLDER
        shutil.rmtree(self._folder, ignore_errors=True)

    def moved(self, session_id: str, argv: list[str], flags: Mapping[int, str]) -> list[str]:
        """Return the arguments with the values of some, `--flag=value`, moved into files.

        `flags` are what stands before the path of the file instead, by the argument's index.
        """
        found = list(argv)
        for index, flag in flags.items():
            path = self._folder / session_id / str(index)
            path.parent.mkdir(0o700, parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            with os.fdopen(os.open(path, _NEW, 0o600), "wb") as file:
                file.write(argv[index].partition("=")[2].encode())
            found[index] = f"{flag}={path}"
        return found

    def remove(self, session_id: str) -> None:
        """Remove the files of a session, where it has any."""
        shutil.rmtree(self._folder / session_id, ignore_errors=True)
