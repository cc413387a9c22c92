"""Which names the templates of a step may use: what has been before it, and what it stands in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from domains.workflow.expressions import Expressions
from domains.workflow.problems import Problems, meant, shown
from domains.workflow.templates import BadExpression
from domains.workflow.yaml_tree import Node, Scalar, scalars

ROOTS = ("args", "steps", "run", "env", "project")

BROKEN = "broken"
"""Stands for the kind of a step that cannot be read: what names it is not wrong as well."""

MOST_LISTED = 20
MOST_HINTS = 100
"""Problems that are looked at for what was meant; of more nobody is told."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What can be named in one place. `steps` are ids with the kinds of their steps.

    `args` and `env` are None when they are broken, and so not known. `agents` are the steps whose
    conversation can go on here.
    """

    roots: tuple[str, ...] = ROOTS
    steps: Mapping[str, str] = field(default_factory=dict)
    agents: tuple[str, ...] = ()
    args: frozenset[str] | None = None
    env: frozenset[str] | None = None

    def after(self, steps: Mapping[str, str]) -> Scope:
        """Give the scope of what follows on these steps."""
        agents = tuple(step for step, kind in steps.items() if kind in {"agent", BROKEN})
        return replace(self, steps={**self.steps, **steps}, agents=self.agents + agents)

    def inside(self, *names: str, alone: bool = True) -> Scope:
        """Give the scope with more names; not `alone`, no earlier conversation goes on in it."""
        roots = tuple(dict.fromkeys((*self.roots, *names)))
        return replace(self, roots=roots, agents=self.agents if alone else ())


class References:
    """Checks the templates of one file, and takes down what is wrong with them."""

    def __init__(self, problems: Problems, ids: Iterable[str]) -> None:
        """Take down problems there; `ids` are those of all steps of the file."""
        self._problems = problems
        self._ids = frozenset(ids)
        self._expressions = Expressions()

    def templates(self, node: Node, scope: Scope) -> None:
        """Check all texts of a node as templates."""
        self._check(node, scope, self._expressions.check)

    def shell(self, node: Node, scope: Scope, *, foreign: bool) -> None:
        """Check a text for the shell; a `foreign` one has other quotes and no templates."""
        if foreign and any(self._expressions.has_holes(scalar.text) for scalar in scalars(node)):
            self._problems.add(
                node.line,
                "a template stands in a text that neither sh nor bash reads: nothing can quote it",
                ["hand it over in env: and read that there"],
            )
            return
        self._check(node, scope, self._expressions.check_shell)

    def expression(self, node: Node, scope: Scope) -> None:
        """Check a text that is one expression."""
        self._check(node, scope, self._expressions.check_condition, whole=True)

    def _check(
        self, node: Node, scope: Scope, check: Callable[[str], None], *, whole: bool = False
    ) -> None:
        for scalar in scalars(node):
            if not isinstance(scalar.value, str):
                continue
            try:
                check(scalar.text)
                named = self._expressions.references(scalar.text, whole=whole)
            except BadExpression as error:
                self._problems.add(_line(scalar, error.line), error.message)
                continue
            dashed = [one for one in named if self._dashed(one[0], scope)]
            for path, line in dashed[:1] or named:
                self._path(path, _line(scalar, line), scope)

    def _dashed(self, path: tuple[str, ...], scope: Scope) -> str | None:
        """Return the step or argument that was meant, if a path ends where its name has a dash."""
        names: Iterable[str] = scope.steps if path[0] == "steps" else scope.args or ()
        if path[0] not in {"steps", "args"} or len(path) != 2 or path[1] in names:
            return None
        return next((name for name in names if name.startswith(f"{path[1]}-")), None)

    def _path(self, path: tuple[str, ...], line: int, scope: Scope) -> None:
        root, key = path[0], path[1] if len(path) > 1 else None
        if root in scope.roots and (meant_name := self._dashed(path, scope)):
            self._problems.add(line, f"a name with a - in it is written {root}['{meant_name}']")
        elif root not in scope.roots:
            hint = meant(root, scope.roots)
            self._problems.add(line, f"there is no {shown(root)} here{hint}", scope.roots)
        elif key is None:
            return
        elif root == "steps" and key not in scope.steps:
            self._step(path, line, scope)
        elif root == "args" and scope.args is not None and key not in scope.args:
            self._unknown(f"args.{key}: there is no such argument", key, line, scope.args)
        elif root == "env" and scope.env is not None and key not in scope.env:
            self._unknown(f"env.{key}: the file's env has no such name", key, line, scope.env)

    def _step(self, path: tuple[str, ...], line: int, scope: Scope) -> None:
        key = path[1]
        if key in self._ids:
            reason = f"steps.{key}: {key} has not ended before this one"
            self._unknown(reason, "", line, scope.steps)
        else:
            self._unknown(f"steps.{shown(key)}: there is no such step", key, line, scope.steps)

    def _unknown(self, message: str, key: str, line: int, known: Iterable[str]) -> None:
        names = sorted(known)
        listed = names[:MOST_LISTED] + (["..."] if len(names) > MOST_LISTED else [])
        hint = meant(key, names) if len(self._problems) < MOST_HINTS else ""
        self._problems.add(line, f"{message}{hint}", listed or ["nothing yet"])


def _line(scalar: Scalar, offset: int) -> int:
    """Give the line of the file for one of a text; only behind `|` they go side by side."""
    return scalar.line + 1 + offset if scalar.block else scalar.line
