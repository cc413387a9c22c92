"""Goes over files for a search, and looks again at what another program says that it has found."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from daemon.core.errors import AgentcmdError
from domains.file.commands.searching import Match
from domains.file.disk.containment import explained, open_folder, placed
from domains.file.disk.reading import open_at
from domains.file.matching import Globs, Hit, shortened, spans_in
from domains.file.names import is_decodable, is_hidden, require_free, shown
from domains.file.texts import CODECS, detect

WALKED = 200_000
"""Files that are gone over where neither git nor ripgrep is there."""

FILE_BYTES = 32 << 20
"""Of one file, at most so much is searched for lines; of all together, `ALL_BYTES`."""

ALL_BYTES = 256 << 20

LARGE = 500
"""Files over FILE_BYTES, at most, that git is told to leave out."""

SLICE = 1 << 20

SPANS = 1000
"""Places in one line that are noted; fewer are told."""


class Checked(NamedTuple):
    """Matches, and whether there are more."""

    matches: list[Match]
    truncated: bool


class Content(NamedTuple):
    """A text, and whether the file has more of it."""

    data: bytes
    is_cut: bool


def ripgrep() -> str | None:
    """Find ripgrep."""
    return shutil.which("rg")


def large(root: str, paths: Iterable[bytes]) -> list[str] | None:
    """Choose the files that are too large to be searched; None for more than LARGE."""
    found = set()
    for path in map(os.fsdecode, paths):
        if path and is_large(root, path):
            found.add(path)
        if len(found) > LARGE:
            return None
    return sorted(found)


def leaves_out(root: str, paths: Iterable[str], globs: Globs) -> bool:
    """Return whether a text that was to be searched is among these files, and too large for it."""
    for path in paths:
        if not is_large(root, path):
            continue
        parts = tuple(path.split("/"))
        is_asked = is_decodable(path) and not is_hidden(parts) and globs.allow(parts)
        if is_asked and _content(root, parts, SLICE).data:
            return True
    return False


def is_large(root: str, path: str) -> bool:
    """Return whether there is a file that is too large to be searched."""
    try:
        found = os.lstat(os.path.join(root, path))  # noqa: PTH118
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size > FILE_BYTES


def located(root: str, parts: Sequence[str]) -> tuple[str, ...]:
    """Give the path with all symlinks resolved, of something that exists."""
    with placed(root, parts) as place:
        place.required()
        return place.parts


def existing(root: str, paths: Iterable[str], most: int) -> Iterator[str]:
    """Give those of some paths that are there, without symlinks on the way."""
    count = 0
    for path in paths:
        if count == most:
            return
        parts = tuple(path.split("/"))
        try:
            require_free(parts)
            with placed(root, parts, follow=False) as place:
                if place.found is None or place.parts != parts:
                    continue
        except AgentcmdError:
            continue
        count += 1
        yield path


def checked(root: str, hits: Iterable[Hit], globs: Globs, *, most: int) -> Checked:
    """Read the lines in which something was found, from files that are opened as all others are.

    What a program finds it has read by path: between two looks that may lead elsewhere. So its word
    is only where to look; a line that is not there is left out.
    """
    matches: list[Match] = []
    left, cut = ALL_BYTES, False
    found: dict[bytes, list[Hit]] = {}
    for hit in hits:
        found.setdefault(hit.path, []).append(hit)
    for path in sorted(found):
        name = os.fsdecode(path)
        parts = tuple(name.split("/"))
        if not is_decodable(name) or is_hidden(parts) or not globs.allow(parts):
            continue
        if len(matches) >= most or left <= 0:
            return Checked(matches[:most], truncated=True)
        data, is_cut = _content(root, parts, left)
        cut, left = cut or is_cut, left - len(data)
        matches += _in_file(name, data, sorted(found[path]), most + 1 - len(matches))
    return Checked(matches[:most], truncated=cut or len(matches) > most)


def walked(root: str, parts: Sequence[str]) -> Iterator[str]:
    """Go over the files below a folder, in no repository; bounded."""
    count = 0
    with placed(root, parts) as place, explained(parts):
        if not place.is_folder():
            place.required()
            yield "/".join(place.parts)
            return
        top = open_folder(place, root)
        try:
            for where, folders, files, _ in os.fwalk(".", dir_fd=top):
                here = (*place.parts, *(part for part in where.split("/") if part != "."))
                folders[:] = sorted(name for name in folders if not is_hidden((*here, name)))
                for name in sorted(files):
                    count += 1
                    if count > WALKED:
                        return
                    if is_decodable(name) and not is_hidden((*here, name)):
                        yield "/".join((*here, name))
        finally:
            os.close(top)


def scanned(
    root: str, parts: Sequence[str], query: bytes, globs: Globs, *, sensitive: bool, most: int,
    deadline: float,
) -> Checked:  # fmt: skip
    """Search the files below a folder for a part of a line, ourselves; until a time has come.

    Without regard to case means the letters of ASCII here.
    """
    wanted = query if sensitive else query.lower()
    matches: list[Match] = []
    left, count, cut = ALL_BYTES, 0, False
    for path in walked(root, parts):
        where = tuple(path.split("/"))
        count += 1
        if not globs.allow(where):
            continue
        if left <= 0 or time.monotonic() > deadline:
            return Checked(matches[:most], truncated=True)
        data, is_cut = _content(root, where, left)
        cut, left = cut or is_cut, left - len(data)
        hits = _hits(data if sensitive else data.lower(), wanted)
        matches += _in_file(path, data, hits, most + 1 - len(matches))
        if len(matches) > most:
            break
    truncated = cut or len(matches) > most or count >= WALKED
    ordered = sorted(matches[:most], key=lambda match: match.path)
    return Checked(ordered, truncated)


def _hits(data: bytes, wanted: bytes) -> Iterator[Hit]:
    number, seen, at = 1, 0, data.find(wanted)
    while at >= 0:
        number += data.count(b"\n", seen, at)
        start, seen = data.rfind(b"\n", 0, at) + 1, at
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        spans: list[tuple[int, int]] = []
        while 0 <= at < end:
            if len(spans) < SPANS:
                spans.append((at - start, at - start + len(wanted)))
            at = data.find(wanted, at + len(wanted))
        yield Hit(b"", number, tuple(spans))


def _content(root: str, parts: tuple[str, ...], most: int) -> Content:
    """Read a text file, as UTF-8 or what holds its letters likewise; nothing where it is none."""
    nothing, most = Content(b"", is_cut=False), min(most, FILE_BYTES)
    try:
        require_free(parts)
        with placed(root, parts, follow=False) as place, explained(parts):
            if place.found is None or place.parts != parts:
                return nothing
            file = open_at(place)
            try:
                data = b""
                while len(data) < most and (more := os.read(file, SLICE)):
                    data += more
                is_cut = len(data) >= most and bool(os.read(file, 1))
            finally:
                os.close(file)
    except AgentcmdError:
        return nothing
    encoding = detect(data[:SLICE], complete=False)
    if encoding is None:
        return nothing
    codec = CODECS[encoding]
    data = data[len(codec.mark) :]
    if codec.unit > 1:
        data = data.decode(codec.python, "replace").encode()
    return Content(data, is_cut)


def _in_file(path: str, data: bytes, hits: Iterable[Hit], most: int) -> Iterator[Match]:
    count, number, start = 0, 1, 0
    for hit in hits:
        if count == most:
            return
        while number < hit.line and start >= 0:
            start = data.find(b"\n", start) + 1 or -1
            number += 1
        if start < 0 or hit.line != number:
            continue
        end = data.find(b"\n", start)
        line = data[start : end if end >= 0 else len(data)].removesuffix(b"\r")
        spans = spans_in(line, hit)
        if spans:
            count += 1
            text, column, ranges, cut = shortened(line, spans)
            yield Match(
                path=shown((path,)), line=hit.line, column=column, text=text, ranges=ranges, cut=cut
            )
