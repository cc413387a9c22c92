"""The bytes of files that git converts: which files those are, and their bytes as blobs.

A tree holds what git makes of a file, and the work tree what git makes of that again: line endings,
an encoding, keywords and filters need not be the same after both. So what such a file really holds
is kept as it is, beside the tree.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from daemon.core.errand import Finished
from daemon.core.errors import Unavailable

REGULAR = (b"100644", b"100755")
"""The modes of files in a tree that are neither links nor submodules."""

FILTERED_BYTES = 64 << 20
"""Most of the files that a filter converts that is kept; those beyond come back by the filter."""

TRIES = 20
"""Files of one listing that may be gone before they are read."""

_ATTRIBUTES = ("text", "crlf", "eol", "ident", "filter", "working-tree-encoding")

_NOT_BINARY = ":(exclude,attr:-text !ident !filter !working-tree-encoding)"
_ANY = f":(exclude,attr:{' '.join(f'!{name}' for name in _ATTRIBUTES)})"

_KEYS = r"^(core\.(autocrlf|eol)|filter\..*\.(clean|smudge|process))$"

_LOSSLESS = re.compile(rb"lfs|annex|git-crypt(-.*)?|crypt")
"""Filters that give back what they took, of files that are large or that nobody else may read."""

_UNSPECIFIED, _UNSET = b"unspecified", b"unset"


class Run(Protocol):
    """Runs git with the index of a snapshot."""

    async def __call__(
        self, *args: str, stdin: bytes | None = None, ok: tuple[int, ...] = (0,)
    ) -> Finished:
        """Run `git ARGS`; another exit code than those is an error."""


class _Entry(NamedTuple):
    path: bytes
    object_id: bytes
    size: int


class _How(Enum):
    """How git converts a file."""

    NOT = "its blob is what it holds"
    IN = "line endings on the way in: a blob of the same size is what it holds"
    BOTH = "line endings on the way in and out"
    CONTENT = "more than line endings, by git itself"
    FILTER = "by a filter that may lose something"
    LOSSLESS = "by a filter that loses nothing, unless it was left out"


class Settings(NamedTuple):
    """What is configured of conversion: `crlf` for files without an attribute, filters' names."""

    autocrlf: bytes = b"false"
    eol: bytes = b"lf"
    filters: frozenset[bytes] = frozenset()

    def unfiltered(self) -> tuple[str, ...]:
        """Return the options with which git runs no filter."""
        names = sorted(name for name in self.filters if b"=" not in name)
        return tuple(
            word
            for name in names
            for key in ("clean=", "process=", "required=false")
            for word in ("-c", f"filter.{os.fsdecode(name)}.{key}")
        )


async def settings(run: Run) -> Settings:
    """Return what is configured of conversion."""
    said = await run("config", "-z", "--get-regexp", _KEYS, ok=(0, 1))
    return _settings_of(said.stdout)


async def converted(run: Run, root: str, configured: Settings) -> dict[bytes, bytes]:
    """Return the blobs of files whose bytes a checkout of the index need not give, by their paths.

    Of any other file the bytes are the blob that the index has.
    """
    some = _ANY if configured.autocrlf == b"false" else None
    which = [each for each in (".", _NOT_BINARY, some) if each]
    listed = await run("ls-files", "--stage", "-z", "--", *which)
    if not listed.stdout:
        return {}
    entries = await asyncio.to_thread(_on_disk, root, listed.stdout)
    if not entries:
        return {}
    ways = await _ways(run, [each.path for each in entries], configured)
    return await _kept(run, [each for each in entries if each.path in ways], ways)


async def by_content(run: Run, paths: Sequence[bytes], configured: Settings) -> list[bytes]:
    """Return which of these files git converts by more than their line endings."""
    ways = await _ways(run, paths, configured)
    return [path for path in paths if ways.get(path) in (*_BY_CONTENT, _How.LOSSLESS)]


async def _ways(run: Run, paths: Sequence[bytes], configured: Settings) -> dict[bytes, _How]:
    """Return how files are converted; those that are not are missing."""
    said = await run(
        *("check-attr", "-z", "--stdin", *_ATTRIBUTES),
        stdin=b"".join(path + b"\0" for path in paths),
    )
    return await asyncio.to_thread(_ways_of, said.stdout, configured)


async def _kept(
    run: Run, entries: Sequence[_Entry], ways: Mapping[bytes, _How]
) -> dict[bytes, bytes]:
    """Return what is to be kept of these files, after writing it."""
    sizes = await _sizes(run, [each for each in entries if ways[each.path] not in _BY_CONTENT])
    found: dict[bytes, bytes] = {}
    read: list[bytes] = []
    room = FILTERED_BYTES
    for each in entries:
        way, same = ways[each.path], sizes.get(each.object_id) == each.size
        if way is _How.BOTH and same:
            found[each.path] = each.object_id
        elif way is _How.FILTER:
            room -= each.size
            if room >= 0:
                read.append(each.path)
        elif same if way is _How.LOSSLESS else not same:
            read.append(each.path)
    blobs = {each.path: each.object_id for each in entries}
    written = await hashed(run, read)
    return found | {
        path: object_id
        for path, object_id in written.items()
        if ways[path] is not _How.LOSSLESS or object_id == blobs[path]
    }


_BY_CONTENT = (_How.CONTENT, _How.FILTER)


async def _sizes(run: Run, entries: Sequence[_Entry]) -> dict[bytes, int]:
    """Return the sizes of blobs by their ids."""
    if not entries:
        return {}
    wanted = b"".join(each + b"\n" for each in {each.object_id for each in entries})
    said = await run("cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=wanted)
    lines = (line.partition(b" ") for line in said.stdout.splitlines())
    return {object_id: int(size) for object_id, _, size in lines if size.isdigit()}


async def hashed(run: Run, paths: Sequence[bytes]) -> dict[bytes, bytes]:
    """Write files as blobs, just as they are; one that is gone meanwhile is left out."""
    found: dict[bytes, bytes] = {}
    for _ in range(TRIES):
        if not paths:
            return found
        said = await run(
            *("hash-object", "-w", "--no-filters", "--stdin-paths"),
            stdin=b"".join(_quoted(path) + b"\n" for path in paths),
            ok=(0, 128),
        )
        ids = said.stdout.split()
        found.update(zip(paths, ids, strict=False))
        paths = paths[len(ids) + 1 :]
    raise Unavailable("files change faster than a snapshot reads them; try again")


def _quoted(path: bytes) -> bytes:
    """Quote a path as in C: a line can hold any then."""
    return b'"%s"' % b"".join(b"\\%03o" % each for each in path)


def _on_disk(root: str, listing: bytes) -> list[_Entry]:
    """Read `ls-files --stage -z`, and look at each regular file: `MODE ID STAGE`, tab, path."""
    top = os.fsencode(root)
    found = []
    for entry in listing.split(b"\0")[:-1]:
        about, _, path = entry.partition(b"\t")
        mode, object_id, _ = about.split(b" ")
        place = os.path.join(top, path)  # noqa: PTH118  # bytes
        if mode not in REGULAR:
            continue
        try:
            state = os.lstat(place)
        except OSError:
            continue
        if stat.S_ISREG(state.st_mode) and os.access(place, os.R_OK):
            found.append(_Entry(path, object_id, state.st_size))
    return found


def _ways_of(output: bytes, configured: Settings) -> dict[bytes, _How]:
    """Read `check-attr -z`: path, name and value, for each name; gives the files converted."""
    fields = output.split(b"\0")[:-1]
    width = 3 * len(_ATTRIBUTES)
    found: dict[bytes, _How] = {}
    for at in range(0, len(fields), width):
        way = _how(*fields[at + 2 : at + width : 3], configured=configured)
        if way is not _How.NOT:
            found[fields[at]] = way
    return found


def _how(  # one for each attribute
    text: bytes,
    crlf: bytes,
    eol: bytes,
    ident: bytes,
    driver: bytes,
    encoding: bytes,
    *,
    configured: Settings,
) -> _How:
    if driver in configured.filters:
        return _How.LOSSLESS if _LOSSLESS.fullmatch(driver) else _How.FILTER
    if ident == b"set" or encoding not in (_UNSPECIFIED, _UNSET, b"set"):
        return _How.CONTENT
    return _endings(text if text != _UNSPECIFIED else crlf, eol, configured)


def _endings(text: bytes, eol: bytes, configured: Settings) -> _How:
    """Return how line endings are converted, as gitattributes(5) and git-config(1) say."""
    if text == _UNSET:
        return _How.NOT
    if eol == b"crlf":
        return _How.BOTH
    if eol == b"lf" or text == b"input" or configured.autocrlf == b"input":
        return _How.IN
    if configured.autocrlf == b"true":
        return _How.BOTH
    if text == _UNSPECIFIED:
        return _How.NOT
    return _How.BOTH if configured.eol == b"crlf" else _How.IN


def _settings_of(listing: bytes) -> Settings:
    """Read `config -z --get-regexp`: the last word counts; a key without a value is true."""
    said = dict(_words(listing))
    return Settings(
        autocrlf=_autocrlf(said.get(b"core.autocrlf", b"false")),
        eol=said.get(b"core.eol", b"lf").lower(),
        filters=frozenset(
            key.removeprefix(b"filter.").rpartition(b".")[0]
            for key, value in said.items()
            if key.startswith(b"filter.") and value
        ),
    )


def _words(listing: bytes) -> Iterator[tuple[bytes, bytes]]:
    entries: Iterable[bytes] = listing.split(b"\0")[:-1]
    for entry in entries:
        key, equals, value = entry.partition(b"\n")
        yield key, value if equals else b"true"


def _autocrlf(value: bytes) -> bytes:
    value = value.lower()
    if value == b"input":
        return value
    return b"false" if value in (b"", b"false", b"no", b"off", b"0") else b"true"
