"""Values put into shell text: always as words of their own, and only where they can be that.

A value is quoted, so it may stand wherever the shell expects a word or a piece of one. It may not
stand where quoting means something else: inside quotes, here-documents, comments, arithmetic and
${...}. So the text is read as sh and bash read it, as far as their rules for quotes go. What the
two read differently, or what takes more than these rules to read, is refused in a text with
templates: a reader that is wrong about one quote is wrong about all that follow.
"""

from __future__ import annotations

import re
import shlex

from domains.workflow.problems import shown
from domains.workflow.templates import BadExpression

MAX_SHELL_BYTES = 131_071
"""What Linux takes as one argument (MAX_ARG_STRLEN, without its NUL)."""

VALUE = "\0"
"""Stands for a value in the text that is read."""

VOUCHED = "\1"
"""Stands for a value that is marked safe: it is put in as it is, whatever it does there."""

_RESERVED = re.compile(
    "case|coproc|do|done|elif|else|esac|fi|for|function|if|in|select|then|time|until|while"
)
_ENDS_WORD = frozenset(" \t\n;&|()<>")
_BEFORE_WORD = frozenset(["", " ", "\t", "\n"])
_AFTER_WORD = frozenset(["", " ", "\t", "\n", ";", "&", "|", ")"])
_BRACED = re.compile(r"\$\{[^{}'\"\\`$()\0\1]*\}")
_ARITHMETIC = frozenset(
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_ \t\n+-*/%=!&|^~?:;,.$@<>()"
)
_EVAL = re.compile(
    r"(?:^|[;&|({\n]|\b(?:then|do|else|exec|command|builtin))[ \t]*\\?(?:eval|let)[ \t][^\n;&|]*$"
)
_SOMETHING = "w"
"""Stands in a word for what it is given from elsewhere, which may be a name or a part of one."""

_ARRAY = "=("
_ESAC = re.compile(r"\besac\b")

INSTEAD = (
    'a value is quoted by itself, so write it outside of quotes ("to "{{ args.x }}), or hand it '
    'over in env: and write "$NAME"'
)


def word(value: str) -> str:
    """Give a text as one word of the shell; BadExpression for a NUL, which no argument can hold."""
    if "\0" in value:
        raise BadExpression("a value holds a NUL character; no command takes that")
    quoted = shlex.quote(value)
    special = _RESERVED.fullmatch(value) or "=" in value or value.isdigit()
    return f"'{value}'" if special and quoted == value else quoted


def stands_apart(before: str, after: str) -> bool:
    """Tell whether what stands between two texts is a word by itself, as several words must."""
    return before[-1:] in _BEFORE_WORD and after[:1] in _AFTER_WORD


def check(text: str) -> None:
    """Raise BadExpression unless every VALUE in the text stands where a word can stand."""
    if VALUE in text:
        _Reader(text).read()


class _Word:
    """What a command will be given as one word, quotes taken off: whether that is `NAME[...`."""

    def __init__(self) -> None:
        self.begun = self.bracket = self.subscript = False
        self._named = False

    def take(self, text: str) -> None:
        for sign in text:
            self.bracket = self.bracket or sign == "["
            self.subscript = sign != "]" and (self.subscript or (sign == "[" and self._named))
            self._named = sign == "_" or sign.isalnum()
            self.begun = True


class _Reader:
    """Follows the quotes of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._open: list[str] = []
        self._quotes = self._arrays = 0  # of those that are open: they may be many
        self._word = _Word()
        self._words: list[_Word] = []
        """The words that the open parentheses stand in."""

        self._in_subscript = False
        self._starts_word = True
        self._in_test = False
        self._has_case = _ESAC.search(text) is not None  # looked for once, the text may be long

    def read(self) -> None:
        while self._at < len(self._text):
            sign = self._text[self._at]
            if sign == "\\":
                self._backslash()
            elif sign == "$":
                self._dollar()
            elif sign == "`":
                raise self._refused("in backquotes", "use $(...) in a text with templates")
            elif self._open and self._open[-1] == '"':
                self._quoted(sign)
            else:
                self._plain(sign)
        if self._quotes:
            raise self._refused("in a quote that is not closed", INSTEAD)

    def _plain(self, sign: str) -> None:
        text, at = self._text, self._at
        starts, self._starts_word = self._starts_word, sign in _ENDS_WORD
        self._at += 1
        self._follow(sign)
        if sign == "'":
            self._skip_to(text.find("'", at + 1) + 1, "quotes")
            self._word.take(text[at + 1 : self._at - 1])
        elif sign == '"':
            self._open.append(sign)
            self._quotes += 1
        elif sign == "#" and starts:
            self._comment()
        elif text.startswith("<<", at):
            raise self._refused("in a here-document", INSTEAD)
        elif text.startswith("((", at):
            self._arithmetic(at)
        elif sign == "(":
            self._enter(_ARRAY if text[at - 1 : at] == "=" else sign)
        elif sign == ")" and self._open:
            self._arrays -= self._open.pop() == _ARRAY
            self._word = self._words.pop()
            self._word.take(_SOMETHING)
        elif text.startswith(("[[", "]]"), at) and starts:
            self._in_test = sign == "["
        elif sign == VALUE:
            self._value(at)

    def _follow(self, sign: str) -> None:
        """See where words end, and where a subscript may: one without quotes may hold blanks."""
        if sign == "[" and self._word.begun:
            self._in_subscript = True
        elif sign in "]\n":
            self._in_subscript = False
        if sign in _ENDS_WORD:
            self._word = _Word()
        elif sign not in "'\"":
            self._word.take(_SOMETHING if sign in (VALUE, VOUCHED) else sign)

    def _enter(self, sign: str) -> None:
        self._open.append(sign)
        self._arrays += sign == _ARRAY
        self._words.append(self._word)
        self._word = _Word()

    def _value(self, at: int) -> None:
        if self._in_test:
            raise self._refused("in [[ ]]", "use [ ]")
        in_array = self._arrays > 0 and self._word.bracket
        if self._in_subscript or in_array or self._word.subscript:
            raise self._refused("in a subscript", INSTEAD)
        before = self._text[max(0, at - 500) : at]
        if ("eval" in before or "let" in before) and _EVAL.search(before):
            raise self._refused("in what eval or let read a second time", "call the command itself")

    def _quoted(self, sign: str) -> None:
        self._at += 1
        if sign == VALUE:
            raise self._refused("in quotes", INSTEAD)
        if sign == '"':
            self._open.pop()
            self._quotes -= 1
            self._starts_word = False
        else:
            self._word.take(_SOMETHING if sign == VOUCHED else sign)

    def _backslash(self) -> None:
        following = self._text[self._at + 1 : self._at + 2]
        if following in ("", VALUE, VOUCHED):
            raise self._refused("behind a backslash", "leave it out: a value is quoted by itself")
        if following != "\n":
            self._starts_word = False
            self._word.take(following)
        elif self._text[max(0, self._at - 1) : self._at] not in _BEFORE_WORD:
            raise self._refused(
                "in a text with a line that goes on in the middle of a word",
                "put a space before the \\",
            )
        self._at += 2

    def _dollar(self) -> None:
        text, at = self._text, self._at
        quoted = bool(self._open) and self._open[-1] == '"'
        following = text[at + 1 : at + 2]
        self._starts_word = False
        self._at += 1
        if following == VALUE:
            raise self._refused("behind a $", "write {{ ... }} without it")
        if following == "[" or (following in ("'", '"') and not quoted):
            raise self._refused(
                f"in ${following}", "not every sh knows it: write it in another way"
            )
        if text.startswith("((", at + 1):
            self._arithmetic(at + 1)
        elif following == "(":
            self._substitution()
        elif following == "{":
            found = _BRACED.match(text, at)
            if found is None:
                raise self._refused(
                    "in a text with a ${...} that has quotes, substitutions or templates in it",
                    "only ${NAME} and the like beside templates",
                )
            self._at = found.end()
            self._word.take(_SOMETHING)
        elif following == "#":
            self._at += 1
            self._word.take(_SOMETHING)

    def _substitution(self) -> None:
        if self._quotes and self._has_case:
            raise self._refused(
                "in a text with case in a quoted $(...)", "assign it to a variable first"
            )
        self._enter("(")
        self._starts_word = True
        self._at += 1

    def _arithmetic(self, at: int) -> None:
        """Skip `((...))`: with no quotes in it, they are none whichever way a shell reads it."""
        depth, start = 0, at
        while at < len(self._text):
            sign = self._text[at]
            if sign == VALUE:
                raise self._refused("in arithmetic", "assign it to a variable first")
            if sign not in _ARITHMETIC or self._text.startswith("<<", at):
                break
            depth += (sign == "(") - (sign == ")")
            at += 1
            if depth == 0:
                self._at = at
                self._word.take(_SOMETHING)
                return
        part = shown(self._text[start : start + 40].replace(VALUE, "{{...}}"), 30)
        raise self._refused(f"in a text with {part}", "plain arithmetic beside templates")

    def _comment(self) -> None:
        end = self._text.find("\n", self._at)
        comment = self._text[self._at : end if end >= 0 else len(self._text)]
        if VALUE in comment or VOUCHED in comment:
            raise self._refused("in a comment", "leave it out there")
        if self._open and re.search(r"['\"()`\\]", comment):
            raise self._refused(
                "in a text with a comment with quotes in $(...)", "leave it out there"
            )
        self._at += len(comment)

    def _skip_to(self, end: int, name: str) -> None:
        if end <= 0:
            raise self._refused("in a quote that is not closed", INSTEAD)
        if VALUE in self._text[self._at : end]:
            raise self._refused(f"in {name}", INSTEAD)
        self._at = end

    def _refused(self, place: str, instead: str) -> BadExpression:
        line = self._text.count("\n", 0, min(self._at, len(self._text)))
        return BadExpression(f"a template stands {place}; {instead}", line=line)
