"""What git's words mean for a client: an error with a stable code and a next step."""

from __future__ import annotations

import re
from collections.abc import Sequence

from daemon.core.errand import Finished
from daemon.core.errors import AgentcmdError, BadRequest, Conflict, NotFound, Unavailable
from domains.git.locks import explain_lock
from domains.git.programs import EDITING, command_of
from domains.git.repository import Repository

SAID = 64 << 10
"""Bytes of git's own words that are looked at: what is wrong stands at their end."""

SHOWN = 2000
"""Characters of git's own words that are passed on."""

_SECRET = re.compile(r"://[^/\s'\"]*@")
"""No part of it can begin within another one: foreign text is searched in linear time."""

KNOWN: tuple[tuple[type[AgentcmdError], str, tuple[str, ...]], ...] = (
    (
        Conflict,
        (
            "this partial clone lacks a file: trust the project, "
            "or run 'git fetch --refetch --no-filter' in it"
        ),
        ("lazy fetching disabled", r"transport '[^']*' not allowed\s[\s\S]{0,2000}promisor remote"),
    ),
    (
        Unavailable,
        "git-lfs is not installed where the daemon looks: install it, then try again",
        ("git-lfs[^\n]{0,200}not found", "'lfs' is not a git command", "cannot run git-lfs"),
    ),
    (
        Unavailable,
        "the repository is a partial clone, and its remote does not give what is missing here",
        ("could not fetch [0-9a-f]+ from promisor remote",),
    ),
    (
        Unavailable,
        "who was asked for credentials did not answer in time: set up a credential helper",
        ("error: askpass [^\n]{0,300} did not answer within",),
    ),
    (
        Unavailable,
        "the remote asks for credentials that git does not find: set up a credential helper",
        (
            "Authentication failed",
            r"could not read (Username|Password)",
            "terminal prompts disabled",
            r"Permission denied \(",
            "returned error: 40[13]",
            "Host key verification failed",
        ),
    ),
    (
        Unavailable,
        "the remote cannot be reached, or has hung up",
        (
            "Could not resolve host",
            "Connection (refused|timed out)",
            "([Cc]ould not|[Cc]ouldn't|unable to|Failed to) connect",
            "early EOF",
            "the remote end hung up",
            "unexpected disconnect",
            "returned error: [45]",
            "RPC failed",
        ),
    ),
    (
        Conflict,
        "a submodule has changes of its own: add its folder as a project, and work there",
        ("[Pp]athspec '[^']*' is in submodule",),
    ),
    (
        Conflict,
        (
            "a submodule is in a folder of this machine, which git clones only where you say so: "
            "git config --global protocol.file.allow always"
        ),
        (r"transport 'file' not allowed[\s\S]{0,2000}submodule",),
    ),
    (BadRequest, "that transport is not allowed", ("transport '[^']*' not allowed",)),
    (
        NotFound,
        "there is no repository at that address",
        (
            "repository '[^']*' (not found|does not exist)",
            "does not appear to be a git repository",
            "access denied or repository not exported",
            "No such remote",
        ),
    ),
    (
        NotFound,
        "there is no such revision",
        (
            "(bad|unknown) revision",
            "Needed a single revision",
            "[Ii]nvalid object name",
            "[Nn]ot a valid object name",
            "bad object",
            "not a tree object",
            "src refspec .* does not match",
            "couldn't find remote ref",
            "Remote branch .* not found",
            "ambiguous argument",
        ),
    ),
    (
        NotFound,
        "there is no such path",
        ("did not match any file", "pathspec '.*' did not match", "no such path"),
    ),
    (
        Conflict,
        (
            "git does not know who you are: give author, or tell git once: "
            "git config --global user.name NAME; git config --global user.email ADDRESS"
        ),
        ("Please tell me who you are", "empty ident name", "unable to auto-detect email"),
    ),
    (Unavailable, "the disk is full", ("No space left on device",)),
    (
        Conflict,
        "the repository belongs to another user; see safe.directory in git-config(1)",
        ("dubious ownership",),
    ),
)
"""The error, what to do, and what git says then (in English: see ENVIRONMENT)."""


async def explained(
    args: Sequence[str], finished: Finished, repository: Repository | None
) -> AgentcmdError:
    """Make the error of a process that has failed."""
    said = redacted(finished.stderr or last_words(finished)).strip()[-SHOWN:]
    lock = await explain_lock(said, repository)
    if lock is not None:
        return Conflict(lock, git=said)
    for kind, sentence, patterns in KNOWN:
        if re.search("|".join(patterns), said):
            return kind(f"{sentence}: {_gist(said)}", git=said)
    verb = command_of(args)
    if not said and verb in EDITING:  # git itself says why
        return Conflict(f"a hook has stopped the {verb}, and said nothing", git=said)
    return Conflict(f"git {verb} refused: {_gist(said)}", git=said)


def after_checkout(finished: Finished) -> list[str]:
    """Return a warning where nothing but the hook has failed that git runs after a checkout.

    Git gives the hook's exit code as its own, and says nothing itself.
    """
    lines = finished.stderr.splitlines()
    if not finished.code or any(line.startswith(("fatal:", "error:")) for line in lines):
        return []
    said = redacted(finished.stderr).strip()[-500:] or "it said nothing"
    return [f"the post-checkout hook failed: {said}"]


def last_words(finished: Finished) -> str:
    """Return the end of standard output; it may be as long as all files' names."""
    return finished.stdout[-SAID:].decode(errors="replace")


def redacted(text: str) -> str:
    """Take user names and passwords out of URLs."""
    return _SECRET.sub("://", text)


def _gist(said: str) -> str:
    """Give the line that says what is wrong."""
    lines = [line for line in said.splitlines() if line.strip()]
    wrong = [line for line in lines if line.startswith(("fatal:", "error:", "!", " !"))]
    return (wrong or lines or ["it said nothing"])[0][:300]
