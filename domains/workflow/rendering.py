"""The fields of a step as they are when it runs: each rendered in the way that is safe for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import TypeVar

from daemon.core.errors import BadRequest
from domains.workflow import durations
from domains.workflow.definition import Json, Step
from domains.workflow.evaluation import Names
from domains.workflow.expressions import Expressions
from domains.workflow.filters import TooMuchWork
from domains.workflow.problems import shown
from domains.workflow.quoting import MAX_SHELL_BYTES
from domains.workflow.templates import BadExpression

MAX_VARIABLES = 200_000
"""In bytes: what the variables of one step may have together."""


INLINE_WORK = 1 << 17
INLINE_TEXT = 4096
"""What is rendered on the loop at most, in a few milliseconds; all else in a thread."""

ON_LOOP = Expressions(INLINE_WORK)
IN_THREAD = Expressions()

Made = TypeVar("Made")


async def away(
    texts: Json, names: dict[str, Json], make: Callable[[Expressions, Names], Made]
) -> Made:
    """Render texts: at once where that is quick, else in a thread, with names as they are now."""
    if sum(_sizes(texts)) <= INLINE_TEXT:
        try:
            return make(ON_LOOP, names)
        except TooMuchWork:
            pass
    steps = names.get("steps")
    kept = names if steps is None else {**names, "steps": dict(steps)}
    return await asyncio.to_thread(make, IN_THREAD, kept)


def _sizes(value: Json) -> Iterator[int]:
    if isinstance(value, str):
        yield len(value)
    elif isinstance(value, dict | list):
        yield 16 * len(value)
        for one in value.values() if isinstance(value, dict) else value:
            yield from _sizes(one)


def rendered(step: Step, names: Names, expressions: Expressions = IN_THREAD) -> dict[str, Json]:
    """Give a step's fields, rendered; BadRequest with the field that cannot be, and why.

    `run` is text for a shell, `shell` stays as it is, `for_each` is the list of items, `sleep`
    seconds, `match` is left for `Expressions.condition`. The arguments of git and of a workflow
    keep their types, all else is text.
    """
    made = {}
    for name, value in step.fields.items():
        try:
            made[name] = _BY_NAME.get(name, _text)(value, names, step, expressions)
        except TooMuchWork:
            raise
        except BadRequest as error:
            raise BadExpression(f"{step.id}: {name}: {error.message}") from None
    return made


def variables(
    env: Mapping[str, str], names: Names, expressions: Expressions = IN_THREAD
) -> dict[str, str]:
    """Give environment variables, rendered."""
    made = {name: expressions.text(value, names) for name, value in env.items()}
    if any("\0" in value for value in made.values()):
        raise BadExpression("a variable holds a NUL character; no program takes that")
    try:
        sizes = {name: len(value.encode()) for name, value in made.items()}
    except UnicodeEncodeError:
        raise BadExpression("a variable holds half a character") from None
    size = sum(map(len, sizes)) + sum(sizes.values())
    if size > MAX_VARIABLES:
        raise BadExpression(f"the variables have {size:,} bytes; allowed: {MAX_VARIABLES:,} in all")
    for name, size in sizes.items():
        if len(name) + 1 + size > MAX_SHELL_BYTES:
            raise BadExpression(
                f"{name} has {size:,} bytes, and no program takes more than {MAX_SHELL_BYTES:,} in "
                "one variable: have an earlier step write it to a file"
            )
    return made


def _text(value: Json, names: Names, step: Step, expressions: Expressions) -> Json:
    """Render texts to texts, wherever they stand in it."""
    if isinstance(value, str):
        return expressions.text(value, names)
    if isinstance(value, dict):
        return {key: _text(one, names, step, expressions) for key, one in value.items()}
    if isinstance(value, list):
        return [_text(one, names, step, expressions) for one in value]
    return value


def _data(value: Json, names: Names, _: Step, expressions: Expressions) -> Json:
    return expressions.render(value, names)


def _shell(value: Json, names: Names, _: Step, expressions: Expressions) -> Json:
    return expressions.shell(value, names)


def _items(value: Json, names: Names, step: Step, expressions: Expressions) -> Json:
    return expressions.items(value, names, step.fields.get("max_items", 1000))


def _seconds(value: Json, names: Names, _: Step, expressions: Expressions) -> Json:
    return durations.parse(expressions.render(value, names))


def _variables(value: Json, names: Names, _: Step, expressions: Expressions) -> Json:
    return variables(value, names, expressions)


def _later(value: Json, _: Names, __: Step, ___: Expressions) -> Json:
    return value


def _place(value: Json, names: Names, _: Step, expressions: Expressions) -> Json:
    """Render a path, and refuse one that leads out of the project; links are not followed here."""
    path = expressions.text(value, names)
    if not path or path.startswith("/") or ".." in PurePosixPath(path).parts or "\0" in path:
        raise BadExpression(f"{shown(path)!r} leads out of the project; allowed: a relative path")
    return path


def _artifact(value: Json, names: Names, step: Step, expressions: Expressions) -> Json:
    path = _place(value["path"], names, step, expressions)
    return _text(value, names, step, expressions) | {"path": path}


_BY_NAME: Mapping[str, Callable[[Json, Names, Step, Expressions], Json]] = {
    "run": _shell,
    "shell": _later,
    "git": _data,
    "args": _data,
    "for_each": _items,
    "sleep": _seconds,
    "match": _later,
    "env": _variables,
    "cwd": _place,
    "artifact": _artifact,
}
