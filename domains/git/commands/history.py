"""What led to where a repository is: its commits, and who wrote which line."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from daemon.core.events import Answer, command
from domains.git.answers import Commit, Person
from domains.git.commands.making import CHANNEL
from domains.git.desk import GitCommand

Words = Annotated[str, Meta(min_length=1, max_length=500)]
Line = Annotated[int, Meta(ge=1, le=100_000_000)]


class Commits(Answer):
    """One page of a log, the newest first; `commits` are those of this page.

    `tip` is the commit that the pages begin at: all pages of one log are of the same commits,
    whatever arrives meanwhile; a log of `TIP..main` is what has. `next_cursor` leads to the older
    ones, `previous_cursor` to the newer ones; each is absent at its end.
    """

    commits: list[Commit]
    tip: str | None = None
    next_cursor: str | None = None
    previous_cursor: str | None = None


@command("git.log", action="read", channel=CHANNEL, answer=Commits)
class GetLog(GitCommand):
    """List the commits that led to a `revision`, or those of a range as in v1.0..main.

    `paths` leaves those that touched one of them, and with `follow` the one file that it names is
    found under its earlier names, too. `author` and `grep` leave those whose author or message has
    these words, in whatever case; `since` and `until` those of that time, in Unix seconds. The
    filters of a page are those of the first one: with `cursor`, give the same again.
    """

    revision: str = "HEAD"
    paths: Annotated[list[str], Meta(max_length=1000)] = field(default_factory=list)
    follow: bool = False
    author: Words | None = None
    grep: Words | None = None
    since: Annotated[int, Meta(ge=0, le=1 << 40)] | None = None
    until: Annotated[int, Meta(ge=0, le=1 << 40)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
    cursor: (
        Annotated[
            str, Meta(max_length=4_000, description="A cursor that a page of this log has given.")
        ]
        | None
    ) = None


class BlamedCommit(Answer):
    """A commit that has written lines; `summary` is the first line of its message.

    The `author` wrote them, and the `committer` put the commit where it is.
    `path` is what the file was called in it. `boundary`: it is the first one, or older than what
    was asked for. `uncommitted`: it stands for what the work tree has changed, and has no `id` that
    git knows.
    """

    id: str
    author: Person
    committer: Person
    summary: str
    path: str
    boundary: bool = False
    uncommitted: bool = False


class BlamedLines(Answer):
    """Lines that one commit has written; `commit` is its place in the table, beginning with 0.

    `line` is the first of them, `original_line` the same in that commit, and `count` how many.
    `text` are the lines, each with its newline. `truncated`: a line is longer than shown.
    """

    commit: int
    line: int
    original_line: int
    count: int
    text: str = ""
    truncated: bool = False


class Blame(Answer):
    """Who has written which lines of a file: `path`, at `revision` or in the work tree.

    `commits` are each told once, and `lines` are in the order of the file. `next_line` is where to
    go on, absent at the end of the file or of what was asked for. `lossy`: the file is no UTF-8.
    """

    path: str
    commits: list[BlamedCommit]
    lines: list[BlamedLines]
    revision: str | None = None
    next_line: int | None = None
    lossy: bool = False


@command("git.blame", action="read", channel=CHANNEL, answer=Blame)
class GetBlame(GitCommand):
    """Tell who has written which lines of a file, at a `revision` or in the work tree.

    `path` is relative to the project. `start_line` and `end_line` are the first and the last one
    that are told, and `limit` is how many at most. `ignore_whitespace` looks behind commits that
    have changed nothing else.
    """

    path: str
    revision: str | None = None
    start_line: Line = 1
    end_line: Line | None = None
    limit: Annotated[int, Meta(ge=1, le=20_000)] = 2_000
    ignore_whitespace: bool = False
