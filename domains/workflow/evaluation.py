"""Expressions: read with Jinja's parser, evaluated here, over plain data.

Jinja compiles templates to Python and runs that; a sandbox then has to guard everything that Python
can do. Here only its syntax tree is used, and what is not named in this file cannot be done: there
are no calls, no attributes (a dot looks up a key), no loops and no assignments. An expression can
only look at its values once for each time that it names them, and pays for what it looks at out of
a budget, so none runs long.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from domains.workflow.definition import Json
from domains.workflow.filters import (
    FILTERS,
    TESTS,
    Budget,
    Filter,
    TooMuchWork,
    is_number,
    kind_of,
    text_of,
)
from domains.workflow.named import NULLS
from domains.workflow.problems import meant, shown
from domains.workflow.templates import BadExpression
from domains.workflow.views import StepView

MAX_SYNTAX_DEPTH = 60
MAX_SYNTAX_NODES = 1000
LARGEST = 1 << 63
MOST_COMPARED = 200
"""Keys that are compared with one that is not there, in case it was mistyped."""

Names = Mapping[str, Json]

_DATA = ("Const", "Name", "Getattr", "Getitem", "Slice", "List", "Tuple", "Dict", "Pair", "Keyword")
_OPERATORS = ("Add", "Sub", "Neg", "Pos", "Not", "And", "Or", "Compare", "Operand", "Concat")
_ALLOWED = frozenset([*_DATA, *_OPERATORS, "CondExpr", "Filter", "Test"])
_CALLED = {
    "Call": "calls are not allowed; values are changed by filters, as in {{ x | length }}",
    "Mul": "* is not allowed",
    "Pow": "** is not allowed",
    "Mod": "% is not allowed",
    "Div": "/ is not allowed",
    "FloorDiv": "// is not allowed",
}
_COMPARES: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
}


class Missing(BadExpression):
    """What is named is not there; the filter `default` takes this for an answer."""


def parse(source: str, environment: Any) -> Any:
    """Read an expression; BadExpression for what is no expression, or does what none may."""
    from jinja2 import TemplateError  # noqa: PLC0415  # 5 MB that other daemons do without
    from jinja2.parser import Parser  # noqa: PLC0415

    about = shown(source)
    try:
        parser = Parser(environment, source, state="variable")
        tree = parser.parse_expression()
        rest = "" if parser.stream.eos else str(parser.stream.current.value)
    except TemplateError as error:
        raise BadExpression(f"{about}: {shown(error.message or 'no expression')}") from None
    except RecursionError:
        raise BadExpression(f"{about}: nested too deeply") from None
    except (ValueError, OverflowError, SyntaxError, MemoryError):
        raise BadExpression(f"{about}: a number or text in it cannot be read") from None
    if rest:
        raise BadExpression(f"{about}: {shown(rest)!r} does not belong to the expression")
    _check(tree, about)
    return tree


def _check(tree: Any, about: str) -> None:
    """Refuse all syntax that is not allowed."""
    pending, count = [(tree, 0)], 0
    while pending:
        node, depth = pending.pop()
        count += 1
        if depth > MAX_SYNTAX_DEPTH or count > MAX_SYNTAX_NODES:
            raise BadExpression(f"{about}: too long or nested too deeply; take two steps for it")
        if reason := _refusal(node, is_outermost=depth == 0):
            raise BadExpression(f"{about}: {reason}")
        pending += [(child, depth + 1) for child in node.iter_child_nodes()]


def _refusal(node: Any, *, is_outermost: bool) -> str | None:
    kind = type(node).__name__
    if kind not in _ALLOWED:
        return _CALLED.get(kind, f"{kind} is not allowed")
    name = {"Getattr": "attr", "Name": "name"}.get(kind)
    if name and getattr(node, name).startswith("_"):
        return f"{shown(getattr(node, name))} begins with an underscore; a key is read with ['...']"
    if kind == "Const":
        return _refused_constant(node.value)
    if kind == "Tuple" and any(type(item).__name__ == "Slice" for item in node.items):
        return "one part at a time can be taken of a list"
    if kind in {"Filter", "Test"}:
        return _refused_filter(node, FILTERS if kind == "Filter" else TESTS, is_outermost)
    return None


def _refused_constant(value: Json) -> str | None:
    if is_number(value) and not -LARGEST < value < LARGEST:
        return "a number is too large"
    if isinstance(value, str) and any("\ud800" <= sign <= "\udfff" for sign in value):
        return "a text has half a character in it"
    return None


def _refused_filter(node: Any, known: Mapping[str, Filter], is_outermost: bool) -> str | None:
    noun = "filter" if known is FILTERS else "test"
    found = known.get(node.name)
    if found is None:
        there = ", ".join(sorted(known))
        return f"there is no {noun} {shown(node.name)}{meant(node.name, known)}; allowed: {there}"
    if node.name == "safe" and not is_outermost:
        return "safe is the last filter, and stands outside of brackets"
    given = len(node.args) + len(node.kwargs)
    if node.dyn_args or node.dyn_kwargs or not found.least <= given <= len(found.parameters):
        takes = ", ".join(found.parameters) or "nothing"
        return f"the {noun} {node.name} takes {takes}"
    named = {argument.key for argument in node.kwargs}
    if len(named) < len(node.kwargs) or not named <= set(found.parameters[len(node.args) :]):
        return f"the {noun} {node.name} takes {', '.join(found.parameters) or 'nothing'}"
    return None


class Evaluation:
    """One expression's value, from these names."""

    def __init__(self, names: Names, budget: Budget) -> None:
        """Look names up here, and pay from there."""
        self._names = names
        self._budget = budget

    def value(self, node: Any) -> Json:
        """Give the value of a node that was checked."""
        self._budget.spend(1)
        method: Callable[[Any], Json] = getattr(self, f"_{type(node).__name__.lower()}")
        return method(node)

    def _const(self, node: Any) -> Json:
        return node.value

    def _name(self, node: Any) -> Json:
        if node.name in NULLS and node.name not in self._names:
            return None
        return self._look_up(self._names, node.name, node)

    def _getattr(self, node: Any) -> Json:
        base = self.value(node.node)
        if not isinstance(base, Mapping):
            raise (Missing if base is None else BadExpression)(
                f"{told(node)}: {told(node.node)} is {kind_of(base)}, it has no keys"
            )
        return self._look_up(base, node.attr, node)

    def _getitem(self, node: Any) -> Json:
        base = self.value(node.node)
        if type(node.arg).__name__ == "Slice":
            return self._slice(base, node)
        key = self.value(node.arg)
        if isinstance(base, Mapping) and isinstance(key, str):
            return self._look_up(base, key, node)
        if (
            isinstance(base, list | tuple | str)
            and isinstance(key, int)
            and not isinstance(key, bool)
        ):
            if not -len(base) <= key < len(base):
                raise Missing(f"{told(node)}: there are only {len(base)}")
            return base[key]
        raise (Missing if base is None else BadExpression)(
            f"{told(node)}: the key is {kind_of(key)}, and this is {kind_of(base)}; lists and "
            "texts take numbers, mappings take texts"
        )

    def _slice(self, base: Json, node: Any) -> Json:
        if not isinstance(base, list | tuple | str):
            raise BadExpression(f"{told(node)}: {kind_of(base)} has no parts")
        bounds = [
            None if bound is None else self.value(bound)
            for bound in (node.arg.start, node.arg.stop, node.arg.step)
        ]
        if not all(bound is None or type(bound) is int for bound in bounds) or bounds[2] == 0:
            raise BadExpression(f"{told(node)}: parts go from one whole number to another")
        self._budget.spend(len(base))
        return base[slice(*bounds)]

    def _list(self, node: Any) -> Json:
        return [self.value(item) for item in node.items]

    _tuple = _list

    def _dict(self, node: Any) -> Json:
        made = {}
        for pair in node.items:
            key = self.value(pair.key)
            if not isinstance(key, str):
                raise BadExpression(f"a key of a mapping is a text, not {kind_of(key)}")
            made[key] = self.value(pair.value)
        return made

    def _add(self, node: Any) -> Json:
        left, right = self.value(node.left), self.value(node.right)
        if is_number(left) and is_number(right):
            return _bounded(left + right)
        if isinstance(left, str) and isinstance(right, str):
            self._budget.make(len(left) + len(right))
            return left + right
        if isinstance(left, list) and isinstance(right, list):
            self._budget.make(len(left) + len(right))
            return left + right
        raise BadExpression(f"{kind_of(left)} + {kind_of(right)} is nothing; ~ puts texts together")

    def _sub(self, node: Any) -> Json:
        left, right = self.value(node.left), self.value(node.right)
        if is_number(left) and is_number(right):
            return _bounded(left - right)
        raise BadExpression(
            f"{kind_of(left)} - {kind_of(right)} is nothing; a name with a - in it is written "
            "as in steps['my-step']"
        )

    def _neg(self, node: Any) -> Json:
        value = self._pos(node)
        return -value

    def _pos(self, node: Any) -> Json:
        value = self.value(node.node)
        if not is_number(value):
            raise BadExpression(f"{kind_of(value)} has no sign; numbers have")
        return value

    def _not(self, node: Any) -> Json:
        return not self.value(node.node)

    def _and(self, node: Any) -> Json:
        return self.value(node.left) and self.value(node.right)

    def _or(self, node: Any) -> Json:
        return self.value(node.left) or self.value(node.right)

    def _condexpr(self, node: Any) -> Json:
        if self.value(node.test):
            return self.value(node.expr1)
        return None if node.expr2 is None else self.value(node.expr2)

    def _concat(self, node: Any) -> Json:
        texts = [text_of(self.value(part), self._budget) for part in node.nodes]
        self._budget.make(sum(map(len, texts)))
        return "".join(texts)

    def _compare(self, node: Any) -> Json:
        left = self.value(node.expr)
        for operand in node.ops:
            right = self.value(operand.expr)
            if not self._holds(operand.op, left, right):
                return False
            left = right
        return True

    def _holds(self, op: str, left: Json, right: Json) -> bool:
        self._budget.look_at(left)
        self._budget.look_at(right)
        if op in {"in", "notin"}:
            if not isinstance(right, list | tuple | Mapping | str) or (
                isinstance(right, str | Mapping) and not isinstance(left, str)
            ):
                raise BadExpression(f"{kind_of(left)} cannot be in {kind_of(right)}")
            return (left in right) == (op == "in")
        if op not in {"eq", "ne"} and (left is None or right is None):
            return False  # as of a step that was left out
        both = (is_number(left) and is_number(right)) or (
            isinstance(left, str) and isinstance(right, str)
        )
        if op not in {"eq", "ne"} and not both:
            raise BadExpression(
                f"{kind_of(left)} and {kind_of(right)} are neither less nor more than one another"
            )
        return bool(_COMPARES[op](left, right))

    def _filter(self, node: Any) -> Json:
        if node.name == "default":
            return self._default(node)
        return self._filtered(node, FILTERS[node.name])

    def _default(self, node: Any) -> Json:
        given, named = self._arguments(node)
        otherwise = given[0] if given else named.get("value", "")
        empty_too = given[1] if len(given) > 1 else named.get("boolean", False)
        try:
            value = self.value(node.node)
        except Missing:
            return otherwise
        return otherwise if value is None or (empty_too and not value) else value

    def _test(self, node: Any) -> Json:
        if node.name in {"defined", "undefined"}:
            try:
                self.value(node.node)
            except Missing:
                return node.name == "undefined"
            return node.name == "defined"
        return self._filtered(node, TESTS[node.name])

    def _filtered(self, node: Any, found: Filter) -> Json:
        value = self.value(node.node)
        given, named = self._arguments(node)
        try:
            return found.apply(value, self._budget, *given, **named)
        except TooMuchWork:
            raise
        except BadExpression as error:
            raise BadExpression(f"{told(node.node)} | {node.name}: {error.message}") from None

    def _arguments(self, node: Any) -> tuple[list[Json], dict[str, Json]]:
        return (
            [self.value(argument) for argument in node.args],
            {argument.key: self.value(argument.value) for argument in node.kwargs},
        )

    def _look_up(self, base: Mapping[str, Json], key: str, node: Any) -> Json:
        try:
            return base[key]
        except KeyError:
            why = base.absent.get(key) if isinstance(base, StepView) else None
            raise Missing(f"{told(node)}: {why or _there_is(base, key)}") from None


def told(node: Any) -> str:
    """Give a short text of what a node names."""
    kind = type(node).__name__
    if kind == "Name":
        return shown(node.name)
    if kind == "Getattr":
        return f"{told(node.node)}.{shown(node.attr)}"
    if kind == "Getitem":
        return f"{told(node.node)}[{told(node.arg)}]"
    if kind == "Const":
        return shown(repr(node.value), 30)
    return "..."


def _there_is(base: Mapping[str, Json], key: str) -> str:
    """Tell a few of the keys; of many only the first are looked at, for nobody pays for it."""
    known = sorted(str(name) for name in islice(base, MOST_COMPARED))
    if not known:
        return "there is nothing yet"
    more = ", ..." if len(known) > 20 else ""
    return f"there is: {', '.join(map(shown, known[:20]))}{more}{meant(key, known)}"


def _bounded(number: float) -> float:
    if not -LARGEST < number < LARGEST:
        raise BadExpression("a number is too large")
    return number


def is_list(value: Json) -> bool:
    """Tell whether a value is a list."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
