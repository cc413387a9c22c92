"""Texts with `{{ expressions }}` in them, taken apart: what is text, what is an expression.

The rest of Jinja's signs: `{# #}` is a comment, except behind a `$` (`${#name}` is the shell's);
between `{% raw %}` and `{% endraw %}` all is text; any other `{% %}` is a statement, and refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from daemon.core.errors import BadRequest
from domains.workflow.problems import shown

MAX_TEMPLATE = 64 * 1024
"""In characters, for a text that has expressions in it."""

MAX_EXPRESSION = 8 * 1024
MAX_EXPRESSIONS = 500
MAX_BRACKETS = 20

_SIGN = re.compile(r"\{[{%#]")
_RAW = re.compile(r"\{%[-+]?\s{0,20}raw\s{0,20}[-+]?%\}")
_END_RAW = re.compile(r"\{%[-+]?\s{0,20}endraw\s{0,20}[-+]?%\}")
_STATEMENT = re.compile(r"\{%[-+]?\s*[A-Za-z]")
_TOKEN = re.compile(
    r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[\[({]|[\])}]|[^\[\](){}'"]+""", re.DOTALL
)
_CLOSES = {"(": ")", "[": "]", "{": "}"}


class BadExpression(BadRequest):
    """An expression or template that cannot be read, or gives nothing; `line` counts from 0."""

    def __init__(self, message: str, *, line: int = 0) -> None:
        """Keep the sentence, and the line of the text that it is about."""
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Hole:
    """An expression in a text; `line` is that of the text, from 0."""

    source: str
    line: int


Part = str | Hole


def has_template(text: str) -> bool:
    """Tell whether a text has anything in it that is not just text."""
    return _SIGN.search(text) is not None


def split(text: str) -> tuple[Part, ...]:
    """Take a text apart; BadExpression when that cannot be done."""
    if not has_template(text):
        return (text,) if text else ()
    if len(text) > MAX_TEMPLATE:
        raise BadExpression(
            f"a text with templates has {len(text):,} characters; allowed: at most {MAX_TEMPLATE:,}"
        )
    return _Splitter(text).split()


def bare(text: str) -> str | None:
    """Give the expression that a whole text is, without its braces; None for anything else."""
    parts = [part for part in split(text.strip()) if not isinstance(part, str) or part.strip()]
    if len(parts) == 1 and isinstance(parts[0], Hole):
        return parts[0].source
    return None


class _Splitter:
    """Goes through one text, from sign to sign."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._parts: list[Part] = []
        self._literal: list[str] = []
        self._trims = False
        self._holes = 0
        self._unclosed: set[str] = set()

    def split(self) -> tuple[Part, ...]:
        text, at = self._text, 0
        while found := _SIGN.search(text, at):
            self._add(text[at : found.start()])
            at = self._sign(found.start())
        self._add(text[at:])
        self._flush()
        return tuple(self._parts)

    def _sign(self, at: int) -> int:
        """Take what begins here; gives where it ends."""
        text = self._text
        if text.startswith("{{", at):
            return self._hole(at)
        if text.startswith("{#", at):
            end = -1 if text.endswith("$", 0, at) else self._find("#}", at)
            if end >= 0:
                return end + 2
        elif raw := _RAW.match(text, at):
            closing = _END_RAW.search(text, raw.end())
            if closing is None:
                raise BadExpression("{% raw %} has no {% endraw %}", line=self._line(at))
            self._add(text[raw.end() : closing.start()])
            return closing.end()
        elif _STATEMENT.match(text, at) and (end_at := self._find("%}", at)) >= 0:
            raise BadExpression(
                f"{shown(text[at : end_at + 2])} is a statement; allowed: {{{{ expressions }}}}, "
                "and {% raw %} ... {% endraw %} around what is just text",
                line=self._line(at),
            )
        self._add(text[at : at + 2])
        return at + 2

    def _find(self, sign: str, at: int) -> int:
        """Find the next such sign; once there is none, there is none for those that follow."""
        end = -1 if sign in self._unclosed else self._text.find(sign, at + 2)
        if end < 0:
            self._unclosed.add(sign)
        return end

    def _hole(self, at: int) -> int:
        end = self._end_of_hole(at)
        source = self._text[at + 2 : end]
        if source.startswith("-"):
            source = source[1:]
            if self._literal:
                self._literal = ["".join(self._literal).rstrip()]
        trims = source.endswith("-")
        source = source.removesuffix("-").strip()
        line = self._line(at)
        if not source:
            raise BadExpression("there is nothing between {{ and }}", line=line)
        if len(source) > MAX_EXPRESSION:
            raise BadExpression(
                f"an expression has {len(source):,} characters; allowed: at most "
                f"{MAX_EXPRESSION:,}",
                line=line,
            )
        self._flush()
        self._parts.append(Hole(source, line))
        self._holes += 1
        if self._holes > MAX_EXPRESSIONS:
            raise BadExpression(
                f"there are too many expressions; allowed: {MAX_EXPRESSIONS} in a text", line=line
            )
        self._trims = trims
        return end + 2

    def _end_of_hole(self, at: int) -> int:
        """Find the `}}`, past texts in quotes and brackets."""
        text, start = self._text, at
        at += 2
        brackets: list[str] = []
        while at < len(text):
            if not brackets and text.startswith("}}", at):
                return at
            token = _TOKEN.match(text, at)
            if token is None:
                raise self._broken(start, "a quote is not closed")
            sign = token[0]
            if sign in _CLOSES:
                brackets.append(_CLOSES[sign])
                if len(brackets) > MAX_BRACKETS:
                    raise self._broken(
                        start, f"brackets are nested too deeply (at most {MAX_BRACKETS})"
                    )
            elif sign in _CLOSES.values() and (not brackets or brackets.pop() != sign):
                raise self._broken(start, f"a {sign} closes nothing")
            at = token.end()
        raise self._broken(start, "}} is missing")

    def _broken(self, at: int, reason: str) -> BadExpression:
        return BadExpression(
            f"{shown(self._text[at : at + 60], 40)}: {reason}; text with {{{{ in it stands between "
            "{% raw %} and {% endraw %}",
            line=self._line(at),
        )

    def _line(self, at: int) -> int:
        return self._text.count("\n", 0, at)

    def _add(self, text: str) -> None:
        if self._trims:
            text = text.lstrip()
            self._trims = not text
        if text:
            self._literal.append(text)

    def _flush(self) -> None:
        if text := "".join(self._literal):
            self._parts.append(text)
        self._literal = []
