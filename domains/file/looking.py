"""Lists folders and reads files."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
from collections.abc import Mapping, Sequence

from msgspec import structs

from daemon.core.commands import Caller, handles
from daemon.core.errors import BadRequest
from domains.file.commands.looking import Entry, FileContent, ListTree, ReadFile, Tree
from domains.file.disk.listing import (
    FILE,
    FOLDER,
    Listing,
    described,
    key_of,
    listing,
    listings,
    name_of,
)
from domains.file.disk.reading import read
from domains.file.ground import Ground
from domains.file.names import is_decodable, parts_of, shown

NO_FILES = (0, 1, 128)
"""What git check-ignore ends with; 128 for what lies in another repository, as a submodule."""

NAMED = 20
"""Paths that are named to git where it is asked what it has of them. Beyond, it lists all that it
has, which takes less than looking for 50 in an index of 50,000 files."""

INDEX_BYTES = 16 << 20
"""Such a list that is longer is made anew, of what git ignores alone; that takes git longer."""

AHEAD = 4
"""Pages that are read of a folder at once, as git may ignore much of them."""

ROUNDS = 50
"""Times that this is done for one page, where git ignores nearly all that a folder holds."""


class Looking:
    """What only looks."""

    def __init__(self, ground: Ground) -> None:
        """Look around here."""
        self._ground = ground

    @handles(ListTree)
    async def tree(self, command: ListTree, _: Caller) -> Tree:
        """List a folder."""
        root = self._ground.projects.root(command.project_id)
        parts = parts_of(command.path, empty=True)
        page = await self._page(command, root, parts)
        entries = await asyncio.to_thread(described, root, page.parts, page.names)
        if command.ignored:
            paths = [(*page.parts, name) for name in page.names]
            entries = _marked(entries, await self._ignored(command.project_id, paths))
        if command.depth > 1:
            entries = await self._deeper(command, root, entries, command.limit - len(entries))
        return Tree(
            project_id=command.project_id,
            path=shown(parts),
            entries=entries,
            next_cursor=_put_together(page.keys[-1]) if page.more else None,
        )

    @handles(ReadFile)
    async def read(self, command: ReadFile, _: Caller) -> FileContent:
        """Read a file."""
        settings = self._ground.settings
        root = self._ground.projects.root(command.project_id)
        parts = parts_of(command.path)
        return await asyncio.to_thread(
            read, root, parts, command, most=settings.read_bytes, hashed=settings.hash_bytes
        )

    async def _page(self, command: ListTree, root: str, parts: Sequence[str]) -> Listing:
        """Choose one page of a folder, without what git ignores unless that is asked for."""
        page: list[str] = []
        after, limit = _taken_apart(command.cursor), command.limit
        found = Listing((), [], more=True)
        for _ in range(ROUNDS):
            found = await asyncio.to_thread(
                listing, root, parts, hidden=command.hidden, after=after, most=AHEAD * limit
            )
            for at in range(0, len(found.keys), limit):
                part = found.keys[at : at + limit]
                paths = {(*found.parts, name_of(key)): key for key in part}
                if not command.ignored:
                    for path in await self._ignored(command.project_id, list(paths)):
                        del paths[path]
                page += paths.values()
                if len(page) >= limit:
                    more = found.more or page[limit - 1] != found.keys[-1]
                    return Listing(found.parts, page[:limit], more)
            if not found.more:
                break
            after = found.keys[-1]
        return Listing(found.parts, page, more=found.more and bool(page))

    async def _deeper(
        self, command: ListTree, root: str, entries: list[Entry], room: int
    ) -> list[Entry]:
        """List the folders among entries as well, level by level, those that have room as a whole.

        Git is asked once a level.
        """
        known: dict[str, list[Entry]] = {}
        level = entries
        for _ in range(command.depth - 1):
            folders = [
                tuple(each.path.split("/"))
                for each in level
                if each.type == "dir" and not each.undecodable and not each.ignored
            ]
            level = []
            found = await asyncio.to_thread(listings, root, folders, hidden=command.hidden)
            paths = [(*one.parts, name) for one in found for name in one.names]
            ignored = await self._ignored(command.project_id, paths)
            for one in found:
                names = [
                    name
                    for name in one.names
                    if command.ignored or (*one.parts, name) not in ignored
                ]
                if len(names) <= room:
                    inner = await asyncio.to_thread(described, root, one.parts, names)
                    inner = _marked(inner, ignored)
                    room -= len(inner)
                    known[shown(one.parts)] = inner
                    level += inner
        return _nested(entries, known)

    async def _ignored(
        self, project_id: str, paths: Sequence[tuple[str, ...]]
    ) -> set[tuple[str, ...]]:
        """Ask git which of some paths it ignores: none where there is no repository.

        The index is left out of it: git would go over all of it for each path. And check-ignore
        does not know literal paths; one that begins with `./` is one.
        """
        if not paths:
            return set()
        asked, given = await asyncio.to_thread(_asked, paths)
        said = await self._ground.git.read(
            project_id,
            *("--no-literal-pathspecs", "check-ignore", "--no-index", "-z", "--stdin"),
            stdin=given,
            ok=NO_FILES,
        )
        ignored = {path for path in (said or b"").split(b"\0") if path in asked}
        if ignored:
            ignored -= await self._tracked(project_id, ignored)
        return {asked[path] for path in ignored}

    async def _tracked(self, project_id: str, paths: set[bytes]) -> set[bytes]:
        """Find those that are, or hold, files that git ignores by pattern but has nevertheless."""
        git, named = self._ground.git, [os.fsdecode(path[2:]) for path in paths]
        which = ("--", *filter(is_decodable, named)) if len(named) <= NAMED else ()
        args = ("ls-files", "-c", "-z")
        said = await git.read(project_id, *args, *which, limit=INDEX_BYTES, cut=True) or b""
        if len(said) >= INDEX_BYTES:
            said = await git.read(project_id, *args, "-i", "--exclude-standard") or b""
        return await asyncio.to_thread(_held, said, paths)


def _held(said: bytes, paths: set[bytes]) -> set[bytes]:
    """Choose the paths that are among those that git says, or folders of some."""
    held = set()
    for path in said.split(b"\0"):
        at = len(path)
        while at > 0:
            if (around := b"./" + path[:at]) in paths:
                held.add(around)
            at = path.rfind(b"/", 0, at)
    return held


def _asked(paths: Sequence[tuple[str, ...]]) -> tuple[dict[bytes, tuple[str, ...]], bytes]:
    """Give paths by how git is asked about them, and what it is given to read."""
    asked = {os.fsencode("/".join((".", *path))): path for path in paths}
    return asked, b"".join(path + b"\0" for path in asked)


def _marked(entries: Sequence[Entry], ignored: set[tuple[str, ...]]) -> list[Entry]:
    paths = {shown(path) for path in ignored}
    return [structs.replace(each, ignored=each.path in paths) for each in entries]


def _nested(entries: Sequence[Entry], known: Mapping[str, list[Entry]]) -> list[Entry]:
    return [
        structs.replace(each, entries=_nested(known[each.path], known))
        if each.path in known
        else each
        for each in entries
    ]


def _put_together(key: str) -> str:
    """Make the cursor of the page after a name; it stays right while the folder changes."""
    return base64.urlsafe_b64encode(os.fsencode(key[0] + name_of(key))).decode().rstrip("=")


def _taken_apart(cursor: str | None) -> str:
    if cursor is None:
        return ""
    try:
        text = os.fsdecode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        text = ""
    if text[:1] not in (FILE, FOLDER):
        raise BadRequest("that is no cursor of file.tree; give the nextCursor of the page before")
    return key_of(text[1:], folder=text[0] == FOLDER)
