"""What a search finds: the words of ripgrep and git read, paths chosen and ranked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import translate
from heapq import nsmallest
from typing import NamedTuple

import msgspec

from daemon.core.errors import BadRequest
from domains.file.commands.searching import Range

TEXT = 400
"""Characters of a line that are told; what is longer is cut around its first match."""

BEFORE = 80
"""Characters before the first match, in a line that is cut."""


PATTERNS = 100
"""Patterns that braces may make of one."""

_BRACES = re.compile(r"\{([^{}]*)\}")


class Hit(NamedTuple):
    """A line in which a search has found something: spans are in bytes, or just texts in order."""

    path: bytes
    line: int
    spans: tuple[tuple[int, int], ...] = ()
    texts: tuple[bytes, ...] = ()


class _Text(msgspec.Struct):
    text: str | None = None
    bytes: str | None = None


class _Span(msgspec.Struct):
    start: int
    end: int


class _Data(msgspec.Struct):
    path: _Text | None = None
    line_number: int | None = None
    submatches: list[_Span] = []


class _Line(msgspec.Struct):
    type: str
    data: _Data


def of_ripgrep(output: bytes) -> Iterator[Hit]:
    """Read what `rg --json` prints, without an unfinished last line and undecodable paths."""
    decoder = msgspec.json.Decoder(_Line)
    for line in output.split(b"\n"):
        if not line.startswith(b'{"type":"match"'):
            continue
        try:
            data = decoder.decode(line).data
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if data.path is not None and data.path.text is not None and data.line_number is not None:
            path = data.path.text.removeprefix("./").encode()
            yield Hit(path, data.line_number, tuple((s.start, s.end) for s in data.submatches))


def of_git(output: bytes) -> Iterator[Hit]:
    """Read what `git grep -z -n --column -o` prints: one record a match, which become one a line.

    Git counts the column of the first match of a line rightly, and no other.
    """
    at = 0
    path, line, column = b"", 0, 0
    texts: list[bytes] = []
    while (end := output.find(b"\n", _third(output, at))) >= 0:
        found, number, place, text = output[at:end].split(b"\0", 3)
        if texts and (found != path or int(number) != line):
            yield Hit(path, line, ((column, column + len(texts[0])),), tuple(texts[1:]))
            texts = []
        if not texts:
            path, line, column = found, int(number), int(place) - 1
        texts.append(text)
        at = end + 1
    if texts:
        yield Hit(path, line, ((column, column + len(texts[0])),), tuple(texts[1:]))


def _third(output: bytes, at: int) -> int:
    """Find the third NUL from a place on: a path may hold newlines, what follows it may not."""
    for _ in range(3):
        at = output.find(b"\0", at) + 1
        if not at:
            return len(output)
    return at


def spans_in(line: bytes, hit: Hit) -> list[tuple[int, int]]:
    """Give the spans of a hit in its line."""
    spans = [span for span in hit.spans if span[0] < span[1] <= len(line)]
    place = spans[-1][1] if spans else 0
    for text in hit.texts:
        found = line.find(text, place)
        if found < 0:
            break
        place = found + len(text)
        spans.append((found, place))
    return spans


class Shortened(NamedTuple):
    """A line as a client gets it: spans in characters, of the text that is told."""

    text: str
    column: int
    ranges: list[Range]
    cut: bool


def shortened(line: bytes, spans: Sequence[tuple[int, int]]) -> Shortened:
    """Turn a line into text, cut where it is long, with its spans counted in characters."""
    text = line.decode(errors="replace")
    places = [
        (len(line[:start].decode(errors="replace")), len(line[:end].decode(errors="replace")))
        for start, end in spans[:100]
    ]
    first = places[0][0] if places else 0
    if len(text) <= TEXT:
        return Shortened(text, first + 1, ranges_of(places), cut=False)
    begin = max(0, min(first - BEFORE, len(text) - TEXT))
    end = begin + TEXT
    shifted = [(a - begin, min(b, end) - begin) for a, b in places if a < end]
    return Shortened(text[begin:end], first + 1, ranges_of(shifted), cut=True)


def ranges_of(spans: Iterable[tuple[int, int]]) -> list[Range]:
    """Give spans as clients get them."""
    return [Range(start=start, end=end) for start, end in spans]


class Globs:
    """Chooses paths, as .gitignore(5) and ripgrep's `--glob` read their patterns."""

    def __init__(self, globs: Iterable[str]) -> None:
        """Take patterns; those that begin with ! leave out what they match."""
        self._rules = [
            (not glob.startswith("!"), _Glob(pattern))
            for glob in globs
            for pattern in _without_braces(glob.removeprefix("!"))
        ]
        self._named = any(takes for takes, _ in self._rules)

    def allow(self, parts: Sequence[str]) -> bool:
        """Tell whether a path is to be looked at; the last pattern that matches it counts."""
        for takes, glob in reversed(self._rules):
            if glob.matches(parts):
                return takes
        return not self._named


class _Glob:
    """One pattern without braces, matched step by step, so that no pattern takes long."""

    def __init__(self, glob: str) -> None:
        steps = [step for step in glob.split("/") if step]
        if "/" not in glob.rstrip("/"):
            steps.insert(0, "**")  # a name alone is one in any folder
        self._steps = [None if step == "**" else re.compile(translate(step)) for step in steps]

    def matches(self, parts: Sequence[str]) -> bool:
        """Tell whether the path matches, or a folder on its way."""
        states = self._with_nothing({0})
        for part in parts:
            states = self._with_nothing(
                {after for state in states for after in self._after(state, part)}
            )
            if len(self._steps) in states:
                return True
        return False

    def _after(self, state: int, part: str) -> Iterator[int]:
        if state < len(self._steps):
            step = self._steps[state]
            if step is None:
                yield state
            elif step.match(part):
                yield state + 1

    def _with_nothing(self, states: set[int]) -> set[int]:
        """Add what follows each `**`, which is no folder as well."""
        for place, step in enumerate(self._steps):
            if step is None and place in states:
                states.add(place + 1)
        return states


def _without_braces(glob: str) -> list[str]:
    """Write a pattern as several where it has `{a,b}`; BadRequest for too many."""
    found, done = [glob], []
    while found:
        pattern = found.pop()
        inner = _BRACES.search(pattern)
        if inner is None:
            done.append(pattern)
        else:
            before, after = pattern[: inner.start()], pattern[inner.end() :]
            found += [f"{before}{each}{after}" for each in inner[1].split(",")]
        if len(found) + len(done) > PATTERNS:
            raise BadRequest(f"the glob {glob[:80]!r} stands for too many; write simpler ones")
    return done


def ranked(
    paths: Iterable[str], query: str, *, sensitive: bool, most: int
) -> list[tuple[str, list[tuple[int, int]]]]:
    """Give the paths that fit best: by a part of the name, of the path, or by their letters."""
    wanted = query if sensitive else query.lower()

    def fitting() -> Iterator[tuple[int, int, str]]:
        for path in paths:
            where = _where(_read(path, sensitive=sensitive), wanted)
            if where is not None:
                yield where[0], len(path), path

    best = nsmallest(most, fitting())  # in a loop of Python, which lets other threads run
    return [
        (path, where[1])
        for _, _, path in best
        if (where := _where(_read(path, sensitive=sensitive), wanted)) is not None
    ]


def _read(path: str, *, sensitive: bool) -> str:
    """Give a path as it is compared: of the same length, so that places in it are the same."""
    text = path if sensitive else path.lower()
    return text if len(text) == len(path) else path


def _where(text: str, wanted: str) -> tuple[int, list[tuple[int, int]]] | None:
    name = text.rfind("/") + 1
    at = text.find(wanted, name)
    if at >= 0:
        return (0 if at == name else 1, [(at, at + len(wanted))])
    at = text.find(wanted)
    if at >= 0:
        return (2, [(at, at + len(wanted))])
    spans: list[tuple[int, int]] = []
    place = -1
    for letter in wanted:
        place = text.find(letter, place + 1)
        if place < 0:
            return None
        if spans and spans[-1][1] == place:
            spans[-1] = (spans[-1][0], place + 1)
        else:
            spans.append((place, place + 1))
    return (2 + len(spans), spans)
