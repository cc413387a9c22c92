"""What clients may name: paths below a project's folder, none of them git's or our own."""

from __future__ import annotations

import re
from collections.abc import Sequence

from daemon.core.errors import BadRequest

PATH_BYTES = 4096
NAME_BYTES = 255
"""What Linux takes; macOS takes less of a path, and says so itself."""

_UNSEEN = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
"""Characters that HFS+ does not see in a name: there `.g\u200cit` is git's folder as well."""

_TEMPORARY = re.compile(r"\.agentcmd-[0-9a-f]{12,}\.tmp")


def parts_of(path: str, *, empty: bool = False) -> tuple[str, ...]:
    """Take a path apart; BadRequest where it is none below the project, or `empty` unasked."""
    if path.startswith("/"):
        raise BadRequest(f"{path[:80]!r} is absolute; paths are relative to the project's folder")
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        raise BadRequest(
            "the path holds half a character; names that are no UTF-8 cannot be given"
        ) from None
    if ".." in parts:
        raise BadRequest(f"{path[:80]!r} goes up; name it from the project's folder downwards")
    if "\0" in path:
        raise BadRequest(f"{path[:80]!r} holds a NUL, which no name can")
    if sum(sizes) + len(sizes) > PATH_BYTES or any(size > NAME_BYTES for size in sizes):
        raise BadRequest(f"the path {path[:80]!r}... is too long for a file system")
    if not parts and not empty:
        raise BadRequest("the path is empty; name something in the project's folder")
    require_free(parts)
    return parts


def require_free(parts: Sequence[str]) -> None:
    """Raise BadRequest for a path into git's folder, or a file of a write under way."""
    if any(is_git(part) for part in parts):
        raise BadRequest(f"{shown(parts)} is git's own; use git.run")
    if any(is_temporary(part) for part in parts):
        raise BadRequest(f"{shown(parts)} is named as the daemon names files that it writes")


def is_git(name: str) -> bool:
    """Tell whether a name is that of git's folder, on any file system."""
    plain = name if name.isascii() else _UNSEEN.sub("", name)
    return plain.casefold().rstrip(" .") in (".git", "git~1")


def is_temporary(name: str) -> bool:
    """Tell whether a name is that of a file which a write has not finished."""
    return name.startswith(".agentcmd-") and _TEMPORARY.fullmatch(name) is not None


def is_hidden(parts: Sequence[str]) -> bool:
    """Tell whether nobody is to see this at all, in lists, searches and changes."""
    return any(is_git(part) or is_temporary(part) for part in parts)


def is_hidden_name(name: str) -> bool:
    """Tell the same of a name in a folder that is not hidden itself."""
    return is_git(name) or is_temporary(name)


def shown(parts: Sequence[str]) -> str:
    """Give a path as a client sees it, with a replacement for what is no UTF-8."""
    return "/".join(parts).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def is_decodable(name: str) -> bool:
    """Tell whether a name from the file system is UTF-8."""
    return not any("\ud800" <= each <= "\udfff" for each in name)
