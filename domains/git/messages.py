"""Messages of commits, which survive byte for byte whatever a user has configured."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from pathlib import Path

from daemon.core.errors import BadRequest, TooLarge
from domains.git.desk import Work

MESSAGE_BYTES = 100_000
"""Longest message of a commit or tag."""

FROM_INPUT = ("--file=-", "--cleanup=verbatim")
"""How a message is given to git: nothing in it is a comment, and no blank is cut off."""

KEPT = ("-c", "commit.cleanup=verbatim", "-c", "commit.status=false")
"""How git is to treat messages that it takes from other commits."""

_HINT = re.compile(
    rb"\n(?:(\S{1,8}) -+ >8 -+\n(?:\1 [^\n]*\n)*)?(\S{1,8}) Conflicts:\n(?:\2\t[^\n]*\n)+\Z"
)
"""What git writes below the message of what has stopped at conflicts."""

_HINT_BYTES = 64 << 10


def message_bytes(text: str) -> bytes:
    """Return a message as git reads it; BadRequest where it would take none."""
    if not text.strip():
        raise BadRequest("the message is empty; say in a sentence what changes, and why")
    if "\0" in text:
        raise BadRequest("a message holds no NUL")
    try:
        given = text.encode()
    except UnicodeEncodeError:
        raise BadRequest("the message holds half a character") from None
    if len(given) > MESSAGE_BYTES:
        raise TooLarge(f"a message has at most {MESSAGE_BYTES} bytes")
    return given if given.endswith(b"\n") else given + b"\n"


async def prepared(git: Work) -> bytes | None:
    """Return the message that git has prepared for what stopped at conflicts, without its hint."""
    path = Path(git.repository.git_dir, "MERGE_MSG")
    said = await git.observed("a message", lambda: os.fsdecode(_prepared(path) or b""))
    return os.fsencode(said) or None


def _prepared(path: Path) -> bytes | None:
    with contextlib.suppress(OSError), path.open("rb") as file:
        said = file.read(MESSAGE_BYTES + _HINT_BYTES)
        return without_hint(said) if said.strip() else None
    return None


def without_hint(said: bytes) -> bytes:
    """Leave out the list of files in conflict, which is a comment."""
    start = max(0, len(said) - _HINT_BYTES)
    found = _HINT.search(said, start)
    return said[: found.start()] if found else said


async def keep_end(git: Work) -> None:
    """Take back the newline that a rebase adds to the message of what it has stopped at."""
    place = Path(git.repository.git_dir, "rebase-merge")
    path = place / "message"
    if not await git.observed("a rebase's message", lambda: "yes" if path.is_file() else ""):
        return
    stopped = await git.run("cat-file", "commit", "REBASE_HEAD", ok=(0, 128))
    if not stopped.code:
        message = stopped.stdout.partition(b"\n\n")[2]
        await asyncio.to_thread(_keep_end, path, message)


def _keep_end(path: Path, message: bytes) -> None:
    with contextlib.suppress(OSError):
        if message and path.read_bytes() == message + b"\n":
            path.write_bytes(message)
