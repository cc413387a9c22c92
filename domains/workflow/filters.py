"""What can be done to values in expressions: filters (`| lower`) and tests (`is none`).

None makes more than it gets, but for a bounded piece; each pays for what it looks at.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from domains.workflow.definition import Json
from domains.workflow.problems import shown
from domains.workflow.quoting import word
from domains.workflow.templates import BadExpression

MAX_RESULT = 1 << 20
"""In characters, for a text, and in items, for a list."""

MAX_WORK = 4 << 20
"""In characters and items that one rendering looks at."""

_WHOLE = re.compile(r"\s*[-+]?[0-9]{1,18}\s*")
_DECIMAL = re.compile(r"\s*[-+]?[0-9]{1,18}(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,3})?\s*")


class TooMuchWork(BadExpression):
    """A rendering that has spent its budget; with a larger one it may come to its end."""


class Budget:
    """What one rendering may still look at and make."""

    def __init__(self, work: int = MAX_WORK) -> None:
        """Begin with all of it."""
        self._left = work

    def spend(self, units: int) -> None:
        """Pay; TooMuchWork when nothing is left."""
        self._left -= units
        if self._left < 0:
            raise TooMuchWork("this takes too long: the values are too large for what is asked")

    def look_at(self, value: Json) -> None:
        """Pay for a value's size, with all that is in it."""
        pending = [value]
        while pending:
            one = pending.pop()
            if isinstance(one, str):
                self.spend(1 + len(one))
            elif isinstance(one, list | tuple):
                self.spend(4 + 4 * len(one))
                pending += one
            elif isinstance(one, Mapping):
                self.spend(4 + 8 * len(one))
                pending += one.values()
            else:
                self.spend(1)

    def make(self, size: int) -> None:
        """Pay for a text or list of this size, which must not be too large."""
        if size > MAX_RESULT:
            raise BadExpression(
                f"the result is too large; allowed: at most {MAX_RESULT:,} characters"
            )
        self.spend(size)


def is_number(value: Json) -> bool:
    """Tell whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def kind_of(value: Json) -> str:
    """Give a word for what a value is."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if is_number(value):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "a mapping" if isinstance(value, Mapping) else "a list"


def text_of(value: Json, budget: Budget) -> str:
    """Give a value as it stands in a text: nothing for null, JSON for lists and mappings."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_number(value):
        try:
            return repr(value)
        except ValueError:
            raise BadExpression("a number is too large to be written") from None
    return _tojson(value, budget)


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter or test: what it does, and the arguments that it takes."""

    apply: Callable[..., Json]
    parameters: tuple[str, ...] = ()
    least: int = 0


def _tojson(value: Json, budget: Budget) -> str:
    budget.look_at(value)
    try:
        text = msgspec.json.encode(value, enc_hook=dict).decode()
    except (TypeError, ValueError, OverflowError):
        raise BadExpression(f"{kind_of(value)} in it cannot be written as JSON") from None
    budget.make(len(text))
    return text


def _fromjson(value: Json, budget: Budget) -> Json:
    text = _text(value, budget)
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise BadExpression(f"the text is no JSON: {shown(str(error), 100)}") from None


def _text(value: Json, budget: Budget) -> str:
    if not isinstance(value, str):
        raise BadExpression(f"this is {kind_of(value)}; it takes a text")
    budget.spend(len(value))
    return value


def _items(value: Json, budget: Budget) -> list[Json]:
    if not isinstance(value, list | tuple):
        raise BadExpression(f"this is {kind_of(value)}; it takes a list")
    budget.spend(8 * len(value))
    return list(value)


def _length(value: Json, _: Budget) -> int:
    if not isinstance(value, str | list | tuple | Mapping):
        raise BadExpression(f"{kind_of(value)} has no length")
    return len(value)


def _lower(value: Json, budget: Budget) -> str:
    return _text(value, budget).lower()


def _upper(value: Json, budget: Budget) -> str:
    text = _text(value, budget).upper()
    budget.make(len(text))
    return text


def _trim(value: Json, budget: Budget) -> str:
    return _text(value, budget).strip()


def _first(value: Json, _: Budget) -> Json:
    return _at(value, 0)


def _last(value: Json, _: Budget) -> Json:
    return _at(value, -1)


def _at(value: Json, index: int) -> Json:
    if not isinstance(value, str | list | tuple):
        raise BadExpression(f"this is {kind_of(value)}; it takes a list")
    return value[index] if value else None


def _join(value: Json, budget: Budget, separator: Json = "") -> str:
    between = _text(separator, budget)
    texts = [text_of(item, budget) for item in _items(value, budget)]
    budget.make(sum(map(len, texts)) + len(between) * len(texts))
    return between.join(texts)


def _int(value: Json, budget: Budget, default: Json = None) -> Json:
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return int(value)
    if isinstance(value, str) and _WHOLE.fullmatch(_text(value, budget)[:60]) and len(value) < 60:
        return int(value)
    return _or_default(value, default, "a whole number")


def _float(value: Json, budget: Budget, default: Json = None) -> Json:
    if isinstance(value, bool) or is_number(value):
        try:
            return float(value)
        except OverflowError:
            raise BadExpression("a number is too large") from None
    if isinstance(value, str) and _DECIMAL.fullmatch(_text(value, budget)[:60]) and len(value) < 60:
        number = float(value)
        if math.isfinite(number):
            return number
    return _or_default(value, default, "a number")


def _or_default(value: Json, default: Json, noun: str) -> Json:
    if default is None:
        raise BadExpression(f"{shown(str(value)[:100], 40)!r} is not {noun}")
    return default


def _lines(value: Json, budget: Budget) -> list[str]:
    lines = [line.removesuffix("\r") for line in _text(value, budget).split("\n")]
    return [line for line in lines if line]


def _sort(value: Json, budget: Budget, reverse: Json = False) -> list[Json]:
    items = _items(value, budget)
    budget.look_at(items)
    budget.spend(len(items) * len(items).bit_length())
    if not all(map(is_number, items)) and not all(isinstance(item, str) for item in items):
        raise BadExpression("only texts among themselves can be sorted, or numbers")
    return sorted(items, reverse=bool(reverse))


def _unique(value: Json, budget: Budget) -> list[Json]:
    items = _items(value, budget)
    budget.spend(16 * len(items))
    return list(
        {(kind_of(item), text_of(item, budget)): item for item in reversed(items)}.values()
    )[::-1]


def _quote(value: Json, budget: Budget) -> str:
    quoted = [
        word(text_of(item, budget))
        for item in (value if isinstance(value, list | tuple) else [value])
    ]
    budget.make(sum(map(len, quoted)) + len(quoted))
    return " ".join(quoted)


def _basename(value: Json, budget: Budget) -> str:
    return posixpath.basename(_text(value, budget).rstrip("/"))


def _truncate(value: Json, budget: Budget, length: Json = 255, end: Json = "…") -> str:
    text, tail = _text(value, budget), _text(end, budget)
    if type(length) is not int or not 0 <= length <= MAX_RESULT:
        raise BadExpression(f"length is a number from 0 to {MAX_RESULT:,}")
    if len(text) <= length:
        return text
    return (text[: max(0, length - len(tail))] + tail)[:length]


def _same(value: Json, _: Budget) -> Json:
    return value


FILTERS: Mapping[str, Filter] = {
    "basename": Filter(_basename),
    "default": Filter(_same, ("value", "boolean")),
    "first": Filter(_first),
    "float": Filter(_float, ("default",)),
    "fromjson": Filter(_fromjson),
    "int": Filter(_int, ("default",)),
    "join": Filter(_join, ("separator",)),
    "json": Filter(_tojson),
    "last": Filter(_last),
    "length": Filter(_length),
    "lines": Filter(_lines),
    "lower": Filter(_lower),
    "quote": Filter(_quote),
    "safe": Filter(_same),
    "sort": Filter(_sort, ("reverse",)),
    "string": Filter(text_of),
    "tojson": Filter(_tojson),
    "trim": Filter(_trim),
    "truncate": Filter(_truncate, ("length", "end")),
    "unique": Filter(_unique),
    "upper": Filter(_upper),
}

TESTS: Mapping[str, Filter] = {
    "boolean": Filter(lambda value, _: isinstance(value, bool)),
    "defined": Filter(_same),
    "false": Filter(lambda value, _: value is False),
    "integer": Filter(lambda value, _: isinstance(value, int) and not isinstance(value, bool)),
    "list": Filter(lambda value, _: isinstance(value, list | tuple)),
    "mapping": Filter(lambda value, _: isinstance(value, Mapping)),
    "none": Filter(lambda value, _: value is None),
    "null": Filter(lambda value, _: value is None),
    "number": Filter(lambda value, _: is_number(value)),
    "string": Filter(lambda value, _: isinstance(value, str)),
    "true": Filter(lambda value, _: value is True),
    "undefined": Filter(_same),
}
