"""Workflow files in Python, read into definitions from their text; nothing in them is executed."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import msgspec

from daemon.core.errors import BadRequest
from domains.workflow import arguments, durations
from domains.workflow.definition import Concurrency, Definition, Json
from domains.workflow.keys import ANY_NAME
from domains.workflow.library import Source
from domains.workflow.problems import BrokenWorkflow, Problems, meant, shown
from domains.workflow.python_types import dotted, schema_of
from domains.workflow.references import References, Scope
from domains.workflow.yaml_tree import Scalar

__all__ = ["BrokenWorkflow", "read"]

FILE_BYTES = 64 << 10
"""A workflow that is longer has its code in the project, and imports it."""

MAX_WORK = 15_000
"""Words and signs of a file. Python reads it in one go, and holds up all else meanwhile."""

_WORDS = re.compile(r"\w+|[^\w\s]")
_BRACE = 4
"""More signs that one brace counts for: in an f-string Python reads what follows by itself."""

IMPORT = "from domains.workflow import workflow"


class _Said(msgspec.Struct, forbid_unknown_fields=True):
    """What `@workflow` takes, as it may be said there."""

    name: str = ""
    description: str = ""
    phases: tuple[str, ...] = ()
    workspace: str = "stay"
    timeout: float | str | None = None
    concurrency: str | dict[str, Json] | None = None
    env: dict[str, str | int | bool] | None = None


_KNOWN = _Said.__struct_fields__
_WORKSPACES = ("stay", "branch", "worktree")


def read(source: Source) -> Definition:
    """Read a workflow file; BrokenWorkflow with all that is wrong in it.

    It takes up to a second for the worst file, so it is for a thread.
    """
    problems = Problems()
    definition = _read(source, problems)
    problems.raise_if_any(source.path)
    if definition is None:
        raise BrokenWorkflow(f"{source.path} has no workflow; {IMPORT}")
    return definition


def _read(source: Source, problems: Problems) -> Definition | None:
    text = _text(source.text, problems)
    tree = None if text is None else _tree(text, source.path, problems)
    if text is None or tree is None:
        return None
    function, decorator = _function(tree, problems)
    if function is None or decorator is None:
        return None
    said = _said(decorator, problems)
    args, required = _arguments(function, problems)
    known: dict[str, Any] = {}
    if said is not None:
        known = {
            "name": said.name or PurePath(source.path).stem,
            "description": said.description or (ast.get_docstring(function) or ""),
            "phases": said.phases,
            "workspace": said.workspace,
            "timeout": _timeout(said, decorator.lineno, problems),
            "concurrency": _concurrency(said, decorator.lineno, frozenset(args), problems),
            "env": {key: _variable(value) for key, value in (said.env or {}).items()},
        }
    if problems:
        return None
    return Definition(
        id=source.id,
        path=source.path,
        language="python",
        digest=hashlib.sha256(source.text).hexdigest(),
        args=args,
        required=required,
        source=text,
        **known,
    )


def _text(data: bytes, problems: Problems) -> str | None:
    if len(data) > FILE_BYTES:
        problems.add(
            1, f"the file has {len(data):,} bytes", [f"at most {FILE_BYTES:,}; import the rest"]
        )
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.add(data.count(b"\n", 0, error.start) + 1, "the file is not UTF-8", ["UTF-8"])
        return None
    work = len(_WORDS.findall(text)) + _BRACE * text.count("{")
    if work <= MAX_WORK:
        return text
    problems.add(
        1,
        "the Python cannot be read: it is too long, or it is nested too deeply, with "
        f"{work:,} words and signs (a brace is {_BRACE + 1})",
        [f"at most {MAX_WORK:,}; import the rest"],
    )
    return None


def _tree(text: str, path: str, problems: Problems) -> ast.Module | None:
    """Parse the text; what only the compiler refuses (a `return` outside) is found too."""
    try:
        tree = ast.parse(text, path)
        compile(tree, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        problems.add(error.lineno or 1, f"the Python is broken: {error.msg}")
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        why = str(error) or "it is nested too deeply"
        problems.add(1, f"the Python cannot be read: {why}")
    else:
        return tree
    return None


# The function


def _function(
    tree: ast.Module, problems: Problems
) -> tuple[ast.AsyncFunctionDef | None, ast.expr | None]:
    """Find the one that is decorated, and its decorator."""
    names = set(_names(tree))
    found = [
        (each, decorator)
        for each in tree.body
        if isinstance(each, ast.AsyncFunctionDef | ast.FunctionDef)
        for decorator in each.decorator_list
        if dotted(_callee(decorator)) in names
    ]
    if not found:
        problems.add(*_why_none(tree))
        return None, None
    for each, decorator in found[1:]:
        problems.add(decorator.lineno, f"{each.name} is a second workflow", ["one in each file"])
    function, decorator = found[0]
    if isinstance(function, ast.FunctionDef):
        problems.add(
            function.lineno, f"{function.name} is not async", [f"async def {function.name}(run)"]
        )
        return None, None
    return function, decorator


def _names(tree: ast.Module) -> Iterator[str]:
    """Give what `@workflow` is called in this file, as it has been imported."""
    package = "domains.workflow"
    for each in ast.walk(tree):
        if isinstance(each, ast.Import):
            for alias in each.names:
                if alias.name in {package, f"{package}.sdk"}:
                    yield f"{alias.asname or alias.name}.workflow"
        elif isinstance(each, ast.ImportFrom) and not each.level:
            for alias in each.names:
                name = alias.asname or alias.name
                if each.module in {package, f"{package}.sdk"} and alias.name == "workflow":
                    yield name
                elif each.module == "domains" and alias.name == "workflow":
                    yield f"{name}.workflow"


def _why_none(tree: ast.Module) -> tuple[int, str, list[str]]:
    """Say what there is in the place of a workflow."""
    for each in ast.walk(tree):
        if isinstance(each, ast.AsyncFunctionDef | ast.FunctionDef):
            for decorator in each.decorator_list:
                name = dotted(_callee(decorator)) or ""
                if name.rpartition(".")[2] == "workflow":
                    if each not in tree.body:
                        return each.lineno, f"{each.name} is not at the top of the file", []
                    return decorator.lineno, f"@{name} is not the one that is meant", [IMPORT]
    may = [f"{IMPORT}; @workflow(...) on an async def", "or _NAME.py for what others import"]
    return 1, "the file has no workflow", may


def _callee(decorator: ast.expr) -> ast.expr:
    return decorator.func if isinstance(decorator, ast.Call) else decorator


# What the decorator is given


def _said(decorator: ast.expr, problems: Problems) -> _Said | None:
    """Read the arguments of `@workflow(...)`."""
    if not isinstance(decorator, ast.Call):
        return _Said()
    given: dict[str, Json] = {}
    for value in decorator.args:
        problems.add(value.lineno, "the arguments of @workflow have names", _KNOWN)
    for keyword in decorator.keywords:
        name, line = keyword.arg, keyword.value.lineno
        if name not in _KNOWN:
            what = "**" if name is None else name
            problems.add(line, f"@workflow does not take {what}{meant(what, _KNOWN)}", _KNOWN)
            continue
        try:
            given[name] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            problems.add(
                line, f"{name} of @workflow is not written out", ["a literal: the file is not run"]
            )
            continue
        try:
            msgspec.convert({name: given[name]}, _Said)
        except msgspec.ValidationError as error:
            hint = "; put it in quotes" if "got `float`" in str(error) else ""
            problems.add(line, f"{name} of @workflow: {_lower(str(error))}{hint}")
    if problems:
        return None
    made = msgspec.convert(given, _Said)
    _check(made, decorator.lineno, problems)
    return made


def _check(said: _Said, line: int, problems: Problems) -> None:
    if len(said.name) > 200 or len(said.description) > 10_000:
        problems.add(line, "name or description is too long", ["200 and 10,000 characters"])
    if said.workspace not in _WORKSPACES:
        hint = meant(said.workspace, _WORKSPACES)
        problems.add(line, f"workspace is {shown(said.workspace)!r}{hint}", _WORKSPACES)
    if len(said.phases) > 50 or any(not 0 < len(each) <= 64 for each in said.phases):
        problems.add(line, "phases are too many or too long", ["50 of up to 64 characters"])
    if len(set(said.phases)) < len(said.phases):
        problems.add(line, "a phase is listed twice", ["each once"])
    for key, value in (said.env or {}).items():
        if not key or "=" in key or "\0" in f"{key}{value}":
            problems.add(line, f"env has no variable {shown(key)!r}", ["names without ="])


def _timeout(said: _Said, line: int, problems: Problems) -> float | None:
    if said.timeout is None:
        return None
    try:
        seconds = durations.parse(said.timeout)
    except BadRequest as error:
        problems.add(line, f"timeout: {error.message}")
        return None
    if not seconds:
        problems.add(line, "timeout is 0", ["more than that, or no timeout"])
    return seconds


def _concurrency(
    said: _Said, line: int, args: frozenset[str], problems: Problems
) -> Concurrency | None:
    if said.concurrency is None:
        return None
    given = {"key": said.concurrency} if isinstance(said.concurrency, str) else said.concurrency
    kebab = {key.replace("_", "-"): value for key, value in given.items()}
    try:
        made = msgspec.convert(kebab, Concurrency)
    except msgspec.ValidationError as error:
        problems.add(
            line, f"concurrency: {_lower(str(error))}", ["a key", "key, limit and on_conflict"]
        )
        return None
    if not 1 <= made.limit <= 1000:
        problems.add(line, f"limit of concurrency is {made.limit}", ["1 to 1000"])
    before_it_runs = Scope(roots=("args", "project"), args=args)
    References(problems, ()).templates(Scalar(line, made.key, made.key), before_it_runs)
    return made


def _variable(value: str | int) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


# The arguments of the run


def _arguments(
    function: ast.AsyncFunctionDef, problems: Problems
) -> tuple[dict[str, Json], tuple[str, ...]]:
    """Read the signature; gives the schemas of what stands behind `run`, and who is required."""
    given = function.args
    first = [*given.posonlyargs, *given.args][:1]
    may = [f"async def {function.name}(run, spec: str)"]
    if not first:
        problems.add(function.lineno, f"{function.name} does not take the run", may)
    for odd in (given.vararg, given.kwarg, *given.posonlyargs[1:]):
        if odd is not None:
            problems.add(odd.lineno, f"{odd.arg} cannot be given by name", may)
    plain = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(given.defaults))
    pairs = list(zip(plain, [*defaults, *given.defaults], strict=True))[1:]
    pairs += list(zip(given.kwonlyargs, given.kw_defaults, strict=True))
    if len(pairs) > arguments.MOST_ARGUMENTS:
        problems.add(
            function.lineno, "there are too many arguments", [f"{arguments.MOST_ARGUMENTS}"]
        )
        return {}, ()
    schemas: dict[str, Json] = {}
    required: list[str] = []
    for argument, default in pairs:
        name = argument.arg
        if not re.fullmatch(ANY_NAME, name):
            problems.add(argument.lineno, f"an argument cannot be called {shown(name)}", [ANY_NAME])
            continue
        schema = schemas[name] = schema_of(argument.annotation)
        if default is None:
            required.append(name)
        else:
            _default(name, schema, default, problems)
    return schemas, tuple(required)


def _default(name: str, schema: dict[str, Json], node: ast.expr, problems: Problems) -> None:
    """Note a default; None says just that it need not be given."""
    try:
        value = ast.literal_eval(node)
        msgspec.json.encode(value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, OverflowError):
        problems.add(node.lineno, f"the default of {name} is not written out", ["a literal"])
        return
    if value is None:
        return
    schema["default"] = msgspec.to_builtins(value)
    for _, reason, allowed in arguments.wrong_with(schema):
        problems.add(node.lineno, f"{name}: {reason}", allowed)
