"""Names and contents searched."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from daemon.core.events import Answer, Command, command
from domains.file.commands.looking import CHANNEL

LIMIT = 2000


class Range(Answer):
    """Characters from `start` to before `end`, counted from 0."""

    start: int
    end: int


class Match(Answer):
    """One line that matches, or one file whose name does.

    `line` and `column` count from 1, `column` in characters. `text` is the line, cut around the
    match where it is long (`cut`); `ranges` are what matches, in the text or in the path.
    """

    path: Annotated[str, Meta(description="The file, relative to the project.")]
    line: int | None = None
    column: int | None = None
    text: str | None = None
    ranges: list[Range] = msgspec.field(default_factory=list)
    cut: bool = False


class Matches(Answer):
    """What was found, by path and line; names by how well they fit.

    `truncated`: there may be more; ask for less, or a text was too large to be searched. `by` tells
    what has searched.
    """

    project_id: str
    matches: Annotated[list[Match], Meta(description="What matches.")]
    by: Literal["ripgrep", "git", "walk"]
    truncated: bool = False


@command("file.search", action="read", channel=CHANNEL, answer=Matches)
class SearchFiles(Command):
    r"""Search the files of a project, without what git ignores.

    `in` names the `query` are the letters of a path, in order; in contents it is a part of a line,
    or with `regex` an expression as ripgrep has them, or Perl where only git is there. `case` smart
    minds case where the query has a capital. `path` is the folder or file to search. `globs` leave
    only paths that match one of them; one that begins with ! leaves out what matches it. Of files
    over 32 MiB not all is searched, or nothing; at the time limit what was found is given. Both are
    `truncated`.
    """

    project_id: str
    query: Annotated[str, Meta(min_length=1, max_length=1000, description="What is looked for.")]
    in_: Annotated[Literal["names", "contents"], Meta(description="Where it is looked for.")] = (
        msgspec.field(default="contents", name="in")
    )
    path: str = ""
    regex: bool = False
    case: Literal["smart", "sensitive", "insensitive"] = "smart"
    globs: Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=20)] = (
        msgspec.field(default_factory=list)
    )
    limit: Annotated[int, Meta(ge=1, le=LIMIT)] = 200
