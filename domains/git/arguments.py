"""What clients may name: refused here where git would read it as something else than a name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, urlsplit

from daemon.core.errors import BadRequest

_NO_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|\.$|/$|^/|\.lock(/|$)|(^|/)\.|^@$")
"""What git-check-ref-format(1) forbids in a name."""

_NO_REVISION = re.compile(r"[\x00-\x1f\x7f]|\s$|^\s")

_SCP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*@[A-Za-z0-9_][A-Za-z0-9_.\-]*:(?!:)\S.*")

_TOKEN = re.compile(r"(gh[pousr]_|github_pat_|glpat-|AKIA).*|.{40,}")
"""What stands as the user of an address, and is a password all the same."""

_ESCAPED = re.compile(r"%(0[0ad]|2d)", re.IGNORECASE)
"""What an address has no use for: a line's end, NUL, and an option's dash in disguise."""

TRANSPORTS = ("https", "http", "ssh", "git", "file")


def branch_name(text: str) -> str:
    """Give a name for a branch, tag or remote; BadRequest for what git does not allow as one."""
    if not _is_text(text, 200) or text.startswith("-") or _NO_REF.search(text):
        raise BadRequest(
            f"{text[:80]!r} is no name for a branch, tag or remote: no space, .., ~^:?*[\\, and no "
            "- at the beginning"
        )
    return text


def revision(text: str) -> str:
    """Give a revision as gitrevisions(7) has them; it still goes behind --end-of-options."""
    if not _is_text(text, 500) or text.startswith("-") or _NO_REVISION.search(text):
        raise BadRequest(f"{text[:80]!r} is no revision; as in main, v1.0, HEAD~2 or a commit's id")
    return text


def relative_path(text: str) -> str:
    """Give a path below the project's folder, as git names it."""
    if not text or "\0" in text or text.startswith("/") or len(text) > 4096:
        raise BadRequest(f"{text[:80]!r} is no path in the project; they are relative to its root")
    parts = text.split("/")
    if ".." in parts or any(part.lower() == ".git" for part in parts):
        raise BadRequest(f"{text[:80]!r} leads out of the project's files")
    return text


def literal(path: str) -> str:
    """Return a path as a pathspec in which nothing is a pattern."""
    return f":(literal){path}"


def paths(texts: Iterable[str]) -> bytes:
    """Give paths for `--pathspec-from-file=- --pathspec-file-nul`; BadRequest for an empty list."""
    found = [relative_path(text) for text in texts]
    if not found:
        raise BadRequest("paths is empty; name at least one")
    try:
        return b"".join(b":(literal)%s\0" % path.encode() for path in found)
    except UnicodeEncodeError:
        raise BadRequest(
            "a path holds half a character; names that are no UTF-8 cannot be given"
        ) from None


def remote_url(text: str) -> str:
    """Give the address of a remote; BadRequest for a transport that runs something, or a password.

    A password in an address would be written into the repository's configuration, and stand in the
    list of processes.
    """
    if not _is_text(text, 2000) or text.startswith("-") or _NO_REVISION.search(text):
        raise BadRequest("a url is the address of a repository, as in https://host/name.git")
    if _SCP.fullmatch(text):
        return text
    if text.startswith("/"):
        return f"file://{quote(text)}"
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        raise BadRequest("the url has brackets that do not enclose an IPv6 address") from None
    if not text.startswith(tuple(f"{known}://" for known in TRANSPORTS)):
        known = ", ".join(TRANSPORTS)
        raise BadRequest(
            f"a url begins with one of {known}, or is USER@HOST:PATH or an absolute path"
        )
    if _ESCAPED.search(parts.netloc) or _ESCAPED.match(parts.path[1:]):
        raise BadRequest("the url hides a dash or the end of a line; write it as it is meant")
    if parts.scheme == "file" and parts.netloc:
        raise BadRequest("a file url has three slashes, as in file:///srv/name.git: no host")
    if parts.scheme != "file" and (not host or parts.netloc.startswith("-") or host[0] == "-"):
        raise BadRequest("the url names no host")
    if parts.password is not None or _TOKEN.fullmatch(parts.username or ""):
        raise BadRequest(
            "a password in the url would be readable for others: set up a credential helper for "
            "the daemon's user, or use ssh"
        )
    return text


def _is_text(text: str, length: int) -> bool:
    """Tell whether it is a text at all: not empty, not too long, and no half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return 0 < len(text) <= length
