"""Folders listed, files read."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from daemon.core.events import Answer, Command, command

CHANNEL = "file:project:{project_id}"

DEPTH = 5
PAGE = 1000

Encoding = Literal[
    "utf-8",
    "utf-8-bom",
    "utf-16-le",
    "utf-16-le-bom",
    "utf-16-be",
    "utf-16-be-bom",
    "windows-1252",
    "iso-8859-1",
    "base64",
]
"""How bytes become text; with `-bom` the file begins with the mark, and the text without."""


class Entry(Answer):
    """What a folder holds under one `name`. `size` is in bytes, `modified_at` in Unix seconds.

    `ignored` says that git ignores it. A symlink has the `target` that it leads to in the project
    and that one's `target_type`; it is `outside` where it leads out, `broken` where nothing is
    there. `undecodable`: the name is no UTF-8 and cannot be given to any command. `entries` are
    those of a folder, where `depth` reaches it and they all had room.
    """

    name: str
    path: str
    type: Annotated[
        Literal["file", "dir", "symlink", "other"],
        Meta(description="What it is; `other` is what cannot be read, as a socket or a device."),
    ]
    size: int = 0
    modified_at: float = 0.0
    executable: Annotated[bool, Meta(description="Whether its owner may run it.")] = False
    ignored: bool = False
    target: str | None = None
    target_type: Literal["file", "dir", "other"] | None = None
    outside: bool = False
    broken: bool = False
    undecodable: bool = False
    entries: list[Entry] | None = None


class Tree(Answer):
    """One page of a folder: folders first, then by name without regard to case."""

    project_id: str
    path: Annotated[str, Meta(description="The folder that was asked for.")]
    entries: Annotated[list[Entry], Meta(description="What it holds, in order.")]
    next_cursor: str | None = None


class FileContent(Answer):
    """A file, or the part of it that was asked for.

    `content` is text by the `encoding`, without a byte order mark; it stands for the `length` bytes
    from `offset`. `truncated` says that more follows. `hash` is that of the whole file, as
    `sha256:` and 64 digits; it is absent where the file is large and it was not asked for, or where
    the file changed meanwhile. `mode` is as chmod(1) has it. `line_endings` are those of the
    content. `from_line` and `lines`: where it begins and how many they are, where lines were asked
    for.
    """

    project_id: str
    path: Annotated[str, Meta(description="The file, relative to the project.")]
    content: str
    encoding: Encoding
    size: Annotated[int, Meta(description="Bytes of the whole file.")]
    modified_at: Annotated[float, Meta(description="When it was last written, in Unix seconds.")]
    mode: str
    offset: int
    length: int
    truncated: bool = False
    hash: str | None = None
    line_endings: Literal["none", "lf", "crlf", "cr", "mixed"] = "none"
    from_line: int | None = None
    lines: int | None = None


@command("file.tree", action="read", channel=CHANNEL, answer=Tree)
class ListTree(Command):
    """List a folder of a project, page by page.

    `path` is the folder, empty for the project's own. Up to `depth` levels are listed as long as
    they have room on the page. `hidden` is for names that begin with a dot; `ignored` lists what
    git ignores as well, and marks it. Git's own folder is in no list.
    """

    project_id: str
    path: str = ""
    depth: Annotated[int, Meta(ge=1, le=DEPTH)] = 1
    cursor: str | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE)] = PAGE
    hidden: bool = True
    ignored: bool = False


@command("file.read", action="read", channel=CHANNEL, answer=FileContent)
class ReadFile(Command):
    """Read a file of a project: all of it, a range of bytes, or some lines.

    `encoding` auto finds out which one it is, and refuses what is no text; base64 gives any bytes.
    A range is `length` bytes from `offset`, moved so that it cuts no character. `lines` many lines
    begin at `from_line`, counted from 1. `hash` asks for the hash of a large file as well.
    """

    project_id: str
    path: Annotated[str, Meta(description="The file, relative to the project.")]
    encoding: Literal["auto"] | Encoding = "auto"
    offset: Annotated[int, Meta(ge=0)] | None = None
    length: Annotated[int, Meta(ge=1)] | None = None
    from_line: Annotated[int, Meta(ge=1)] | None = None
    lines: Annotated[int, Meta(ge=1)] | None = None
    hash: bool = False
