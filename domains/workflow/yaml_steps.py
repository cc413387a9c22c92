"""The steps of a YAML file, read in their order, so that each knows what comes before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from domains.workflow import foreign_keys
from domains.workflow.definition import Json, Retries, Step
from domains.workflow.keys import (
    COMMON,
    DEFAULT_ITEMS,
    KINDS,
    MAX_BLOCKS,
    MAX_PARALLEL,
    MAX_STEPS,
    RESERVED,
    is_foreign,
)
from domains.workflow.problems import Problems, meant, shown
from domains.workflow.references import BROKEN, References, Scope
from domains.workflow.shapes import noun, snake
from domains.workflow.yaml_tree import Mapping as MappingNode
from domains.workflow.yaml_tree import Node, Scalar, Sequence


def ids_of(node: Node | None) -> Iterator[str]:
    """Give all ids of steps in a list, those inside of others too, right or wrong."""
    for step in node.items if isinstance(node, Sequence) else ():
        if isinstance(step, MappingNode):
            named = step.entries.get("id")
            if isinstance(named, Scalar):
                yield named.text
            yield from ids_of(step.entries.get("steps"))


class StepReader:
    """Reads steps, and takes down what is wrong with them."""

    def __init__(self, problems: Problems, phases: tuple[str, ...], references: References) -> None:
        """Read steps of a file that has these phases."""
        self._problems = problems
        self._phases = phases
        self._references = references
        self._count = 0

    def read(self, node: Node, scope: Scope) -> tuple[Step, ...]:
        """Read the steps of the file."""
        return self._list(node, "steps", scope, set(), 0)[0]

    def _list(
        self,
        node: Node,
        at: str,
        scope: Scope,
        taken: set[str],
        depth: int,
        *,
        together: bool = False,
    ) -> tuple[tuple[Step, ...], dict[str, str]]:
        """Read a list of steps; gives them, and those that may be named behind it."""
        if not isinstance(node, Sequence) or not node.items:
            what = noun(node) if not isinstance(node, Sequence) else "empty"
            self._problems.add(node.line, f"{at} is {what}", ["a list with at least one step"])
            return (), {}
        steps: list[Step] = []
        ended: dict[str, str] = {}
        for item in node.items:
            self._count += 1
            if self._count > MAX_STEPS:
                if self._count == MAX_STEPS + 1:
                    self._problems.add(
                        item.line, "there are too many steps", [f"at most {MAX_STEPS}"]
                    )
                break
            visible = scope if together else scope.after(ended)
            step, left = self._step(item, visible, taken, depth)
            steps += [step] if step else []
            ended |= left
        return tuple(steps), ended

    def _step(
        self, node: Node, scope: Scope, taken: set[str], depth: int
    ) -> tuple[Step | None, dict[str, str]]:
        if not isinstance(node, MappingNode):
            self._problems.add(
                node.line, f"a step is {noun(node)}", ["a mapping with an id", *KINDS]
            )
            return None, {}
        at = _called(node)
        kind = self._kind(node, at)
        if kind is None:
            return None, {_text(node, "id"): BROKEN}
        self._keys(node, kind, at)
        common = self._common(node, at, taken)
        fields = self._fields(node, kind, at)
        common["on_interrupt"] = fields.pop("on_interrupt", "rerun")
        self._templates(node, kind, scope, fields)
        inner: tuple[Step, ...] = ()
        ended: dict[str, str] = {}
        if KINDS[kind].is_block and "steps" in node.entries:
            inner, ended = self._block(node, kind, at, fields, scope, taken, depth)
        if kind == "parallel":
            fields["parallel"] = fields["parallel"] or min(max(len(inner), 1), MAX_PARALLEL)
        ended = {**ended, common["id"]: kind}
        return Step(kind=kind, fields=fields, steps=inner, line=node.line, **common), ended

    def _kind(self, node: MappingNode, at: str) -> str | None:
        kinds = [kind for kind in KINDS if kind in node.entries]
        if len(kinds) == 1:
            return kinds[0]
        if kinds:
            line = node.lines[kinds[1]]
            self._problems.add(line, f"{at} is {' and '.join(kinds)}: a step is one of them")
            return None
        known = [*COMMON, *KINDS]
        odd, hint = _instead(key for key in node.entries if key not in known)
        line = node.line if odd is None else node.lines[odd]
        self._problems.add(line, f"{at} does not say what it does{hint}", KINDS)
        return None

    def _keys(self, node: MappingNode, kind: str, at: str) -> None:
        known = KINDS[kind].known(kind)
        for key, needed in known.items():
            if needed.required and key not in node.entries:
                self._problems.add(node.line, f"{key} is missing in {at}")
        for key in node.entries:
            if key in known:
                continue
            owners = [name for name, other in KINDS.items() if key in other.keys]
            hint = foreign_keys.STEP.get(key)
            belongs = f"; {hint}" if hint else meant(key, known)
            if owners:
                belongs = f"; it belongs to {', '.join(owners)}"
            elif key in COMMON:
                belongs = "; the steps inside may have it"
            self._problems.add(
                node.lines[key], f"{shown(key)!r} is no key of a step with {kind}{belongs}", known
            )

    def _common(self, node: MappingNode, at: str, taken: set[str]) -> dict[str, Any]:
        """Read what every step has, as the fields of Step."""
        read = {
            key: known.shape.read(node.entries[key], f"{key} of {at}", self._problems)
            for key, known in COMMON.items()
            if key in node.entries
        }
        made: dict[str, Any] = {"id": read.get("id", "")}
        if made["id"] in taken:
            self._problems.add(node.lines["id"], f"there is another step {made['id']!r} before")
        taken.add(made["id"])
        if "phase" in read and read["phase"] not in self._phases:
            hint = meant(read["phase"], self._phases)
            self._problems.add(
                node.lines["phase"],
                f"there is no phase {shown(read['phase'])!r}{hint}",
                self._phases or ["phases have to be listed at the top of the file"],
            )
        made |= {key: read[key] for key in ("name", "phase") if key in read}
        if "if" in read:
            made["condition"] = read["if"]
        if "timeout-minutes" in read:
            made["timeout"] = read["timeout-minutes"] * 60.0
        if "retries" in read:
            made["retries"] = Retries(**read["retries"])
        made["continue_on_error"] = read.get("continue-on-error", False)
        return made

    def _fields(self, node: MappingNode, kind: str, at: str) -> dict[str, Json]:
        """Read what only this kind has, with its defaults."""
        known = {kind: KINDS[kind].own, **KINDS[kind].keys}
        fields = {
            snake(key): one.shape.read(node.entries[key], f"{key} of {at}", self._problems)
            for key, one in known.items()
            if key in node.entries and key != "steps"
        }
        if kind == "for-each":
            fields = {"as": "item", "max_parallel": 1, "max_items": DEFAULT_ITEMS} | fields
            self._for_each(node, fields)
        elif kind == "approve":
            fields.setdefault("otherwise", "fail")
        elif kind == "wait-for":
            own = fields.pop("wait_for")
            fields |= {"wait_for": own.pop("event", ""), **own}
        elif kind == "annotation":
            fields["annotation"] = {"level": "info"} | fields["annotation"]
        elif kind == "artifact":
            self._path(node.entries["artifact"], fields["artifact"].get("path", ""), "artifact")
        if "cwd" in fields:
            self._path(node.entries["cwd"], fields["cwd"], "cwd")
        return fields

    def _for_each(self, node: MappingNode, fields: Mapping[str, Json]) -> None:
        if fields["as"] in RESERVED:
            self._problems.add(
                node.lines["as"],
                f"{fields['as']} is a name of its own",
                ["another name, such as file"],
            )
        items = fields["for_each"]
        if isinstance(items, list) and len(items) > fields["max_items"]:
            self._problems.add(
                node.lines["for-each"],
                f"the list has {len(items):,} items",
                [f"at most {fields['max_items']:,} (max-items)"],
            )

    def _path(self, node: Node, path: str, key: str) -> None:
        """Refuse a path that leads out of the project, as far as it is written out."""
        parts = PurePosixPath(path).parts
        if path.startswith("/") or ".." in parts or "\0" in path:
            self._problems.add(
                node.line, f"{key} {shown(path)!r} leads out of the project", ["a relative path"]
            )

    def _templates(
        self, node: MappingNode, kind: str, scope: Scope, fields: Mapping[str, Json]
    ) -> None:
        """Check what is rendered later."""
        if "if" in node.entries:
            self._references.expression(node.entries["if"], scope)
        for key, value in node.entries.items():
            if key == "run":
                self._references.shell(value, scope, foreign=is_foreign(fields.get("shell", "sh")))
            elif key == "for-each" and isinstance(value, Scalar):
                self._references.expression(value, scope)
            elif key == "wait-for" and isinstance(value, MappingNode):
                for name, part in value.entries.items():
                    if name == "match":
                        self._references.expression(part, scope.inside("event"))
                    else:
                        self._references.templates(part, scope)
            elif key not in COMMON and key != "steps":
                self._references.templates(value, scope)
        session = fields.get("session")
        if kind == "agent" and session and session not in scope.agents:
            hint = meant(session, scope.agents)
            self._problems.add(
                node.lines["session"],
                f"session {shown(session)!r} is no conversation that can go on here{hint}",
                scope.agents or ["none: there is no agent step before it"],
            )

    def _block(
        self,
        node: MappingNode,
        kind: str,
        at: str,
        fields: Mapping[str, Json],
        scope: Scope,
        taken: set[str],
        depth: int,
    ) -> tuple[tuple[Step, ...], dict[str, str]]:
        """Read what is inside of a block; gives it, and what of it may be named behind it."""
        steps = node.entries["steps"]
        at = f"steps of {at}"
        if depth >= MAX_BLOCKS:
            self._problems.add(
                node.line, f"{at} stand in too many others", [f"at most {MAX_BLOCKS} levels"]
            )
            return (), {}
        if kind == "parallel":
            inner, ended = self._list(steps, at, scope, taken, depth + 1, together=True)
            self._sessions(inner)
            return inner, ended
        inside = scope.inside(fields["as"], "index", alone=fields["max_parallel"] == 1)
        inner, _ = self._list(steps, at, inside, {*scope.steps, _text(node, "id")}, depth + 1)
        return inner, {}

    def _sessions(self, steps: tuple[Step, ...]) -> None:
        """Refuse that two steps speak in one conversation at once."""
        seen: set[str] = set()
        for step in _all(steps):
            session = step.fields.get("session")
            if session and session in seen:
                self._problems.add(
                    step.line, f"{step.id} speaks in session {session} at the same time as another"
                )
            seen.add(session or "")


def _all(steps: tuple[Step, ...]) -> Iterator[Step]:
    for step in steps:
        yield step
        yield from _all(step.steps)


def _instead(keys: Iterable[str]) -> tuple[str | None, str]:
    """Return the first key that may be meant for a kind of step, and which that would be."""
    for key in keys:
        theirs = foreign_keys.STEP.get(key)
        if hint := f"; {key}: {theirs}" if theirs else meant(key, KINDS):
            return key, hint
    return None, ""


def _called(node: MappingNode) -> str:
    """Give what a step is called in messages."""
    named = _text(node, "id")
    return f"step {shown(named)}" if named else "a step"


def _text(node: MappingNode, key: str) -> str:
    """Give the text behind a key, nothing when there is none."""
    value = node.entries.get(key)
    return value.text if isinstance(value, Scalar) else ""
