"""Workflow files in YAML, read into definitions; what is wrong in one is told all at once."""

from __future__ import annotations

import hashlib
from pathlib import PurePath
from typing import Any

from domains.workflow import arguments, foreign_keys
from domains.workflow.argument_schema import Argument
from domains.workflow.definition import Concurrency, Definition, Json, Step
from domains.workflow.keys import ARGUMENT_NAME, TOP
from domains.workflow.problems import BrokenWorkflow, Problems, shown
from domains.workflow.references import References, Scope
from domains.workflow.shapes import MapOf, Record
from domains.workflow.yaml_steps import StepReader, ids_of
from domains.workflow.yaml_tree import Mapping, Node, read

__all__ = ["BrokenWorkflow", "parse"]

_ARGUMENTS = MapOf(
    Argument(),
    most=arguments.MOST_ARGUMENTS,
    pattern=ARGUMENT_NAME,
    allowed="a name of letters, digits, _ and -",
)


def parse(text: bytes, *, id: str, path: str) -> Definition:  # noqa: A002  # as the field is called
    """Read a workflow file; BrokenWorkflow with all that is wrong in it.

    It takes up to a few seconds for a file of the largest size, so it is for a thread.
    """
    problems = Problems()
    root = read(text, problems)
    if root is not None:
        definition = _definition(root, problems, id=id, path=path, digest=_digest(text))
    problems.raise_if_any(path)
    return definition


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _definition(root: Node, problems: Problems, **file: str) -> Definition:
    made = Record(TOP, hints=foreign_keys.FILE).read(root, "the file", problems)
    entries = root.entries if isinstance(root, Mapping) else {}
    args, required = _arguments(entries.get("args"), problems)
    phases = tuple(made.get("phases", ()))
    scope = Scope(
        args=args if args is None else frozenset(args), env=frozenset(made.get("env", ()))
    )
    references = References(problems, ids_of(entries.get("steps")))
    if "concurrency" in entries:  # it is rendered before there is a run
        references.templates(
            entries["concurrency"], Scope(roots=("args", "project"), args=scope.args)
        )
    steps: tuple[Step, ...] = ()
    if "steps" in entries:
        steps = StepReader(problems, phases, references).read(entries["steps"], scope)
    concurrency = made.get("concurrency")
    return Definition(
        **file,
        name=made.get("name") or PurePath(file["path"]).stem,
        language="yaml",
        description=made.get("description", ""),
        args=args or {},
        required=required,
        phases=phases,
        workspace=made.get("workspace", "stay"),
        timeout=_seconds(made.get("timeout_minutes")),
        concurrency=None if concurrency is None else Concurrency(**concurrency),
        env=made.get("env", {}),
        steps=steps,
    )


def _seconds(minutes: float | None) -> float | None:
    return None if minutes is None else minutes * 60.0


def _arguments(
    node: Node | None, problems: Problems
) -> tuple[dict[str, Json] | None, tuple[str, ...]]:
    """Read the arguments; gives their schemas, None if broken, and which are required."""
    if node is None:
        return {}, ()
    if not isinstance(node, Mapping):
        return None, ()
    before = len(problems)
    found: dict[str, Any] = _ARGUMENTS.read(node, "args", problems)
    required = []
    for name, schema in found.items():
        needed = schema.get("required")
        if isinstance(needed, bool):
            del schema["required"]
        if needed is True and "default" in schema:
            line = node.lines[name]
            problems.add(line, f"{shown(name)} is required and has a default: it cannot be both")
        if needed is not False and "default" not in schema:
            required.append(name)
        keywords = node.entries[name]
        lines = keywords.lines if isinstance(keywords, Mapping) else {}
        for keyword, reason, allowed in arguments.wrong_with(schema):
            line = lines.get(keyword, node.lines[name])
            problems.add(line, f"{shown(name)} in args: {reason}", allowed)
    return (None if len(problems) > before else found), tuple(required)
