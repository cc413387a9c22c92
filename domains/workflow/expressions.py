"""Conditions and templates: what stands between `{{` and `}}`, rendered from a run's own data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from domains.workflow import quoting
from domains.workflow.definition import Json
from domains.workflow.evaluation import Evaluation, Names, is_list, parse
from domains.workflow.filters import MAX_WORK, Budget, kind_of, text_of
from domains.workflow.named import paths
from domains.workflow.problems import shown
from domains.workflow.templates import BadExpression, Hole, bare, has_template, split

MAX_DEPTH = 60
MOST_ITEMS = 10_000
KEPT = 256
"""How many expressions are kept as read: a for-each renders the same few for each item."""

KEPT_LENGTH = 512
"""In characters; longer ones are read each time, so that what is kept stays small."""


@lru_cache(maxsize=1)
def _environment() -> Any:
    """Give the one environment of Jinja; it holds its grammar, and no template."""
    import jinja2  # noqa: PLC0415  # 5 MB that a daemon without workflows does without

    return jinja2.Environment(autoescape=False)  # noqa: S701  # it makes no HTML, and renders nothing


@lru_cache(maxsize=KEPT)
def _kept(source: str) -> Any:
    return parse(source, _environment())


class Expressions:
    """Reads and renders. All methods raise BadExpression, with the reason as its sentence."""

    def __init__(self, work: int = MAX_WORK) -> None:
        """Spend at most so much on each rendering."""
        self._work = work

    def check(self, text: str) -> None:
        """Raise unless a text can be rendered, as far as its syntax tells."""
        for hole in _holes(text):
            _tree(hole)

    def check_condition(self, text: str) -> None:
        """Raise unless a text is an expression, in braces or without."""
        _tree(_only(text))

    def check_shell(self, text: str) -> None:
        """Raise unless a text can be rendered for the shell: each template where a word can be."""
        self.check(text)
        quoting.check(_marked(text))

    def has_holes(self, text: str) -> bool:
        """Return whether a text has an expression in it, be it right or wrong."""
        try:
            return any(isinstance(part, Hole) for part in split(text))
        except BadExpression:
            return True

    def references(self, text: str, *, whole: bool = False) -> list[tuple[tuple[str, ...], int]]:
        """Give what the expressions of a text name, and in which of its lines, from 0.

        With `whole` all of the text is one expression, in braces or without.
        """
        holes: Iterable[Hole] = [_only(text)] if whole else _holes(text)
        return [(path, hole.line) for hole in holes for path in paths(_tree(hole))]

    def render(self, value: Json, names: Names) -> Json:
        """Render all texts in a value; one that is exactly one expression becomes its value.

        What comes out may share lists and mappings with `names`: it is read, not written to.
        """
        budget = Budget(self._work)
        with _bounded():
            return _rendered(value, names, budget, 0)

    def text(self, text: str, names: Names) -> str:
        """Render a text to a text: null is nothing, lists and mappings are JSON."""
        budget = Budget(self._work)
        with _bounded():
            return _put_together(
                text, lambda hole: text_of(_value(hole, names, budget), budget), budget
            )

    def condition(self, text: str, names: Names) -> bool:
        """Tell whether a condition holds: empty texts and lists, 0, false and null do not."""
        found = self.value(text, names)
        if isinstance(found, str) and found.lower() == "false":  # some take it for false, some not
            raise BadExpression(
                f"{shown(text)} gives the text {found!r}, which is neither true nor false: compare "
                "it, as in == 'true'"
            )
        return bool(found)

    def value(self, text: str, names: Names) -> Json:
        """Give the value of an expression, in braces or without."""
        with _bounded():
            return _value(_only(text), names, Budget(self._work))

    def items(self, value: Json, names: Names, most: int = 1000) -> list[Json]:
        """Give what a for-each goes through: an expression that gives a list, or a list itself."""
        found = self.value(value, names) if isinstance(value, str) else self.render(value, names)
        if not is_list(found):
            hint = (
                "; | lines or | fromjson makes a list of a text" if isinstance(found, str) else ""
            )
            raise BadExpression(f"for-each needs a list, and this is {kind_of(found)}{hint}")
        if len(found) > min(most, MOST_ITEMS):
            raise BadExpression(
                f"for-each got {len(found):,} items; allowed: at most {min(most, MOST_ITEMS):,} "
                f"(max-items, which can be up to {MOST_ITEMS:,})"
            )
        return list(found)

    def shell(self, text: str, names: Names) -> str:
        """Render a text for the shell: each value is one word, each item of a list one.

        What is marked safe is put in as it is.
        """
        quoting.check(_marked(text))
        budget = Budget(self._work)
        parts = split(text)
        with _bounded():
            made = [
                part if isinstance(part, str) else _words(part, _around(parts, at), names, budget)
                for at, part in enumerate(parts)
            ]
            command = _joined(made, budget)
        return _passable(command)


def _passable(command: str) -> str:
    """Give a command that a process can be started with."""
    try:
        size = len(command.encode())
    except UnicodeEncodeError:
        raise BadExpression("a value in the command holds half a character") from None
    if "\0" in command:
        raise BadExpression("a value in the command holds a NUL character")
    if size > quoting.MAX_SHELL_BYTES:
        raise BadExpression(
            f"the command has {size:,} bytes; allowed: at most {quoting.MAX_SHELL_BYTES:,}. Have "
            "an earlier step write what is large to a file"
        )
    return command


@contextmanager
def _bounded() -> Iterator[None]:
    """Have it be an error of ours when data is nested deeper than Python goes."""
    try:
        yield
    except RecursionError:
        raise BadExpression("the values are nested too deeply") from None


def _holes(text: str) -> Iterator[Hole]:
    return (part for part in split(text) if isinstance(part, Hole))


def _only(text: str) -> Hole:
    """Give the expression that a text is; one without braces too."""
    if "{{" not in text:
        source = text.strip()
        if not source:
            raise BadExpression("there is no expression")
        wrapped = split(f"{{{{ {source} }}}}")
        if len(wrapped) == 1 and isinstance(wrapped[0], Hole):
            return wrapped[0]
    elif (inner := bare(text)) is not None:
        return Hole(inner, 0)
    raise BadExpression("one expression stands here, with {{ }} around all of it or without")


def _tree(hole: Hole) -> Any:
    try:
        if len(hole.source) > KEPT_LENGTH:
            return parse(hole.source, _environment())
        return _kept(hole.source)
    except BadExpression as error:
        raise BadExpression(error.message, line=hole.line) from None


def _value(hole: Hole, names: Names, budget: Budget) -> Json:
    return Evaluation(names, budget).value(_tree(hole))


def _rendered(value: Json, names: Names, budget: Budget, depth: int) -> Json:
    if depth > MAX_DEPTH:
        raise BadExpression("the value is nested too deeply")
    budget.spend(1)
    if isinstance(value, str):
        if not has_template(value):
            return value
        if (source := bare(value)) is not None:
            return _value(Hole(source, 0), names, budget)
        return _put_together(
            value, lambda hole: text_of(_value(hole, names, budget), budget), budget
        )
    if isinstance(value, dict):
        return {key: _rendered(one, names, budget, depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rendered(one, names, budget, depth + 1) for one in value]
    return value


def _put_together(text: str, fill: Callable[[Hole], str], budget: Budget) -> str:
    return _joined([part if isinstance(part, str) else fill(part) for part in split(text)], budget)


def _joined(texts: list[str], budget: Budget) -> str:
    budget.make(sum(map(len, texts)))
    return "".join(texts)


def _is_marked(tree: Any, name: str) -> bool:
    return type(tree).__name__ == "Filter" and tree.name == name


def _marked(text: str) -> str:
    """Give a text with signs for what is put in."""
    if quoting.VALUE in text or quoting.VOUCHED in text:
        raise BadExpression("a command has control characters in it")
    return "".join(
        part
        if isinstance(part, str)
        else (quoting.VOUCHED if _is_marked(_tree(part), "safe") else quoting.VALUE)
        for part in split(text)
    )


def _around(parts: tuple[str | Hole, ...], at: int) -> tuple[str, str]:
    """Give the texts before and after a part; another value is no text that ends a word."""
    before = parts[at - 1] if at else ""
    after = parts[at + 1] if at + 1 < len(parts) else ""
    return (
        before if isinstance(before, str) else quoting.VALUE,
        after if isinstance(after, str) else quoting.VALUE,
    )


def _words(hole: Hole, around: tuple[str, str], names: Names, budget: Budget) -> str:
    tree = _tree(hole)
    is_safe = _is_marked(tree, "safe")
    if is_safe or _is_marked(tree, "quote"):
        tree = tree.node
    value = Evaluation(names, budget).value(tree)
    items = value if is_list(value) else [value]
    budget.spend(8 * len(items))
    texts = [text_of(item, budget) for item in items]
    budget.spend(sum(map(len, texts)))
    if is_safe:
        return " ".join(texts)
    if is_list(value) and not quoting.stands_apart(*around):
        raise BadExpression(
            f"{{{{ {shown(hole.source)} }}}} is a list, and each item becomes a word: put spaces "
            "around it",
            line=hole.line,
        )
    return " ".join(map(quoting.word, texts))
