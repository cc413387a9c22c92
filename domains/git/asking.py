"""Programs that ask somebody for a password: with a time limit, in the user's own environment.

git waits for its askpass program as long as that waits for somebody, and whatever comes after in
the project's queue waits with it. So git is given a few lines of shell in its place.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from daemon.core.environment import child_environment
from domains.git.hooks import restoring, written

FOLDER = "askpass"
"""Folder of the state dir in which there is one file for each program."""

SECONDS = 60
"""Time to answer one question."""


def limited(said: str, state_dir: Path, environ: Mapping[str, str]) -> str | None:
    """Return a program that asks as the user's own does, but not for ever; None where none asks.

    `said` is `core.askPass`. GIT_ASKPASS wins over it, as it does in git.
    """
    program = environ.get("GIT_ASKPASS", os.path.expanduser(said))  # noqa: PTH111  # as git does
    if not program:
        return None
    late = shlex.quote(f"error: askpass {program} did not answer within {SECONDS} s")
    lines = [
        *restoring(child_environment(environ)),
        f'timeout -k 5 {SECONDS} {shlex.quote(program)} "$@"',
        "code=$?",
        f'[ "$code" -ne 124 ] || printf "%s\\n" {late} >&2',
        'exit "$code"',
        "",
    ]
    script = os.fsencode("\n".join(lines))
    place = state_dir / FOLDER
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = place / hashlib.sha256(script).hexdigest()[:24]
    written(target, script)
    return str(target)
