"""Puts changes into the next commit and takes them out, and makes commits."""

from __future__ import annotations

import re
from collections.abc import Sequence

from daemon.core.commands import Caller, handles
from daemon.core.errand import Finished
from daemon.core.errors import BadRequest, Conflict, TooLarge
from domains.git import arguments
from domains.git.commands.staging import (
    Committed,
    MakeCommit,
    Stage,
    Staged,
    Unstage,
)
from domains.git.desk import Desk, Work
from domains.git.failures import explained, last_words
from domains.git.messages import FROM_INPUT, message_bytes
from domains.git.skipped import COMMIT, skipped
from domains.git.standing import summarise

PATHS_BYTES = 100_000
"""Most paths of one commit: they are arguments of a program."""

FROM_STDIN = ("--pathspec-from-file=-", "--pathspec-file-nul")

_AUTHOR = re.compile(r"([^<>\x00-\x1f\x7f]*[^<>\x00-\x20\x7f]) ?<([^<>\x00-\x20\x7f]+)>")

_NOTHING = re.compile("nothing (added )?to commit|no changes added to commit")

_EMBEDDED = "warning: adding embedded git repository: "

_EMPTY = "does not have a commit checked out"

WARNINGS = 20
"""Most warnings of one answer."""

_CHANGED = re.compile(r"(\d+) (file|insertion|deletion)")


class Staging:
    """The index, and commits made of it."""

    def __init__(self, desk: Desk) -> None:
        """Work at this desk."""
        self._desk = desk

    @handles(Stage)
    async def stage(self, command: Stage, caller: Caller) -> Staged:
        """Stage files, or everything."""
        stdin = chosen(command.paths, everything=command.all)
        options = ("--force",) if command.force else ()
        async with self._desk.at_work(command, caller) as git:
            where = FROM_STDIN if stdin else ()
            args = ("add", "--all", *options, *where)
            finished = await git.run(*args, stdin=stdin, ok=(0, 1, 128))
            warnings = _links(finished.stderr)
            if command.all and _EMPTY in finished.stderr:  # the rest is staged all the same
                finished = await git.run(*args, "--ignore-errors", ok=(0, 1))
                warnings = _links(finished.stderr) + _empty(finished.stderr)
                finished = finished._replace(code=0)
            if "ignored by one of your" in finished.stderr:
                ignored = [
                    line
                    for line in finished.stderr.splitlines()
                    if line and not line.startswith(("The following", "hint:"))
                ]
                raise Conflict(
                    f"git ignores {', '.join(ignored[:3])[:300]}: nothing is staged; to stage it "
                    "nevertheless say force",
                    paths=ignored[:100],
                )
            if finished.code:
                raise await explained(args, finished, git.repository)
            return Staged(summary=await summarise(git), warnings=warnings)

    @handles(Unstage)
    async def unstage(self, command: Unstage, caller: Caller) -> Staged:
        """Take files out of the index; works before the first commit as well."""
        stdin = chosen(command.paths, everything=command.all)
        async with self._desk.at_work(command, caller) as git:
            # Everything is a path too: without one a merge under way would be forgotten.
            where = FROM_STDIN if stdin else ("--", ".")
            await git.run("reset", "--quiet", *where, stdin=stdin)
            return Staged(summary=await summarise(git))

    @handles(MakeCommit)
    async def commit(self, command: MakeCommit, caller: Caller) -> Committed:
        """Commit what is staged, or what the command names."""
        if command.all and command.paths is not None:
            raise BadRequest("all and paths exclude each other: leave one out")
        stdin = None
        message: tuple[str, ...] = ("--no-edit", "--cleanup=verbatim")
        if command.message is not None or not command.amend:
            message = FROM_INPUT
            stdin = message_bytes(command.message or "")
        author = author_of(command.author) if command.author is not None else None
        paths = _as_arguments(command.paths) if command.paths is not None else ()
        args = (
            *("commit", "--quiet", *message),
            *(["--all"] if command.all else []),
            *(["--signoff"] if command.sign_off else []),
            *(["--amend"] if command.amend else []),
            *(["--allow-empty"] if command.allow_empty else []),
            *([f"--author={author[0]} <{author[1]}>"] if author else []),
            *(["--only", "--", *paths] if paths else []),
        )
        async with self._desk.at_work(command, caller) as git:
            env = await _committer(git, author) if author else {}
            finished = await git.run(*args, stdin=stdin, env=env, ok=(0, 1, 128))
            if finished.code:
                raise await _refused(git, args, finished)
            return await _committed(git)


def _links(said: str) -> list[str]:
    """Return a warning for each repository that was staged as a link."""
    names = [line.removeprefix(_EMBEDDED) for line in said.splitlines() if _EMBEDDED in line]
    return [
        f"{name[:200]} is a repository of its own: only a link to its commit is staged, not its "
        "files; unstage it, or make it a submodule"
        for name in names[:WARNINGS]
    ]


def _empty(said: str) -> list[str]:
    """Return a warning for what could not be staged: repositories without a commit, mostly."""
    wrong = [line.removeprefix("error: ") for line in said.splitlines() if line[:7] == "error: "]
    return [f"not staged: {line[:300]}" for line in wrong[:WARNINGS]]


def chosen(paths: Sequence[str] | None, *, everything: bool) -> bytes | None:
    """Give paths for git's input, None for everything; BadRequest for both or neither."""
    if everything == (paths is not None):
        raise BadRequest("say either paths, or all: true")
    return arguments.paths(paths) if paths is not None else None


def author_of(text: str) -> tuple[str, str]:
    """Read "Name <mail>"; BadRequest for what git would take for something else."""
    found = _AUTHOR.fullmatch(text.strip()) if len(text) <= 500 else None
    if found is None or not text.isprintable():
        raise BadRequest(f"{text[:80]!r} is no author; write it as in Ada Lovelace <ada@host>")
    return found[1].strip(), found[2]


def _as_arguments(paths: Sequence[str]) -> Sequence[str]:
    """Give paths for behind `--`: the message already comes in by git's input."""
    given = arguments.paths(paths)
    if len(given) > PATHS_BYTES:
        raise TooLarge("that are too many paths for one commit: stage them, and commit without")
    return given.decode().split("\0")[:-1]


async def _committer(git: Work, author: tuple[str, str]) -> dict[str, str]:
    """Let the author be the committer where git knows of nobody else."""
    known = await git.run("var", "GIT_COMMITTER_IDENT", ok=(0, 1, 128))
    if not known.code:
        return {}
    return {"GIT_COMMITTER_NAME": author[0], "GIT_COMMITTER_EMAIL": author[1]}


async def _refused(git: Work, args: Sequence[str], finished: Finished) -> Exception:
    if _NOTHING.search(last_words(finished)):
        return Conflict("nothing is staged: stage what is to be committed, or say all or paths")
    if "No paths with --include/--only does not make sense" in finished.stderr:
        return Conflict("nothing is staged: stage what is to be committed, or say all or paths")
    if "unmerged files" in finished.stderr:
        return Conflict("files are in conflict: resolve and stage them, then commit")
    if "You have nothing to amend" in finished.stderr:
        return Conflict("there is no commit yet that could be amended")
    if "partial commit during a" in finished.stderr:
        return Conflict("a merge is committed as a whole: leave paths out")
    return await explained(args, finished, git.repository)


async def _committed(git: Work) -> Committed:
    """Look at the commit that is there now, as it differs from its first parent."""
    said = await git.text(
        *("-c", "log.showRoot=true", "log", "--max-count=1", "-m", "--first-parent"),
        *("--format=%H%x00%s%x00", "--shortstat", "--no-ext-diff", "--no-textconv"),
        *("--no-show-signature", "--no-notes", "--ignore-submodules=none", "HEAD", "--"),
    )
    commit, summary, stat = said.split("\0", 2)
    counts = {word: int(number) for number, word in _CHANGED.findall(stat)}
    left = await skipped(git, COMMIT, "commit.gpgSign")
    return Committed(
        commit=commit,
        summary=summary,
        files=counts.get("file", 0),
        insertions=counts.get("insertion", 0),
        deletions=counts.get("deletion", 0),
        hooks_skipped=left.hooks,
        signature_skipped=left.signature,
    )
