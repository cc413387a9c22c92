"""Regular expressions that take time in proportion to the text, whatever they are.

Python's own take exponentially long for some (`(a+)+b`), and hold up the whole process meanwhile.
A `pattern` of an argument comes from a project's file, and what it is matched with from a client.
This follows all ways through the pattern at once, a character at a time. There are no references
back and no looking around: what needs those cannot be done like this.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

MAX_PATTERN = 500
"""In characters."""

MAX_STATES = 400
"""A pattern is taken apart into at most so many, `{m,n}` written out."""

MAX_TEXT = 4096
"""In characters, for the text that is matched."""

_DEPTH = 20
_QUANTIFIER = re.compile(r"[*+?]|\{(\d{1,4})(,?)(\d{0,4})\}")
_CLASS = re.compile(r"\[\^?(?:\\.|[^\]\\])(?:\\.|[^\]\\])*\]", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|[dDwWsStnrfv]|[^A-Za-z0-9])")

Test = Callable[[str], object]
Assertion = Callable[[str, int], bool]


@dataclass(frozen=True, slots=True)
class Take:
    """Go on with the next instruction if the next character fits."""

    fits: Test


@dataclass(frozen=True, slots=True)
class Go:
    """Go on so many instructions from here, or so many: all ways at once."""

    ways: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Assert:
    """Go on with the next instruction if this holds here."""

    holds: Assertion


Program = list[Take | Go | Assert]


class BadPattern(ValueError):
    """A pattern that cannot be used; its text says why."""


def _is_word(text: str, at: int) -> bool:
    return 0 <= at < len(text) and (text[at].isalnum() or text[at] == "_") and text[at].isascii()


_ASSERTIONS: dict[str, Assertion] = {
    "^": lambda _, at: at == 0,
    "$": lambda text, at: at == len(text),
    "\\b": lambda text, at: _is_word(text, at - 1) != _is_word(text, at),
    "\\B": lambda text, at: _is_word(text, at - 1) == _is_word(text, at),
}


class Pattern:
    """A regular expression in the syntax of JSON Schema, as far as it needs no memory."""

    def __init__(self, source: str) -> None:
        """Read it; BadPattern for what is none, or cannot be followed like this."""
        if len(source) > MAX_PATTERN:
            raise BadPattern(f"has {len(source):,} characters, at most {MAX_PATTERN}")
        self._program = _Compiler(source).program()

    def search(self, text: str) -> bool:
        """Tell whether it fits anywhere in a text; ValueError for one that is too long."""
        if len(text) > MAX_TEXT:
            raise ValueError(f"at most {MAX_TEXT:,} characters can be matched with a pattern")
        program, end = self._program, len(self._program)
        states: list[int] = []
        for at in range(len(text) + 1):
            reached = self._reach([*states, 0], text, at)
            if end in reached:
                return True
            char = text[at : at + 1]
            states = [
                state + 1
                for state in reached
                if char and isinstance(one := program[state], Take) and one.fits(char)
            ]
        return False

    def _reach(self, states: list[int], text: str, at: int) -> set[int]:
        """Give all states that these lead to without taking a character."""
        reached: set[int] = set()
        while states:
            state = states.pop()
            if state in reached:
                continue
            reached.add(state)
            one = self._program[state] if state < len(self._program) else None
            if isinstance(one, Go):
                states += [state + way for way in one.ways]
            elif isinstance(one, Assert) and one.holds(text, at):
                states.append(state + 1)
        return reached


class _Compiler:
    """Takes a pattern apart into instructions."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._depth = 0

    def program(self) -> Program:
        made = self._either()
        if self._at < len(self._source):
            raise BadPattern(f"has a {self._source[self._at]} that closes nothing")
        return made

    def _either(self) -> Program:
        ways = [self._sequence()]
        while self._source.startswith("|", self._at):
            self._at += 1
            ways.append(self._sequence())
        made = ways.pop()
        for way in reversed(ways):
            made = [Go((1, len(way) + 2)), *way, Go((len(made) + 1,)), *made]
        return self._bounded(made)

    def _sequence(self) -> Program:
        made: Program = []
        while self._at < len(self._source) and self._source[self._at] not in "|)":
            made += self._quantified(self._atom())
            self._bounded(made)
        return made

    def _atom(self) -> Program:
        source, at = self._source, self._at
        sign = source[at]
        if sign == "(":
            return self._group()
        if sign in "*+?{" and (sign != "{" or _QUANTIFIER.match(source, at)):
            raise BadPattern(f"has a {sign} that repeats nothing")
        if sign in _ASSERTIONS or source[at : at + 2] in _ASSERTIONS:
            name = sign if sign in _ASSERTIONS else source[at : at + 2]
            self._at += len(name)
            return [Assert(_ASSERTIONS[name])]
        if sign in "[\\":
            found = (_CLASS if sign == "[" else _ESCAPE).match(source, at)
            if found is None:
                raise BadPattern(f"has {source[at : at + 10]!r}, which is not known here")
            self._at = found.end()
            return [Take(_compiled(found[0]))]
        self._at += 1
        return [Take(_any if sign == "." else sign.__eq__)]

    def _group(self) -> Program:
        self._at += 1
        if self._source.startswith("?", self._at):
            if not self._source.startswith("?:", self._at):
                raise BadPattern("looks around or names a group, which is not known here")
            self._at += 2
        self._depth += 1
        if self._depth > _DEPTH:
            raise BadPattern("is nested too deeply")
        made = self._either()
        self._depth -= 1
        if not self._source.startswith(")", self._at):
            raise BadPattern("has a ( that is not closed")
        self._at += 1
        return made

    def _quantified(self, atom: Program) -> Program:
        found = _QUANTIFIER.match(self._source, self._at)
        if found is None:
            return atom
        self._at = found.end()
        if self._source.startswith("?", self._at):
            self._at += 1  # lazy: the same texts fit
        least, most = _times(found)
        if (most or least) * len(atom) > MAX_STATES:
            raise BadPattern(f"repeats too much; at most {MAX_STATES} in all")
        size = len(atom)
        made = atom * least
        if most is None:
            return [*made, Go((1, size + 2)), *atom, Go((-size - 1,))]
        for left in range(most - least, 0, -1):
            made += [Go((1, left * (size + 1))), *atom]
        return made

    def _bounded(self, made: Program) -> Program:
        if len(made) > MAX_STATES:
            raise BadPattern(f"is too long, its repetitions written out; at most {MAX_STATES}")
        return made


def _times(found: re.Match[str]) -> tuple[int, int | None]:
    if found[0] in {"*", "+"}:
        return (0 if found[0] == "*" else 1), None
    if found[0] == "?":
        return 0, 1
    least = int(found[1])
    most = int(found[3]) if found[3] else None if found[2] else least
    if most is not None and most < least:
        raise BadPattern(f"has {found[0]}, the wrong way round")
    return least, most


def _any(char: str) -> bool:
    return char != "\n"


def _compiled(atom: str) -> Test:
    """Have Python read a class or an escape: for one character it cannot take long."""
    try:
        return re.compile(atom, re.ASCII).match
    except re.error as error:
        raise BadPattern(f"has {atom[:20]!r}: {error.msg}") from None
