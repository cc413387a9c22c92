"""The keys of a workflow file: what each is for, and what may stand behind it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

from domains.workflow.definition import Json
from domains.workflow.problems import Problems
from domains.workflow.shapes import (
    Anything,
    Choice,
    Duration,
    Flag,
    Key,
    ListOf,
    MapOf,
    Number,
    Record,
    Schema,
    Shape,
    Text,
    data,
    noun,
)
from domains.workflow.yaml_tree import Mapping as MappingNode
from domains.workflow.yaml_tree import Node, Scalar, Sequence

MAX_STEPS = 500
"""In one file, those inside of others counted."""

MAX_BLOCKS = 4
"""How deep for-each and parallel stand in one another."""

MAX_PARALLEL = 64
MOST_WORDS = 50
"""Of a shell that is written out."""

MAX_ITEMS = 10_000
DEFAULT_ITEMS = 1000
YEAR = 527_040
"""In minutes."""

ID = Text(longest=64, pattern="[A-Za-z0-9_-]{1,64}", allowed="1 to 64 letters, digits, _ and -")
NAME = Text(longest=200)
WORD = Text(rendered=True, longest=200)
LONG = Text(rendered=True)
EXPRESSION = Text(rendered=True, longest=8192, scalars=True)
ARGUMENT = Text(longest=4096)
PATH = Text(rendered=True, longest=4096, allowed="a path in the project")


@dataclass(frozen=True, slots=True)
class Variables(MapOf):
    """Environment variables, whose values no shell reads."""

    def read(self, node: Node, at: str, problems: Problems) -> dict[str, Json]:
        """Return them by their names."""
        made = MapOf.read(self, node, at, problems)
        if isinstance(node, MappingNode) and _SHELLS_OWN.search(str(made.get("PATH", ""))):
            problems.add(
                node.lines["PATH"],
                f"PATH in {at} names a variable, and no shell reads env",
                ["set it in run: PATH=./bin:$PATH", "folders, written out"],
            )
        return made


_SHELLS_OWN = re.compile(r"\$[A-Za-z_{]")
VARIABLES = Variables(Text(rendered=True, scalars=True, empty=True), most=200)
MINUTES = Number(0.01, YEAR, whole=False)
ANY_NAME = "[A-Za-z_][A-Za-z0-9_]{0,63}"
ARGUMENT_NAME = "[A-Za-z_][A-Za-z0-9_-]{0,63}"

RESERVED = frozenset({"args", "steps", "run", "env", "project", "event", "index"})
"""Names that templates know, so that no item is called like one of them."""


@dataclass(frozen=True, slots=True)
class ListOrExpression:
    """An expression that gives a list, or the list itself."""

    def read(self, node: Node, at: str, problems: Problems) -> Json:
        """Give the text, or the list."""
        if isinstance(node, Sequence):
            return data(node, at, problems)
        if isinstance(node, MappingNode) or not isinstance(node.value, str):
            problems.add(
                node.line,
                f"{at} is {noun(node)}",
                ['"{{ an expression that gives a list }}"', "a list"],
            )
            return []
        return EXPRESSION.read(node, at, problems)

    def schema(self) -> Schema:
        """Give the JSON Schema of it."""
        return {"type": ["string", "array"]}


@dataclass(frozen=True, slots=True)
class Width:
    """How many run at once: true for all, or `{max: N}`; 0 once read is all."""

    def read(self, node: Node, at: str, problems: Problems) -> int:
        """Give the number, 0 for all."""
        if isinstance(node, Scalar):
            if node.value is not True:
                problems.add(node.line, f"{at} is {noun(node)}", ["true", "{max: N}"])
            return 0
        most = Key(Number(1, MAX_PARALLEL), "How many run at once.", required=True)
        return int(Record({"max": most}).read(node, at, problems).get("max", 0))

    def schema(self) -> Schema:
        """Give the JSON Schema of it."""
        most = Number(1, MAX_PARALLEL).schema()
        return {
            "anyOf": [
                {"const": True},
                {
                    "type": "object",
                    "properties": {"max": most},
                    "required": ["max"],
                    "additionalProperties": False,
                },
            ]
        }


SHELLS = ("sh", "bash")
"""Shells that are known by their names: sh ends at the first failure, bash in pipelines too."""

READS_LIKE_SH = frozenset({"sh", "bash", "dash", "ash"})
"""Programs whose text has the quoting rules that templates are quoted by."""

WRITTEN_OUT = "a program with its arguments, as in [bash, -euxo, pipefail, -c]; the text comes last"


def is_foreign(shell: str | list[str]) -> bool:
    """Return whether a shell reads text in which a quoted value may be something else."""
    return isinstance(shell, list) and PurePath(shell[0]).name not in READS_LIKE_SH


@dataclass(frozen=True, slots=True)
class Shell:
    """The shell that reads a command: one of a few by name, or a program with its arguments."""

    def read(self, node: Node, at: str, problems: Problems) -> str | list[str]:
        """Return the name, or the arguments."""
        if isinstance(node, Sequence):
            argv = [ARGUMENT.read(item, f"an item of {at}", problems) for item in node.items]
            if not 0 < len(argv) <= MOST_WORDS:
                problems.add(node.line, f"{at} has {len(argv)} items", [WRITTEN_OUT])
            elif why := wrong_argv(argv):
                problems.add(node.line, f"{at} {why}", [WRITTEN_OUT])
            else:
                return argv
            return "sh"
        if isinstance(node, Scalar) and node.text in SHELLS:
            return node.text
        problems.add(node.line, f"{at} is {noun(node)}", [*SHELLS, WRITTEN_OUT])
        return "sh"

    def schema(self) -> Schema:
        """Return the JSON Schema of it."""
        item = {"type": "string", "minLength": 1}
        argv: Schema = {"type": "array", "items": item, "minItems": 1, "maxItems": MOST_WORDS}
        return {"anyOf": [{"enum": list(SHELLS)}, argv]}


def wrong_argv(argv: list[str]) -> str | None:
    """Return why a program with its arguments cannot be given a text as the last one."""
    if any("{0}" in word for word in argv):
        return "has {0} in it, which is not known here"
    if PurePath(argv[0]).name in READS_LIKE_SH and not any(map(_takes_text, argv[1:])):
        return "has no -c, so the text would be taken for the name of a file"
    return None


def _takes_text(word: str) -> bool:
    return word.startswith("-") and not word.startswith("--") and "c" in word


RETRIES = Record(
    {
        "max": Key(Number(0, 100), "How often it is tried again.", required=True),
        "backoff": Key(Duration(), "How long to wait before the first time; doubles each time."),
        "max-backoff": Key(Duration(), "The longest wait."),
        "jitter": Key(Number(0, 1, whole=False), "The part of a wait that is left to chance."),
    },
    short="max",
)

CONCURRENCY = Record(
    {
        "key": Key(WORD, "Runs with one key are counted together; the workflow itself without."),
        "limit": Key(Number(1, 1000), "How many of them are under way at once."),
        "on-conflict": Key(
            Choice(("queue", "replace", "reject")), "What becomes of one more than that."
        ),
    },
    short="key",
)

TOP: Mapping[str, Key] = {
    "name": Key(NAME, "What people call it; the file's name without."),
    "description": Key(Text(free=True, longest=10_000), "What it is for."),
    "args": Key(Anything(mapping=True, loose=True), "Its arguments: a JSON Schema by name."),
    "phases": Key(ListOf(Text(longest=64), most=50, unique=True), "The phases, in their order."),
    "workspace": Key(
        Choice(("stay", "branch", "worktree")),
        "Where it works: in the project's folder, on a branch, or in a work tree of its own.",
    ),
    "timeout-minutes": Key(MINUTES, "How long a run may take."),
    "concurrency": Key(CONCURRENCY, "How many runs may be under way at once."),
    "env": Key(Variables(Text(scalars=True, empty=True), most=200), "Variables for all its steps."),
    "steps": Key(Anything(loose=True), "What is done, one after another.", required=True),
}

COMMON: Mapping[str, Key] = {
    "id": Key(ID, "What templates call it: steps.ID.", required=True),
    "name": Key(NAME, "What people call it."),
    "phase": Key(Text(longest=64), "The phase that it is part of."),
    "if": Key(EXPRESSION, "Without this being true, the step is skipped."),
    "timeout-minutes": Key(MINUTES, "How long it may take, each time that it is tried."),
    "retries": Key(RETRIES, "How often it is tried again when it has failed."),
    "continue-on-error": Key(Flag(), "Whether the run goes on when it has failed."),
}

_PLACE: Mapping[str, Key] = {
    "env": Key(VARIABLES, "Variables for it."),
    "cwd": Key(PATH, "The folder that it runs in, relative to the project's."),
}

_INTERRUPT: Mapping[str, Key] = {
    "on-interrupt": Key(
        Choice(("rerun", "fail", "ask")),
        "What becomes of it when the daemon ended while it was under way: it runs again (rerun, "
        "as without), fails, or somebody is asked.",
    ),
}

_STEPS = Key(Anything(loose=True), "What is done inside of it.", required=True)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of step: what stands behind its own key, and which keys go with it."""

    own: Key
    keys: Mapping[str, Key] = field(default_factory=dict)

    def known(self, kind: str) -> dict[str, Key]:
        """Give all that such a step may have; trying again is for those inside of a block."""
        left = {"retries"} if self.is_block else frozenset()
        common = {key: one for key, one in COMMON.items() if key not in left}
        return {**common, kind: self.own, **self.keys}

    @property
    def is_block(self) -> bool:
        """Tell whether it has steps inside."""
        return "steps" in self.keys


def _shape(shape: Shape, text: str) -> Key:
    return Key(shape, text, required=True)


KINDS: Mapping[str, Kind] = {
    "agent": Kind(
        _shape(WORD, "The agent that is asked, such as claude."),
        {
            "prompt": Key(LONG, "What it is to do.", required=True),
            "session": Key(ID, "The id of an earlier agent step, whose conversation goes on."),
            "model": Key(WORD, "The model that it uses."),
            "permission-mode": Key(WORD, "What it may do without asking."),
            "allowed-tools": Key(ListOf(WORD, most=200), "The tools that it may use."),
            "system-prompt": Key(LONG, "What it is told beforehand."),
            "budget-usd": Key(Number(0.0001, 100_000, whole=False), "What it may cost."),
            **_PLACE,
            **_INTERRUPT,
        },
    ),
    "run": Kind(
        _shape(LONG, "Commands for a shell; what templates give is quoted."),
        {
            "shell": Key(
                Shell(),
                "What reads them: sh (sh -e -c, as without), bash (bash -eo pipefail -c), or "
                "a program with its arguments, whose last one they become.",
            ),
            **_PLACE,
            **_INTERRUPT,
        },
    ),
    "git": Kind(
        _shape(
            Record(
                {
                    "operation": Key(
                        Text(pattern="[a-z][a-z_]{1,49}", allowed="a word such as commit or push"),
                        "The operation: a command of git, such as commit.",
                        required=True,
                    )
                },
                short="operation",
                open=True,
            ),
            "An operation of git, and what it takes.",
        ),
        _INTERRUPT,
    ),
    "approve": Kind(
        _shape(LONG, "The question that somebody answers before the run goes on."),
        {
            "otherwise": Key(
                Choice(("fail", "approve", "reject")), "What it means when nobody does in time."
            )
        },
    ),
    "wait-for": Kind(
        _shape(
            Record(
                {
                    "event": Key(WORD, "The name of the event.", required=True),
                    "match": Key(EXPRESSION, "An expression over event; only such a one counts."),
                },
                short="event",
            ),
            "An event from outside.",
        )
    ),
    "sleep": Kind(_shape(Duration(rendered=True), "How long to wait.")),
    "for-each": Kind(
        _shape(ListOrExpression(), "The list whose items are gone through."),
        {
            "steps": _STEPS,
            "as": Key(
                Text(longest=64, pattern=ANY_NAME, allowed="a name of letters, digits and _"),
                "What templates call the item; item without.",
            ),
            "max-parallel": Key(Number(1, MAX_PARALLEL), "How many items at once; 1 without."),
            "max-items": Key(
                Number(1, MAX_ITEMS), f"How many the list may have; {DEFAULT_ITEMS} without."
            ),
        },
    ),
    "parallel": Kind(
        _shape(Width(), "All steps inside at once, or max of them."), {"steps": _STEPS}
    ),
    "workflow": Kind(
        _shape(WORD, "The id of another workflow, which is run."),
        {"args": Key(Anything(mapping=True), "Its arguments.")},
    ),
    "artifact": Kind(
        _shape(
            Record(
                {
                    "path": Key(PATH, "The file.", required=True),
                    "name": Key(WORD, "What it is called; as the file without."),
                },
                short="path",
            ),
            "A file that is kept with the run.",
        ),
        _INTERRUPT,
    ),
    "annotation": Kind(
        _shape(
            Record(
                {
                    "message": Key(LONG, "What is said.", required=True),
                    "level": Key(Choice(("info", "warning", "error")), "How grave it is."),
                },
                short="message",
            ),
            "A remark in the run's timeline.",
        )
    ),
}
